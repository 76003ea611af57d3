//! The driver: moves frames between the ports and the core, and time into it.
//!
//! One turn: receive a burst, let the tasks that it woke run, send, tell the kernel once. Then wait for
//! frames, for a flow that wants to send, or for the next timer, and nothing else: an idle engine costs
//! nothing, unless it was told to look for packets a while before it sleeps. The core is never borrowed across an
//! await.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use lb_handover::{Keepalive, Options};
use lb_xsk::Flushed;
use tokio::time::Sleep;

use super::core::Core;
use super::frames::{Frames, Receive, Transmit, XskFrames};
use super::moves::Moves;
use super::packet::icmp::IcmpError;
use super::spin::Spin;
use super::stream::Listener;
use super::{Counters, EngineConfig, PortConfig};
use crate::{Steering, Why};

/// Packets received from one interface before tasks run and answers are sent. A larger burst delays
/// acknowledgements; a smaller one pays more system calls.
pub const BURST: usize = 64;

/// Wait for a device that takes no more packets.
const RETRY: Duration = Duration::from_millis(1);

/// Turns that an engine takes at its end to send RST to the clients that are left: room for some ten thousand.
const LAST_TURNS: usize = 16;

/// TCP for the sockets of one rx queue, one socket per interface.
///
/// Belongs to one thread with a tokio `LocalRuntime` or `LocalSet`, where [`run`](Self::run) must be spawned.
pub struct Engine<F: Frames = XskFrames> {
    pub(super) core: Rc<RefCell<Core>>,
    ports: Vec<F>,
    spin: Spin,
    config: EngineConfig,
    /// How connections move to the kernel, if they can.
    pub(super) moves: Option<Rc<Moves>>,
    /// Where errors go about connections that are not here.
    others: Option<Box<dyn Fn(IcmpError)>>,
}

/// Access to an engine that runs.
#[derive(Clone)]
pub struct Handle {
    core: Rc<RefCell<Core>>,
}

impl Engine<XskFrames> {
    /// An engine on bound sockets. Must be called on the worker's runtime, with I/O and time enabled.
    ///
    /// # Errors
    /// If the runtime can't watch a socket.
    pub fn new(
        sockets: Vec<(lb_xsk::Socket, PortConfig)>,
        config: EngineConfig,
    ) -> io::Result<Self> {
        let port = |(socket, config)| Ok((XskFrames::new(socket)?, config));
        let ports = sockets
            .into_iter()
            .map(port)
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self::with_frames(ports, config))
    }
}

impl<F: Frames> Engine<F> {
    /// An engine on any source of frames.
    pub fn with_frames(ports: Vec<(F, PortConfig)>, config: EngineConfig) -> Self {
        let (ports, configs): (Vec<_>, Vec<_>) = ports.into_iter().unzip();
        let core = Rc::new(RefCell::new(Core::new(config, &configs, now())));
        let spin = Spin::new(config.spin);
        Self {
            core,
            ports,
            spin,
            config,
            moves: None,
            others: None,
        }
    }

    /// Lets connections move to the kernel, within [`EngineConfig::moves`], and `steering` their packets after them. From now on
    /// segments that this engine doesn't know are given to the kernel instead of being refused.
    ///
    /// # Errors
    /// If packets can't be given back: it needs raw sockets, which are made here. The engine is as it was then.
    pub fn steer(&mut self, steering: Box<dyn Steering>) -> io::Result<()> {
        let Some(limits) = self.config.moves else {
            return Ok(());
        };
        let tcp = &self.config.tcp;
        // As sockets that the kernel has accepted: see `kernel`.
        let options = Options {
            keepalive: (!tcp.keepalive.is_zero()).then_some(Keepalive {
                idle: tcp.keepalive,
                interval: tcp.keepalive_interval,
                probes: tcp.keepalive_probes,
            }),
            ..Options::default()
        };
        let moves = Rc::new(Moves::new(steering, limits, options)?);
        self.core.borrow_mut().enable(Rc::clone(&moves));
        self.moves = Some(moves);
        Ok(())
    }

    /// Calls `tell` with each ICMP error about a connection that is not here. It may be that of another queue, whose engine
    /// takes it by [`Handle::icmp`].
    pub fn pass_on(&mut self, tell: impl Fn(IcmpError) + 'static) {
        self.others = Some(Box::new(tell));
    }

    /// Access that stays valid while the engine runs.
    pub fn handle(&self) -> Handle {
        Handle {
            core: Rc::clone(&self.core),
        }
    }

    /// Same as [`Handle::listen`].
    pub fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        self.handle().listen(address)
    }

    /// Runs until the future is dropped; connections that are left are reset then.
    ///
    /// # Errors
    /// Only if the runtime can't wait for a socket any more.
    pub async fn run(mut self) -> io::Result<Infallible> {
        let mut timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        loop {
            self.begin_turn();
            let received = self.receive();
            if received.count > 0 {
                let_tasks_run().await;
                self.core.borrow_mut().advance(now());
            }
            let has_sent = self.send();
            if received.count > 0 || has_sent {
                self.spin.on_work(now());
            }
            let flushed = self.flush();
            if flushed == Flushed::Later || self.is_full() || self.core.borrow().is_held() {
                self.core.borrow_mut().count_wait();
                tokio::time::sleep(RETRY).await;
            } else if self.move_away() {
                tokio::task::yield_now().await;
            } else if self.core.borrow().wants_output() || received.more || self.spin.goes_on(now())
            {
                // Lets the runtime look at kernel sockets too.
                tokio::task::yield_now().await;
            } else {
                self.wait(timer.as_mut()).await?;
            }
        }
    }

    fn begin_turn(&mut self) {
        let now = now();
        let mut core = self.core.borrow_mut();
        core.advance(now);
        if let Some(moves) = &self.moves {
            moves.begin_turn();
            while let Some(key) = moves.forget(now) {
                core.forget_moved(&key);
            }
        }
    }

    pub(super) fn receive(&mut self) -> Received {
        let mut core = self.core.borrow_mut();
        let mut received = Received::default();
        for (port, frames) in self.ports.iter_mut().enumerate() {
            let (rx, tx) = frames.split();
            core.read_ahead(rx, BURST);
            for n in 0..=BURST {
                // Without room packets stay in the ring: an answer must never be dropped.
                if n == BURST || tx.room() == 0 {
                    received.more = true;
                    break;
                }
                let Some(packet) = rx.receive() else { break };
                if let Some((key, segment)) = core.receive(port, &packet, tx)
                    && let Some(moves) = &self.moves
                {
                    moves.give_back(&key, &segment);
                }
                received.count += 1;
            }
        }
        let strays = core.take_strays();
        drop(core);
        if let Some(tell) = &self.others {
            strays.into_iter().for_each(tell);
        }
        received
    }

    /// Whether anybody stood in line.
    fn send(&mut self) -> bool {
        let mut core = self.core.borrow_mut();
        let has_work = core.wants_output();
        core.send(&mut self.ports);
        has_work
    }

    fn flush(&mut self) -> Flushed {
        let mut result = Flushed::Done;
        for (port, frames) in self.ports.iter_mut().enumerate() {
            match frames.flush() {
                Ok(Flushed::Done) => {}
                Ok(Flushed::Later) => result = Flushed::Later,
                Err(error) => {
                    // An interface that is down comes back; until then packets wait and TCP is patient.
                    if self.core.borrow_mut().count_flush_error() == 1 {
                        tracing::warn!(port, %error, "cannot send; retrying, further errors are counted");
                    }
                    result = Flushed::Later;
                }
            }
        }
        result
    }

    /// A port has no frames for answers.
    fn is_full(&mut self) -> bool {
        self.ports
            .iter_mut()
            .any(|frames| frames.split().1.room() == 0)
    }

    async fn wait(&mut self, mut timer: Pin<&mut Sleep>) -> io::Result<()> {
        let forgets = self.moves.as_ref().and_then(|moves| moves.next_due());
        let due = [self.core.borrow().next_timer(), forgets];
        let due = due.into_iter().flatten().min();
        if let Some(due) = due {
            // Moving the runtime's timer costs more than waking too early now and then.
            let due = tokio::time::Instant::from_std(due);
            if timer.is_elapsed() || timer.deadline() > due {
                timer.as_mut().reset(due);
            }
        }
        poll_fn(|context| {
            let mut ready = self.core.borrow_mut().poll_line(context).is_ready();
            if let Some(moves) = &self.moves {
                ready |= moves.poll_line(context).is_ready();
                // One that has ended since has a date, which the timer doesn't know.
                ready |= moves.next_due() != forgets;
            }
            for frames in &mut self.ports {
                if let Poll::Ready(arrival) = frames.poll_arrival(context) {
                    arrival?;
                    ready = true;
                }
            }
            ready |= due.is_some() && timer.as_mut().poll(context).is_ready();
            if ready {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        })
        .await
    }
}

/// Whatever ends an engine, a panic included, its clients learn it: a connection without an engine is a port that never answers.
impl<F: Frames> Drop for Engine<F> {
    fn drop(&mut self) {
        // A panic in the core leaves it borrowed by nobody, but not necessarily in order.
        if let Some(moves) = &self.moves {
            moves.stop();
        }
        let Ok(mut core) = self.core.try_borrow_mut() else {
            return;
        };
        core.reset_all();
        for _ in 0..LAST_TURNS {
            if !core.wants_output() {
                break;
            }
            core.send(&mut self.ports);
            for frames in &mut self.ports {
                // Best effort: who can't be told now finds out at its next segment, from the host.
                let _ = frames.flush();
            }
        }
    }
}

impl Handle {
    /// Listens on an address and port; neither may be 0.
    ///
    /// # Errors
    /// `InvalidInput` for a wildcard, `AddrInUse` if this engine listens there already.
    pub fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        Listener::new(Rc::clone(&self.core), address)
    }

    /// Takes an error that another engine passes on; ignored if it is about no connection of this one.
    pub fn icmp(&self, error: &IcmpError) {
        self.core.borrow_mut().icmp(error);
    }

    /// A snapshot.
    pub fn counters(&self) -> Counters {
        self.core.borrow().counters()
    }

    /// Tells of every connection. Walks over all of them, and packets wait meanwhile: for a report.
    pub fn for_each_flow(&self, tell: impl FnMut(&lb_tcp::FlowKey, lb_tcp::Info)) {
        self.core.borrow_mut().for_each_flow(tell);
    }

    /// Tells of every connection that has moved to the kernel and is there: its ends, why and how long ago it moved, and its socket.
    pub fn for_each_moved(
        &self,
        tell: impl FnMut(&lb_tcp::FlowKey, Why, Duration, BorrowedFd<'_>),
    ) {
        let moves = self.core.borrow().moves().map(Rc::clone);
        if let Some(moves) = moves {
            moves.for_each(tell);
        }
    }

    /// Asks for the move of every accepted connection: see [`Mover::ask`](crate::Mover::ask). As long as the engine runs, it decides on a few
    /// in each turn.
    pub fn move_all(&self, why: Why) {
        let mut core = self.core.borrow_mut();
        let residences = core.residences();
        if let Some(moves) = core.moves() {
            for it in &residences {
                moves.ask(it, why);
            }
        }
    }

    /// Stops accepting, for good. SYNs are ignored, so that clients try again and find the next process; what was not
    /// accepted is reset; accepted connections go on.
    pub fn stop(&self) {
        self.core.borrow_mut().stop();
    }

    /// Resets every connection that is left. Once [`has_output`](Self::has_output) is false, all of their clients have been
    /// told, and none waits for an answer that will not come.
    pub fn reset_all(&self) {
        self.core.borrow_mut().reset_all();
    }

    /// Whether segments wait to be sent.
    pub fn has_output(&self) -> bool {
        self.core.borrow().wants_output()
    }
}

/// Result of one burst over all ports.
#[derive(Default)]
pub(super) struct Received {
    count: usize,
    /// A port may have more packets.
    pub(super) more: bool,
}

/// Runtime time, which tests can stop.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Goes behind the tasks that are ready now. Unlike `yield_now` this doesn't make the runtime poll for I/O,
/// which would be a system call per burst.
async fn let_tasks_run() {
    let mut waited = false;
    poll_fn(|context| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
