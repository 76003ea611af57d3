//! The server's side: our TCP on every queue of the edge, the kernel's beside it on the same address, and transfers in the midst
//! of which connections move from the one to the other.
//!
//! Runs inside the edge's namespace. Not here: the move itself, which is the product's; of it, a request may only bring the steps
//! into the wrong order, or lose what was noted.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::mpsc,
    time::Duration,
};

use anyhow::Result;
use lb_tcp::FlowKey;
use lb_transport::{
    Accepted, Listener, Mover, Place, Steering as _, Why,
    af_xdp::{Counters, Engine, EngineConfig, Handle, MoveLimits, PortConfig, RxChecksums},
    kernel,
};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::oneshot,
    task::{LocalSet, spawn_local, yield_now},
};

use super::{
    client::{PERIOD, check},
    request::{Kind, Order, Request},
    silence::Silence,
};
use crate::{
    front::{self, Front, Steer},
    lossy::Lossy,
    tcp_server::pattern,
};

/// How a connection went for the server.
#[derive(Debug)]
pub struct Outcome {
    /// What was asked; none if the connection ended before.
    pub request: Option<Request>,
    /// What broke it, if anything did.
    pub result: Result<(), ErrorKind>,
    /// Where the client connected to.
    pub local: SocketAddr,
    /// Whether it was the kernel's from the first segment: its tuple was still in the map.
    pub begun: bool,
    /// Whether it has moved.
    pub moved: bool,
    /// MSS of its socket in the end, if it has one of its own.
    pub mss: Option<u32>,
    /// The longest time for which nothing arrived that was due.
    pub silence: Duration,
}

/// What a server is started with.
pub(super) struct Serving {
    /// Where it listens.
    pub(super) addresses: Vec<SocketAddr>,
    /// What moves may cost.
    pub(super) limits: MoveLimits,
    /// Told once it serves.
    pub(super) ready: mpsc::Sender<()>,
    /// Ends it.
    pub(super) stop: oneshot::Receiver<()>,
    /// Gets what became of each connection.
    pub(super) outcomes: mpsc::Sender<Outcome>,
    /// Gets the client of each connection of [`Order::Watched`] that the map has forgotten.
    pub(super) forgotten: mpsc::Sender<SocketAddr>,
}

/// Serves until told to stop; what the engine has counted.
pub(super) fn serve(serving: Serving, wire: &mut Lossy) -> Result<Counters> {
    let sockets = front::sockets()?;
    let mut program = Front::load(&serving.addresses, &sockets)?;
    let steer = program.steer()?;
    program.stand_behind(wire)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let port = PortConfig {
            mtu: 1500,
            // The lab's client computes whole checksums, as a network card would have.
            rx_checksums: RxChecksums::Verify,
        };
        let sockets = sockets.into_iter().map(|socket| (socket, port)).collect();
        let config = EngineConfig {
            moves: Some(serving.limits),
            ..EngineConfig::default()
        };
        let mut engine = Engine::new(sockets, config)?;
        engine.steer(Box::new(steer.clone()))?;
        let handle = engine.handle();
        for address in &serving.addresses {
            let accepting = Accepting {
                handle: handle.clone(),
                steer: steer.clone(),
                outcomes: serving.outcomes.clone(),
                forgotten: serving.forgotten.clone(),
            };
            // A tuple in the map is the kernel's, its next SYN included.
            let beside = kernel::Listener::bind(*address)?;
            spawn_local(accepting.clone().accept(beside));
            spawn_local(accepting.accept(handle.listen(*address)?));
        }
        wire.attach(&crate::lab::Namespace::edge(), front::FRONT)?;
        spawn_local(engine.run());
        // Whoever waited for it may be gone.
        let _ = serving.ready.send(());
        let _ = serving.stop.await;
        Ok(handle.counters())
    })
}

#[derive(Clone)]
struct Accepting {
    handle: Handle,
    steer: Steer,
    outcomes: mpsc::Sender<Outcome>,
    forgotten: mpsc::Sender<SocketAddr>,
}

impl Accepting {
    async fn accept<L: Listener>(self, mut listener: L) {
        while let Ok(accepted) = listener.accept().await {
            let own = self.clone();
            spawn_local(async move {
                let (local, remote) = (accepted.local, accepted.peer);
                let outcome = own.attend(accepted).await;
                let order = outcome.request.map(|request| request.order);
                // A test that wants to know nothing has dropped the other end.
                let _ = own.outcomes.send(outcome);
                if order == Some(Order::Watched) {
                    own.watch(FlowKey { local, remote }).await;
                }
            });
        }
    }
}

impl Accepting {
    async fn attend<S: AsyncRead + AsyncWrite + Unpin>(&self, accepted: Accepted<S>) -> Outcome {
        let Accepted {
            mut stream,
            peer,
            local,
            mover,
        } = accepted;
        let mut outcome = Outcome {
            request: None,
            result: Ok(()),
            local,
            begun: mover.is_none(),
            moved: false,
            mss: None,
            silence: Duration::ZERO,
        };
        let request = match read_request(&mut stream).await {
            Ok(request) => request,
            Err(error) => {
                outcome.result = Err(error.kind());
                return outcome;
            }
        };
        let course = Course {
            request,
            flow: FlowKey {
                local,
                remote: peer,
            },
            mover,
            steer: self.steer.clone(),
            stage: Stage::Before,
        };
        let mut attendant = Attendant {
            stream,
            request,
            course,
            silence: Silence::begin(),
        };
        let result = attendant.transfer().await;
        outcome.mss = self.mss(&attendant.course.flow);
        let result = match result {
            Ok(()) => attendant.close().await,
            Err(error) => Err(error),
        };
        Outcome {
            request: Some(request),
            result: result.map_err(|error| error.kind()),
            moved: attendant.course.has_moved(),
            silence: attendant.silence.longest(),
            ..outcome
        }
    }

    async fn watch(&self, flow: FlowKey) {
        while self.steer.has(&flow) {
            tokio::time::sleep(LOOK).await;
        }
        let _ = self.forgotten.send(flow.remote);
    }

    /// MSS of a connection that has moved.
    fn mss(&self, flow: &FlowKey) -> Option<u32> {
        let mut mss = None;
        self.handle.for_each_moved(|key, _, _, socket| {
            if key == flow {
                mss = SockRef::from(&socket).tcp_mss().ok();
            }
        });
        mss
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Request> {
    let mut bytes = [0; Request::BYTES];
    stream.read_exact(&mut bytes).await?;
    Request::decode(&bytes).ok_or(ErrorKind::InvalidData.into())
}

/// A connection and what is to happen to it.
struct Attendant<S> {
    stream: S,
    request: Request,
    course: Course,
    silence: Silence,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Attendant<S> {
    async fn transfer(&mut self) -> io::Result<()> {
        match self.request.kind {
            Kind::Upload => {
                self.read_all(false).await?;
                let told = self.request.length.to_be_bytes();
                self.stream.write_all(&told).await?;
            }
            Kind::Download => self.write_all().await?,
            Kind::Echo => self.read_all(true).await?,
        }
        Ok(())
    }

    async fn close(&mut self) -> io::Result<()> {
        if self.request.server_closes {
            self.stream.shutdown().await?;
            self.expect_end().await
        } else {
            self.expect_end().await?;
            self.stream.shutdown().await
        }
    }

    async fn read_all(&mut self, echo: bool) -> io::Result<()> {
        let length = self.request.length as usize;
        let mut buffer = vec![0; 64 << 10];
        let mut place = 0;
        self.silence = Silence::begin();
        while place < length {
            let room = buffer.len().min(length - place);
            let count = self.stream.read(&mut buffer[..room]).await?;
            self.silence.heard();
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            check(place, &buffer[..count])?;
            if echo {
                self.stream.write_all(&buffer[..count]).await?;
            }
            place += count;
            self.course.reached(place).await?;
        }
        Ok(())
    }

    async fn write_all(&mut self) -> io::Result<()> {
        let length = self.request.length as usize;
        // Whole periods, so that each piece begins as the first does.
        let piece = pattern(PERIOD * 64);
        let mut place = 0;
        while place < length {
            let now = piece.len().min(length - place);
            self.stream.write_all(&piece[..now]).await?;
            place += now;
            self.course.reached(place).await?;
        }
        Ok(())
    }

    async fn expect_end(&mut self) -> io::Result<()> {
        match self.stream.read(&mut [0]).await? {
            0 => Ok(()),
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }
}

/// When a connection moves, and in which order.
struct Course {
    request: Request,
    flow: FlowKey,
    /// None where it is the kernel's already.
    mover: Option<Mover>,
    steer: Steer,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Before,
    Asked,
    Evicted,
}

impl Course {
    fn has_moved(&self) -> bool {
        let mover = self.mover.as_ref();
        mover.is_some_and(|mover| matches!(mover.place(), Place::Kernel(_)))
    }

    /// The transfer has come so far.
    async fn reached(&mut self, place: usize) -> io::Result<()> {
        match self.stage {
            Stage::Before if place >= self.request.move_at as usize => {
                self.stage = Stage::Asked;
                self.ask().await
            }
            Stage::Asked if self.request.order == Order::Evicted => {
                if self.has_moved() && self.steer.has(&self.flow) {
                    self.steer.forget(&self.flow);
                    self.stage = Stage::Evicted;
                }
                Ok(())
            }
            Stage::Before | Stage::Asked | Stage::Evicted => Ok(()),
        }
    }

    async fn ask(&mut self) -> io::Result<()> {
        let Some(mover) = &self.mover else {
            return Ok(());
        };
        match self.request.order {
            Order::Never => return Ok(()),
            Order::Right | Order::Evicted | Order::Watched => {}
            Order::Naive => {
                self.steer.to_stack(&self.flow)?;
                // What is under way now meets a kernel that has no such connection.
                tokio::time::sleep(HEAD_START).await;
            }
        }
        mover.ask(Why::Streamed);
        // The engine moves between two bursts, in a task of its own.
        yield_now().await;
        Ok(())
    }
}

/// Time between the two steps of the wrong order: enough for a segment of the client's.
const HEAD_START: Duration = Duration::from_millis(2);
const LOOK: Duration = Duration::from_millis(50);
