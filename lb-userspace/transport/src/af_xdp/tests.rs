//! The whole engine against an independent TCP, without a kernel: the driver and its tasks run on tokio with
//! stopped time, which jumps ahead whenever everybody waits. So minutes cost nothing and no test is a race.

mod admission;
mod closing;
mod cut;
mod transfer;
mod wire;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use tokio::task::{JoinHandle, LocalSet};

use self::wire::{Client, MTU, Wire};
use super::{Counters, Engine, EngineConfig, Handle, Listener, PortConfig, RxChecksums, Stream};
use crate::Listener as _;

const SERVER: &str = "10.203.1.100:443";
const CLIENT: &str = "10.203.1.10:50000";
const MEGABYTE: usize = 1 << 20;

/// An engine that listens, and a client, on a wire.
struct Bench {
    wire: Wire,
    client: Client,
    server: SocketAddr,
    listener: Option<Listener>,
    handle: Handle,
    engine: JoinHandle<io::Result<Infallible>>,
}

impl Bench {
    fn start(config: EngineConfig) -> Self {
        Self::with_addresses(config, SERVER, CLIENT, 64)
    }

    fn with_addresses(config: EngineConfig, server: &str, client: &str, tx_frames: usize) -> Self {
        let (server, client) = (address(server), address(client));
        let wire = Wire::default();
        let port = PortConfig {
            mtu: MTU,
            rx_checksums: RxChecksums::Verify,
        };
        let engine = Engine::with_frames(vec![(wire.port(tx_frames), port)], config);
        let handle = engine.handle();
        let listener = Some(handle.listen(server).unwrap());
        let engine = tokio::task::spawn_local(engine.run());
        let client = Client::new(&wire, client.ip());
        Self {
            wire,
            client,
            server,
            listener,
            handle,
            engine,
        }
    }

    /// An established connection.
    async fn connect(&mut self) -> (SocketHandle, Stream) {
        let socket = self.client.connect(self.server);
        self.client
            .until(|c| (c.socket(socket).state() == State::Established).then_some(()))
            .await;
        let accepted = self.listener.as_mut().unwrap().accept().await.unwrap();
        assert_eq!(accepted.local, self.server);
        assert_eq!(
            accepted.peer.port(),
            self.client.socket(socket).local_endpoint().unwrap().port
        );
        (socket, accepted.stream)
    }

    async fn until_counters(&mut self, done: impl Fn(&Counters) -> bool) {
        let handle = self.handle.clone();
        self.client
            .until(|_| done(&handle.counters()).then_some(()))
            .await;
    }

    /// Lets the engine take what was injected, and returns its answers.
    async fn exchange(&mut self, frame: Vec<u8>) -> Vec<Vec<u8>> {
        self.wire.inject(frame);
        tokio::time::sleep(Duration::from_millis(50)).await;
        std::iter::from_fn(|| self.wire.take()).collect()
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Runs `test` with stopped time.
fn run(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    LocalSet::new().block_on(&runtime.unwrap(), test());
}

/// Bytes that tell their place: the pattern repeats after a prime number of bytes.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}
