//! The rx queue of a worker: an engine on it, which can leave it to another daemon and, if that one fails, come back.
//!
//! Invariant: whoever listens here, or asks for the engine, doesn't notice that it is another one. Connections of an engine that
//! has left are the kernel's by then, and their streams go on.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use lb_transport::af_xdp::{self, Engine, EngineConfig, Handle, PortConfig};
use lb_transport::{Accepted, Listener, Why};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Inquiry, Inside, wait_while};
use crate::dataplane::StackFlows;

/// How long connections may take to get into a state in which they can be moved: a handshake, or the end of a close.
const LAST_MOVES: Duration = Duration::from_millis(500);

/// Between two looks at what is still there.
const LOOK: Duration = Duration::from_millis(20);

/// `AF_XDP` sockets of one rx queue, one for each interface.
pub(crate) type Sockets = Vec<(lb_xsk::Socket, PortConfig)>;

/// What a worker is to do with its queue, with the way for the answer.
pub(super) enum Move {
    Out(oneshot::Sender<MovedOut>),
    In(Sockets, oneshot::Sender<anyhow::Result<()>>),
}

/// What became of the connections of a queue that was left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MovedOut {
    /// They are the kernel's now.
    pub(crate) moved: u64,
    /// They could not be moved.
    pub(crate) reset: u64,
}

/// The queue, with or without an engine that runs.
pub(super) struct Queue {
    config: EngineConfig,
    steering: Option<StackFlows>,
    /// Place of the worker among all.
    position: usize,
    /// The way to the others.
    inquiry: Inquiry,
    engine: RefCell<Handle>,
    listeners: RefCell<Vec<(SocketAddr, mpsc::UnboundedSender<af_xdp::Listener>)>>,
}

impl Queue {
    /// With an engine on `sockets`, to be [run](Self::run).
    pub(super) fn new(
        sockets: Sockets,
        config: EngineConfig,
        steering: Option<StackFlows>,
        position: usize,
        inquiry: Inquiry,
    ) -> anyhow::Result<(Rc<Self>, Engine)> {
        let engine = engine(sockets, config, steering.as_ref(), position, &inquiry)?;
        let queue = Self {
            config,
            steering,
            position,
            inquiry,
            engine: RefCell::new(engine.handle()),
            listeners: RefCell::default(),
        };
        Ok((Rc::new(queue), engine))
    }

    /// The engine that there is now.
    pub(super) fn engine(&self) -> Handle {
        self.engine.borrow().clone()
    }

    /// Knows which connections are on the kernel; `None` if none can be.
    pub(super) const fn steering(&self) -> Option<&StackFlows> {
        self.steering.as_ref()
    }

    /// Listens on an address, on this engine and those after it.
    pub(super) fn listen(&self, address: SocketAddr) -> io::Result<Listening> {
        let current = self.engine().listen(address)?;
        let (sender, next) = mpsc::unbounded_channel();
        self.listeners.borrow_mut().push((address, sender));
        Ok(Listening { current, next })
    }

    /// Runs the engine, and moves out and in as it is told. Returns only on error.
    pub(super) async fn run(
        self: Rc<Self>,
        engine: Option<Engine>,
        mut moves: mpsc::UnboundedReceiver<Move>,
    ) -> anyhow::Result<Infallible> {
        let mut running = engine.map(start);
        loop {
            let ordered = match &mut running {
                Some(engine) => tokio::select! {
                    ended = engine => return ended.context("the AF_XDP engine stopped"),
                    ordered = moves.recv() => ordered,
                },
                None => moves.recv().await,
            };
            match (ordered, running.take()) {
                (Some(Move::Out(done)), Some(engine)) => {
                    // Whoever asked may be gone.
                    let _ = done.send(self.move_out(engine).await?);
                }
                (Some(Move::Out(done)), None) => {
                    let _ = done.send(MovedOut::default());
                }
                (Some(Move::In(sockets, done)), _) => {
                    let outcome = self.move_in(sockets).map(|engine| running = Some(engine));
                    let _ = done.send(outcome);
                }
                (None, Some(engine)) => match engine.await? {},
                (None, None) => pending::<()>().await,
            }
        }
    }

    /// Gives all connections to the kernel and closes the sockets.
    async fn move_out(&self, mut running: Running) -> io::Result<MovedOut> {
        let engine = self.engine();
        let moved = || engine.counters().moves.moved.iter().sum::<u64>();
        let before = moved();
        if self.steering.is_none() {
            // Nothing can be moved, and so nothing more shall begin.
            engine.stop();
        }
        // Else SYNs go to the kernel already, and handshakes under way come to their end: who is accepted can be moved.
        let all = async {
            // Asked again and again: one that can't be moved now can be a moment later.
            let over = Instant::now() + LAST_MOVES;
            while engine.counters().flows > 0 && Instant::now() < over {
                engine.move_all(Why::Stop);
                wait_while(LOOK, || engine.counters().flows > 0).await;
            }
        };
        tokio::select! {
            ended = &mut running => match ended? {},
            () = all => {}
        }
        let left = engine.counters().flows;
        // Resets them, and closes the sockets.
        drop(running);
        Ok(MovedOut {
            moved: moved() - before,
            reset: u64::try_from(left).unwrap_or(u64::MAX),
        })
    }

    fn move_in(&self, sockets: Sockets) -> anyhow::Result<Running> {
        let steering = self.steering.as_ref();
        let engine = engine(sockets, self.config, steering, self.position, &self.inquiry)?;
        for (address, listening) in &*self.listeners.borrow() {
            // Who listened may have ended, when the daemon is stopping.
            let _ = listening.send(engine.listen(*address)?);
        }
        self.engine.replace(engine.handle());
        Ok(start(engine))
    }
}

/// An engine that runs.
type Running = Pin<Box<dyn Future<Output = io::Result<Infallible>>>>;

fn start(engine: Engine) -> Running {
    Box::pin(engine.run())
}

fn engine(
    sockets: Sockets,
    config: EngineConfig,
    steering: Option<&StackFlows>,
    position: usize,
    inquiry: &Inquiry,
) -> anyhow::Result<Engine> {
    let mut engine = Engine::new(sockets, config)?;
    // Network cards spread ICMP errors by the address of the router that has sent them.
    let inquiry = inquiry.clone();
    engine.pass_on(move |error| {
        inquiry.tell_others(position, &move |other: &Inside| {
            other.engine().icmp(&error);
        });
    });
    if let Some(steering) = steering {
        let steered = engine.steer(Box::new(steering.clone()));
        steered.context("making the raw sockets that packets are given back to the kernel by")?;
    }
    Ok(engine)
}

/// Waits for clients of an address, whatever engine there is.
pub(super) struct Listening {
    current: af_xdp::Listener,
    next: mpsc::UnboundedReceiver<af_xdp::Listener>,
}

impl Listener for Listening {
    type Stream = af_xdp::Stream;

    async fn accept(&mut self) -> io::Result<Accepted<af_xdp::Stream>> {
        loop {
            tokio::select! {
                accepted = self.current.accept() => return accepted,
                Some(next) = self.next.recv() => self.current = next,
            }
        }
    }

    fn local_addr(&self) -> SocketAddr {
        self.current.local_addr()
    }
}
