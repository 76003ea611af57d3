//! The edge's side: our TCP on both queues and both families, and one service per port.
//!
//! Not here: what clients expect (`tests/tcp.rs`).

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    sync::mpsc,
    thread,
};

use lb_tests::{
    address::{VIP_HTTP, ipv6},
    front::{self, Front},
    lab::{Lab, Size},
    lossy::{Lossy, Traffic},
    tcp_server::{pattern, pattern_at},
};
use lb_transport::{
    Accepted, Listener as _, Mover, Place, Why,
    af_xdp::{Counters, Engine, EngineConfig, MoveLimits, PortConfig, RxChecksums, Stream},
};
use lb_xsk::Socket;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
    task::{LocalSet, spawn_local},
};

/// What is behind a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Sends back what it gets, and FIN after FIN.
    Echo = 7001,
    /// Counts the pattern until FIN, then says how many bytes it was.
    Upload,
    /// Reads a length, sends as much of the pattern and FIN, then reads to the end.
    Download,
    /// Sends one byte and FIN, then counts the pattern until FIN.
    Hello,
    /// Reads one byte and drops the connection with the rest unread.
    Abandon,
}

impl Service {
    const ALL: [Self; 5] = [
        Self::Echo,
        Self::Upload,
        Self::Download,
        Self::Hello,
        Self::Abandon,
    ];

    pub(crate) fn at(self, ip: IpAddr) -> SocketAddr {
        SocketAddr::new(ip, self as u16)
    }
}

/// The virtual address in both families.
pub(crate) fn families() -> [IpAddr; 2] {
    [VIP_HTTP.into(), ipv6(VIP_HTTP).into()]
}

/// How a connection ended for the service, and how many bytes of the pattern it had got.
pub(crate) type Outcome = (Service, Result<usize, ErrorKind>);

/// What an edge is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Conditions {
    /// So many thousandths of the data segments of each side are lost.
    pub(crate) permille: u32,
    /// Bytes of a connection after which it asks to move to the kernel, if it ever does.
    pub(crate) move_at: Option<usize>,
    /// Connections at most that may have moved.
    pub(crate) moved_at_most: usize,
}

/// A lab whose edge serves; what the wire loses is told apart by direction.
pub(crate) struct Running<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) outcomes: mpsc::Receiver<Outcome>,
}

/// What went over the wire in each direction.
#[derive(Debug)]
pub(crate) struct Wires {
    pub(crate) to_client: Traffic,
    pub(crate) to_edge: Traffic,
    pub(crate) counters: Counters,
}

/// Serves while `clients` runs; so many thousandths of the data segments of each side are lost.
pub(crate) fn while_serving(permille: u32, clients: impl FnOnce(&Running<'_>)) -> Wires {
    let conditions = Conditions {
        permille,
        ..Conditions::default()
    };
    while_serving_under(conditions, clients)
}

/// Serves while `clients` runs.
pub(crate) fn while_serving_under(
    conditions: Conditions,
    clients: impl FnOnce(&Running<'_>),
) -> Wires {
    let permille = conditions.permille;
    let lab = Lab::up(Size {
        servers: 1,
        queues: 2,
    })
    .unwrap();
    lab.speak_ipv6().unwrap();
    let mut down = Lossy::load().unwrap();
    down.attach(&lab.client(), "lb-eth0").unwrap();
    down.lose(permille, 1).unwrap();
    let mut up = Lossy::load().unwrap();
    up.lose(permille, 2).unwrap();
    let (ready, is_ready) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let (report, outcomes) = mpsc::channel();
    let edge = lab.edge();
    let (up, counters) = thread::scope(|scope| {
        let engine = scope.spawn(move || {
            let serve = || {
                let counters = serve(&mut up, conditions, &ready, stopped, &report);
                (up, counters)
            };
            edge.run(serve).unwrap()
        });
        // If the engine failed to start, joining tells why.
        if is_ready.recv().is_ok() {
            clients(&Running {
                lab: &lab,
                outcomes,
            });
            stop.send(()).unwrap();
        }
        engine.join().unwrap()
    });
    Wires {
        to_client: down.traffic().unwrap(),
        to_edge: up.traffic().unwrap(),
        counters,
    }
}

fn serve(
    wire: &mut Lossy,
    conditions: Conditions,
    ready: &mpsc::Sender<()>,
    stopped: oneshot::Receiver<()>,
    report: &mpsc::Sender<Outcome>,
) -> Counters {
    let addresses: Vec<_> = families()
        .into_iter()
        .flat_map(|ip| Service::ALL.map(|service| (service, service.at(ip))))
        .collect();
    let sockets = front::sockets().unwrap();
    let readers: Vec<_> = sockets.iter().map(Socket::statistics).collect();
    let listens: Vec<_> = addresses.iter().map(|(_, address)| *address).collect();
    let mut program = Front::load(&listens, &sockets).unwrap();
    program.stand_behind(wire).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let port = PortConfig {
            mtu: 1500,
            // The lab's client computes whole checksums, as a network card would have.
            rx_checksums: RxChecksums::Verify,
        };
        let sockets = sockets.into_iter().map(|socket| (socket, port)).collect();
        let config = EngineConfig {
            moves: conditions.move_at.map(|_| MoveLimits {
                per_second: 100_000,
                connections: conditions.moved_at_most,
            }),
            ..EngineConfig::default()
        };
        let mut engine = Engine::new(sockets, config).unwrap();
        engine.steer(Box::new(program.steer().unwrap())).unwrap();
        let handle = engine.handle();
        for (service, address) in addresses {
            let mut listener = handle.listen(address).unwrap();
            let report = report.clone();
            spawn_local(async move {
                loop {
                    let Accepted { stream, mover, .. } = listener.accept().await.unwrap();
                    let wish = Wish {
                        mover,
                        at: conditions.move_at.unwrap_or(usize::MAX),
                    };
                    let report = report.clone();
                    spawn_local(async move {
                        let done = attend(service, stream, &wish).await;
                        // A test that wants to know nothing has dropped the other end.
                        let _ = report.send((service, done.map_err(|error| error.kind())));
                    });
                }
            });
        }
        wire.attach(&lb_tests::lab::Namespace::edge(), front::FRONT)
            .unwrap();
        spawn_local(engine.run());
        ready.send(()).unwrap();
        stopped.await.unwrap();
        eprintln!("{:?}", handle.counters());
        for reader in &readers {
            let statistics = reader.read().unwrap().unwrap();
            assert_eq!(statistics.tx_invalid, 0, "{statistics:?}");
        }
        handle.counters()
    })
}

/// When a connection asks to move, if it can.
struct Wish {
    mover: Option<Mover>,
    at: usize,
}

impl Wish {
    const NONE: Self = Self {
        mover: None,
        at: usize::MAX,
    };

    /// Asks, once so many bytes have passed.
    fn at(&self, place: usize, why: Why) {
        if let Some(mover) = &self.mover
            && place >= self.at
        {
            mover.ask(why);
        }
    }

    /// Waits until there is nothing to wait for: some turns of the engine, if it can move at all.
    async fn decided(&self) {
        let Some(mover) = &self.mover else { return };
        for _ in 0..TURNS {
            if mover.place() != Place::AfXdp {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Turns in which an engine has decided on a wish.
const TURNS: usize = 1000;

async fn attend(service: Service, mut stream: Stream, wish: &Wish) -> io::Result<usize> {
    match service {
        Service::Echo => echo(stream, wish).await,
        Service::Upload => {
            let count = swallow(&mut stream, wish).await?;
            stream.write_all(&(count as u64).to_be_bytes()).await?;
            stream.shutdown().await?;
            Ok(count)
        }
        Service::Download => {
            let length = usize::try_from(stream.read_u64().await?).unwrap();
            let text = pattern(length);
            let (before, behind) = text.split_at(length.min(wish.at));
            stream.write_all(before).await?;
            wish.at(before.len(), Why::Response);
            stream.write_all(behind).await?;
            wish.decided().await;
            stream.shutdown().await?;
            swallow(&mut stream, &Wish::NONE).await
        }
        Service::Hello => {
            stream.write_all(b"h").await?;
            stream.shutdown().await?;
            swallow(&mut stream, &Wish::NONE).await
        }
        Service::Abandon => {
            stream.read_u8().await?;
            wish.at(usize::MAX, Why::Upload);
            wish.decided().await;
            Ok(1)
        }
    }
}

async fn echo(stream: Stream, wish: &Wish) -> io::Result<usize> {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut buffer = vec![0; 8192];
    let mut place = 0;
    loop {
        let count = read.read(&mut buffer).await?;
        if count == 0 {
            write.shutdown().await?;
            return Ok(place);
        }
        write.write_all(&buffer[..count]).await?;
        place += count;
        wish.at(place, Why::Tunnel);
    }
}

/// Reads the pattern to its end: how many bytes it was.
async fn swallow(stream: &mut Stream, wish: &Wish) -> io::Result<usize> {
    let mut buffer = [0; 8192];
    let mut place = 0;
    loop {
        wish.at(place, Why::Upload);
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(place);
        }
        for byte in &buffer[..count] {
            if *byte != pattern_at(place) {
                return Err(ErrorKind::InvalidData.into());
            }
            place += 1;
        }
    }
}
