//! A service on a pool server that says who it is and whom it sees: for tests that ask where packets go.
//!
//! Over TCP it takes everything until the client has finished and answers with one line; over UDP it answers each
//! datagram with one, and the datagram after it. Real sockets in the server's namespace; threads of the test serve them.
//! Invariant: dropping a witness ends its threads, so that a server's sockets don't outlive its namespace.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::lab::Namespace;

/// Port of every witness.
pub const PORT: u16 = 7000;

/// A witness on one server.
#[derive(Debug)]
pub struct Witness {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What a witness said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Testimony {
    /// Number of the server.
    pub server: u8,
    /// The client as it sees it.
    pub peer: SocketAddr,
    /// Bytes that arrived.
    pub bytes: usize,
    /// A sum over them.
    pub sum: u64,
}

impl Witness {
    /// Listens on `addresses` of server `number`. On each by itself, because a datagram must be answered from the
    /// address that it was sent to.
    pub fn start(number: u8, addresses: &[IpAddr]) -> Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let mut witness = Self {
            ended,
            threads: Vec::new(),
        };
        for address in addresses {
            let address = SocketAddr::new(*address, PORT);
            witness.listen(&Namespace::pool(number), number, address)?;
        }
        Ok(witness)
    }

    /// Listens on the edge host itself, where packets end up that `lb` leaves to the stack.
    pub fn on_edge(number: u8, address: SocketAddr) -> Result<Self> {
        let mut witness = Self {
            ended: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
        };
        witness.listen(&Namespace::edge(), number, address)?;
        Ok(witness)
    }

    fn listen(&mut self, place: &Namespace, number: u8, address: SocketAddr) -> Result<()> {
        let sockets = place.run(|| listen(address))?;
        let (tcp, udp) = sockets.with_context(|| format!("listening on {address}"))?;
        let end = Arc::clone(&self.ended);
        let threads = &mut self.threads;
        threads.push(thread::spawn(move || accept(&tcp, number, &end)));
        let end = Arc::clone(&self.ended);
        threads.push(thread::spawn(move || reply(&udp, number, &end)));
        Ok(())
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Sends `data` over TCP from the client's namespace and hears the witness.
pub fn ask(service: SocketAddr, data: &[u8]) -> Result<Testimony> {
    let mut stream = connect(service)?;
    // While it is read what was sent, for the answer comes after all of it.
    stream.write_all(data).context("sending")?;
    finish(stream)
}

/// Opens a connection from the client's namespace.
pub fn connect(service: SocketAddr) -> Result<TcpStream> {
    let stream = Namespace::client()
        .run(|| TcpStream::connect_timeout(&service, PATIENCE))?
        .with_context(|| format!("connecting to {service}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Says that all is sent and hears the witness.
pub fn finish(mut stream: TcpStream) -> Result<Testimony> {
    stream.shutdown(Shutdown::Write)?;
    let mut line = String::new();
    stream
        .read_to_string(&mut line)
        .context("reading the answer")?;
    parse(&line)
}

/// Sends `data` as one datagram and hears the witness; tries again, for datagrams may be lost.
pub fn ask_datagram(socket: &UdpSocket, service: SocketAddr, data: &[u8]) -> Result<Testimony> {
    let mut answer = vec![0; 65536];
    for _ in 0..ATTEMPTS {
        socket.send_to(data, service)?;
        match socket.recv_from(&mut answer) {
            Ok((length, from)) => {
                ensure!(from == service, "answered by {from}, not {service}");
                let answer = &answer[..length];
                let end = answer.iter().position(|byte| *byte == b'\n');
                let (line, echo) = answer.split_at(end.context("no line")? + 1);
                ensure!(echo == data, "the datagram came back changed");
                return parse(std::str::from_utf8(line)?);
            }
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error).context("waiting for an answer"),
        }
    }
    anyhow::bail!("no answer from {service} to {ATTEMPTS} datagrams")
}

/// A socket in the client's namespace.
pub fn datagram_socket(service: SocketAddr) -> Result<UdpSocket> {
    let any = match service {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = Namespace::client().run(|| UdpSocket::bind((any, 0)))??;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(socket)
}

/// The sum that a witness takes.
pub fn sum(data: &[u8]) -> u64 {
    data.iter().fold(0, |sum: u64, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
    })
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, UdpSocket)> {
    use socket2::{Domain, Socket, Type};
    let socket = |kind| {
        let socket = Socket::new(Domain::for_address(address), kind, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        io::Result::Ok(socket)
    };
    let tcp = socket(Type::STREAM)?;
    tcp.listen(128)?;
    tcp.set_nonblocking(true)?;
    let udp: UdpSocket = socket(Type::DGRAM)?.into();
    udp.set_read_timeout(Some(PAUSE))?;
    Ok((tcp.into(), udp))
}

fn accept(listener: &TcpListener, number: u8, ended: &AtomicBool) {
    thread::scope(|scope| {
        while !ended.load(Relaxed) {
            match listener.accept() {
                Ok((stream, peer)) => {
                    scope.spawn(move || {
                        // The client sees a connection that ends without an answer.
                        let _ = testify(stream, peer, number, ended);
                    });
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    });
}

fn testify(
    mut stream: TcpStream,
    peer: SocketAddr,
    number: u8,
    ended: &AtomicBool,
) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PAUSE))?;
    let mut data = Vec::new();
    let mut buffer = vec![0; 65536];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => data.extend(&buffer[..length]),
            Err(error) if is_timeout(&error) && !ended.load(Relaxed) => {}
            Err(error) => return Err(error),
        }
    }
    stream.write_all(line(number, peer, &data).as_bytes())
}

fn reply(socket: &UdpSocket, number: u8, ended: &AtomicBool) {
    let mut buffer = vec![0; 65536];
    while !ended.load(Relaxed) {
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let data = &buffer[..length];
            let mut answer = line(number, peer, data).into_bytes();
            answer.extend(data);
            let _ = socket.send_to(&answer, peer);
        }
    }
}

fn line(number: u8, peer: SocketAddr, data: &[u8]) -> String {
    format!("{number} {peer} {} {}\n", data.len(), sum(data))
}

fn parse(line: &str) -> Result<Testimony> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [server, peer, bytes, sum] = words[..] else {
        anyhow::bail!("{line:?} is no testimony");
    };
    Ok(Testimony {
        server: server.parse()?,
        peer: peer.parse()?,
        bytes: bytes.parse()?,
        sum: sum.parse()?,
    })
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// For what takes milliseconds unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);
const ATTEMPTS: u32 = 10;
