//! Connections that no daemon can give away, and both of their ends: tunnels, relayed ones and a stream of HTTP/2; and beside them
//! kept ones between two requests, which it can. In both families.
//!
//! Invariant: no client opens anything again, and each byte is compared. Not here: what becomes of the daemons (`fates`).

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, client::SendRequest};
use http::Request;
use lb_tests::{
    address::{VIP_HTTP, ipv6, server},
    certs,
    client::tls,
    lab::Namespace,
    witness,
    world::World,
};
use rustls_pki_types::ServerName;
use tokio::{runtime::Runtime, task::LocalSet};
use tokio_rustls::TlsConnector;

const HTTP: u16 = 80;
const RELAY: u16 = 7500;
const HTTPS: u16 = 443;

/// Ports of the server: one speaks HTTP, the other repeats what it hears.
const SPEAKS: u16 = 7090;
const REPEATS: u16 = 7091;

/// Half of the long answer.
const HALF: usize = 100_000;

/// What a relayed server says when its client has said all.
const LAST_WORD: &[u8] = b"bye";

fn front(port: u16) -> [SocketAddr; 2] {
    [
        SocketAddrV4::new(VIP_HTTP, port).into(),
        (ipv6(VIP_HTTP), port).into(),
    ]
}

/// Every kind of service in both families. `first` are lines before them.
pub(super) fn configuration(world: &World, transport: &str, first: &str) -> String {
    let files = world.certs();
    let secure = format!(
        "tls = {{ certificate = \"{}\", key = \"{}\", http2 = true }}\n",
        files.certificate.display(),
        files.key.display()
    );
    let services = [
        (HTTP, SPEAKS, "http", "upgrade = [\"websocket\"]\n"),
        (RELAY, REPEATS, "tcp", ""),
        (HTTPS, SPEAKS, "http", &secure),
    ];
    let mut text = first.to_owned();
    for (port, behind, mode, more) in services {
        for listen in front(port) {
            let family = if listen.is_ipv4() { 4 } else { 6 };
            let service = format!(
                "[[service]]\nname = \"v{family}-{port}\"\nlisten = \"{listen}\"\nmode = \"{mode}\"\n\
                 transport = \"{transport}\"\nservers = [\"{}:{behind}\"]\nhealth = {{ kind = \"none\" }}\n{more}\n",
                server(1)
            );
            text.push_str(&service);
        }
    }
    text
}

/// The server of all of them. Its threads end with their connections, or the test.
pub(super) struct Far {
    /// The rest of the long answer may come.
    released: Arc<AtomicBool>,
}

impl Far {
    pub(super) fn start() -> Self {
        let released = Arc::new(AtomicBool::new(false));
        for port in [SPEAKS, REPEATS] {
            let address = SocketAddr::from((server(1), port));
            let listener = Namespace::pool(1).run(|| TcpListener::bind(address));
            let listener = listener.unwrap().unwrap();
            let released = Arc::clone(&released);
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let released = Arc::clone(&released);
                    // A connection that breaks is for the client to notice.
                    thread::spawn(move || match port {
                        REPEATS => repeat(&stream, LAST_WORD),
                        _ => speak(&stream, &released),
                    });
                }
            });
        }
        Self { released }
    }

    pub(super) fn release(&self) {
        self.released.store(true, Relaxed);
    }
}

/// Repeats what it hears, to the end.
fn repeat(mut stream: &TcpStream, last_word: &[u8]) -> Option<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).ok()? {
            0 => break,
            length => stream.write_all(&buffer[..length]).ok()?,
        }
    }
    stream.write_all(last_word).ok()
}

/// Answers requests without bodies; after one for a tunnel the connection is one.
fn speak(mut stream: &TcpStream, released: &AtomicBool) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            request.push_str(&line);
        }
        match request.split(' ').nth(1)? {
            "/tunnel" => {
                let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
                stream.write_all(head.as_bytes()).ok()?;
                return repeat(stream, b"");
            }
            "/long" => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 2 * HALF);
                stream.write_all(head.as_bytes()).ok()?;
                stream.write_all(&long()[..HALF]).ok()?;
                while !released.load(Relaxed) {
                    thread::sleep(PAUSE);
                }
                stream.write_all(&long()[HALF..]).ok()?;
            }
            _ => stream.write_all(PAGE.as_bytes()).ok()?,
        }
    }
}

const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
const PAUSE: Duration = Duration::from_millis(10);
/// Only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// The long answer.
fn long() -> Vec<u8> {
    (0..251).cycle().take(2 * HALF).collect()
}

/// Every client, each with its connection.
pub(super) struct Clients {
    tunnels: Vec<TcpStream>,
    relayed: Vec<TcpStream>,
    kept: Vec<TcpStream>,
    streams: Streams,
}

impl Clients {
    /// Opens all connections, and uses each once.
    pub(super) fn open(world: &World) -> Self {
        let open = |port| front(port).map(|address| witness::connect(address).unwrap());
        let mut tunnels = Vec::from(open(HTTP));
        for tunnel in &mut tunnels {
            let ask = "GET /tunnel HTTP/1.1\r\nHost: lab\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            tunnel.write_all(ask.as_bytes()).unwrap();
            assert!(head(tunnel).starts_with("HTTP/1.1 101 "));
        }
        let mut clients = Self {
            tunnels,
            relayed: open(RELAY).into(),
            kept: open(HTTP).into(),
            streams: Streams::open(world),
        };
        clients.go_on();
        clients.ask_again();
        clients
    }

    /// How many connections there are.
    pub(super) fn count(&self) -> usize {
        self.tunnels.len() + self.relayed.len() + self.kept.len() + 1
    }

    /// Through tunnels and relays comes what goes in.
    pub(super) fn go_on(&mut self) {
        for stream in self.tunnels.iter_mut().chain(&mut self.relayed) {
            let said: Vec<u8> = (0_u8..=250).cycle().take(3000).collect();
            stream.write_all(&said).unwrap();
            let mut heard = vec![0; said.len()];
            stream.read_exact(&mut heard).unwrap();
            assert!(heard == said, "{:?}", stream.peer_addr());
        }
    }

    /// Another request on each kept connection.
    pub(super) fn ask_again(&mut self) {
        for stream in &mut self.kept {
            ask(stream);
        }
    }

    /// The server of HTTP/2 says that it takes no more streams, while one is under way.
    pub(super) fn are_told_to_go(&mut self) {
        self.streams.are_told_to_go();
    }

    /// The stream that was under way has its end.
    pub(super) fn get_the_rest(&mut self) {
        self.streams.get_the_rest();
    }

    /// Says goodbye on tunnels and relays, and hears the last word.
    pub(super) fn leave(&mut self) {
        for (streams, last_word) in [
            (&mut self.tunnels, &b""[..]),
            (&mut self.relayed, LAST_WORD),
        ] {
            for mut stream in streams.drain(..) {
                stream.shutdown(Shutdown::Write).unwrap();
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).unwrap();
                assert_eq!(rest, last_word, "{:?}", stream.peer_addr());
            }
        }
    }

    /// Tunnels, relays and streams have been cut off.
    pub(super) fn are_cut_off(&mut self) {
        for mut stream in self.tunnels.drain(..).chain(self.relayed.drain(..)) {
            // FIN or RST.
            let read = stream.read(&mut [0]).map_err(|error| error.kind());
            assert!(
                matches!(read, Ok(0) | Err(std::io::ErrorKind::ConnectionReset)),
                "{read:?}"
            );
        }
        self.streams.is_cut_off();
    }
}

/// Clients that come anew are served, in both families.
pub(super) fn newcomers_are_served() {
    for address in front(HTTP) {
        ask(&mut witness::connect(address).unwrap());
    }
}

fn ask(stream: &mut TcpStream) {
    stream
        .write_all(b"GET /page HTTP/1.1\r\nHost: lab\r\n\r\n")
        .unwrap();
    let head = head(stream);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut body = [0; 4];
    stream.read_exact(&mut body).unwrap();
    assert_eq!(&body, b"fine");
}

/// Byte by byte: what comes after it belongs to somebody else.
fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A connection of HTTP/2 with a response under way.
struct Streams {
    runtime: Runtime,
    tasks: LocalSet,
    requests: SendRequest<Bytes>,
    body: RecvStream,
    got: Vec<u8>,
}

impl Streams {
    /// Reads the first half of the long answer.
    fn open(world: &World) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let (runtime, tasks) = (runtime.unwrap(), LocalSet::new());
        let tcp = witness::connect(front(HTTPS)[0]).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let mut config = rustls::ClientConfig::clone(&tls(world.certs()).unwrap());
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (requests, body) = tasks.block_on(&runtime, async {
            let tcp = tokio::net::TcpStream::from_std(tcp).unwrap();
            let name = ServerName::try_from(certs::NAME).unwrap();
            let connector = TlsConnector::from(Arc::new(config));
            let tls = connector.connect(name, tcp).await.unwrap();
            let (mut requests, connection) = h2::client::handshake(tls).await.unwrap();
            tokio::task::spawn_local(connection);
            let request = Request::get(format!("https://{}/long", certs::NAME));
            let (response, _) = requests
                .send_request(request.body(()).unwrap(), true)
                .unwrap();
            (requests, response.await.unwrap().into_body())
        });
        let mut streams = Self {
            runtime,
            tasks,
            requests,
            body,
            got: Vec::new(),
        };
        streams.read(HALF).unwrap();
        streams
    }

    fn read(&mut self, until: usize) -> Result<(), h2::Error> {
        let (body, got) = (&mut self.body, &mut self.got);
        self.tasks.block_on(&self.runtime, async {
            while got.len() < until {
                let Some(data) = body.data().await else {
                    break;
                };
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
                got.extend_from_slice(&data);
            }
            Ok(())
        })
    }

    fn are_told_to_go(&mut self) {
        let requests = self.requests.clone();
        let told = async {
            loop {
                match requests.clone().ready().await {
                    Ok(_) => tokio::time::sleep(PAUSE).await,
                    Err(error) => return error,
                }
            }
        };
        let told = async { tokio::time::timeout(PATIENCE, told).await };
        let told = self.tasks.block_on(&self.runtime, told);
        let told = told.expect("it still takes streams");
        assert!(told.is_go_away() && told.is_remote(), "{told}");
        assert_eq!(told.reason(), Some(Reason::NO_ERROR));
    }

    fn get_the_rest(&mut self) {
        self.read(2 * HALF).unwrap();
        assert!(self.got == long(), "{} bytes", self.got.len());
    }

    /// It doesn't look like an end.
    fn is_cut_off(&mut self) {
        self.read(2 * HALF).unwrap_err();
    }
}
