//! The daemon as one thing: comes up, serves, hands over to a successor, leaves.
//!
//! What is done in which order, and what a failure takes back, is in `ARCHITECTURE.md`, "Order of start and stop" and
//! "Succession". Invariant: between asking for room and being ready, a new daemon has taken nothing that the old one could not
//! take back, and no client.

use std::cell::RefCell;
use std::future::pending;
use std::mem;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::rc::{Rc, Weak};

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::notify;
use super::signals::Signals;
use crate::carrier::{self, Decision, Succession};
use crate::compose::Plan;
use crate::control::{self, Control, begin, drift, files, health};
use crate::dataplane::{Dataplane, Pins, Resolver};
use crate::report::{Desk, Reporter};
use crate::succession::{
    Door, Estate, Leaver, Legacy, Listeners, PATIENCE, Predecessor, Successor,
};
use crate::worker::{Adopters, Carrier, MovedOut, Workers};
use crate::{admin, host};

/// Changes of health that may wait for the control loop; a probe waits when there are more.
const HEALTH_BACKLOG: usize = 64;

/// A daemon that is ready.
pub(super) struct Daemon<'a> {
    plan: &'a Plan,
    pin: Option<&'a Path>,
    /// The transport of each service, and the interfaces.
    decision: Decision,
    workers: Workers,
    control: Rc<RefCell<Control>>,
    resolver: Resolver,
    socket: admin::Socket,
    desk: Rc<Desk>,
    door: Rc<Door>,
    successors: mpsc::Receiver<Successor>,
    listeners: Listeners,
    leavers: Leavers,
    /// Where connections of services began that begin on the stack during a hand-over.
    began_on_stack: Vec<(usize, bool)>,
}

/// Why a daemon no longer serves, if not by a failure.
pub(super) enum End {
    /// It was told to stop.
    Stop,
    /// Another one wants its place.
    Successor(Successor),
}

impl<'a> Daemon<'a> {
    /// Brings everything up, in the place of a daemon that runs if there is one.
    pub(super) async fn start(plan: &'a Plan, pin: Option<&'a Path>) -> anyhow::Result<Self> {
        host::require_kernel()?;
        super::require_local_addresses(plan)?;
        drift::require_same(&plan.drift_watches()).await?;
        let resolver = Resolver::new().context("opening rtnetlink")?;
        let mut ground = Ground::prepare(plan, pin).await?;
        super::warn_of_hidden_tags(plan, &resolver).await?;

        // From here to its end a predecessor waits for us.
        let since = Instant::now();
        let estate = ground.take().await?;
        let succession = match pin {
            Some(_) => Succession::Possible,
            None => Succession::Impossible,
        };
        let mut decision = carrier::decide(&plan.config, &resolver, succession).await?;
        let reporter = Reporter::new(plan, &decision);
        let mut dataplane = ground.dataplane;
        super::connect_sockets(&mut dataplane, &decision)?;
        let carriers = decision.carriers();
        let mut listeners = Listeners::new(estate.listeners);
        let steering = dataplane.stack_flows();
        let plans = super::worker_plans(plan, &mut decision, &steering, &mut listeners)?;
        let workers = Workers::start(plans).await?;
        let mut control = super::start_control(plan, dataplane, &carriers, &estate.servers)?;
        if ground.predecessor.is_some() {
            anyhow::ensure!(since.elapsed() < PATIENCE / 2, "{TAKING_OVER}: {TOO_LATE}");
        }
        let interfaces = plan.config.interfaces.iter();
        let names = interfaces.map(lb_config::InterfaceName::as_str);
        control.dataplane_mut().take_over(names)?;
        workers.open();

        let mut leavers = Leavers::default();
        let former = match ground.predecessor {
            // If it doesn't hear it is gone, and this one is the daemon all the same.
            Some(predecessor) => predecessor.ready().await.ok(),
            None => None,
        };
        for leaver in estate.leavers.into_iter().chain(former) {
            leavers.follow(leaver, workers.adopters());
        }
        let socket = match (ground.socket, estate.admin) {
            (Some(socket), _) => socket,
            (None, Some(listener)) => admin::Socket::inherited(listener, &plan.config.admin)?,
            (None, None) => anyhow::bail!("no admin socket was passed on"),
        };
        super::log_ready(plan, &decision);
        notify::service_manager("READY=1");
        let control = Rc::new(RefCell::new(control));
        let desk = Desk {
            reporter,
            control: Rc::clone(&control),
            inquiry: workers.inquiry(),
            feed: plan.feed.clone(),
        };
        Ok(Self {
            plan,
            pin,
            decision,
            workers,
            control,
            resolver,
            socket,
            desk: Rc::new(desk),
            door: ground.door,
            successors: ground.successors,
            listeners,
            leavers,
            began_on_stack: Vec::new(),
        })
    }

    /// Balances until told to stop, or asked for room.
    pub(super) async fn serve(&mut self, signals: &mut Signals) -> anyhow::Result<End> {
        let reporter = &self.desk.reporter;
        let (drift_board, file_problems) = (reporter.drift(), reporter.problems());
        let (changes, received) = mpsc::channel(HEALTH_BACKLOG);
        let (plan, control) = (self.plan, &self.control);
        let inquiry = self.workers.inquiry();
        // Who comes out first ends all of them: a successor finds a control loop that writes nothing any more.
        tokio::select! {
            () = signals.any() => Ok(End::Stop),
            Some(successor) = self.successors.recv() => Ok(End::Successor(successor)),
            error = self.workers.failed() => Err(error),
            Err(error) = control::tick(control) => Err(error.into()),
            Err(error) = control::follow_health(control, received) => Err(error.into()),
            Err(error) = control::follow_neighbours(control, &self.resolver) => Err(error.into()),
            Err(error) = begin::follow(control, inquiry, plan.beginning(&self.decision.carriers())) => Err(error.into()),
            () = health::monitor(plan.targets(), changes) => Err(anyhow::anyhow!("health checks ended")),
            () = drift::monitor(plan.drift_watches(), drift_board) => Err(anyhow::anyhow!("the look at servers' certificates ended")),
            () = files::follow(plan.watched_files(), file_problems) => Err(anyhow::anyhow!("the look at files ended")),
            () = self.socket.serve(&self.desk, &self.door) => Err(anyhow::anyhow!("the admin socket ended")),
            else => Err(anyhow::anyhow!("the control loop ended")),
        }
    }

    /// Gives a successor room and all that it needs, and waits until it is ready.
    ///
    /// # Errors
    /// It failed. What it was given is still ours, but the rx queues.
    pub(super) async fn hand_over(&mut self, successor: &Successor) -> anyhow::Result<()> {
        tracing::info!("another lb takes over");
        let servers = {
            let mut control = self.control.borrow_mut();
            // New connections find the kernel while nobody is on the rx queues.
            for (position, carrier) in self.decision.carriers().into_iter().enumerate() {
                if carrier == Some(Carrier::Both) {
                    let before = control.begin_on_stack(position, true)?;
                    self.began_on_stack.push((position, before));
                }
            }
            control.fall_silent(PATIENCE)?;
            control.known_servers()
        };
        let MovedOut { moved, reset } = self.workers.move_out().await?;
        tracing::info!(moved, reset, "connections moved to the kernel");
        let legacy = Legacy {
            listeners: &self.listeners,
            admin: self.socket.as_fd(),
            servers,
            leavers: &self.leavers.known(),
        };
        successor.install(legacy).await
    }

    /// Goes on after a successor has failed: back to the rx queues, and the program back into the links.
    pub(super) async fn take_back(&mut self) -> anyhow::Result<()> {
        let had_sockets = self.decision.bind_again()?;
        if had_sockets {
            let mut control = self.control.borrow_mut();
            super::connect_sockets(control.dataplane_mut(), &self.decision)?;
        }
        let sockets = super::sockets_by_queue(&mut self.decision);
        self.workers.move_in(sockets).await?;
        let interfaces = self.plan.config.interfaces.iter();
        let names = interfaces.map(lb_config::InterfaceName::as_str);
        let mut control = self.control.borrow_mut();
        control.dataplane_mut().take_back(names)?;
        for (position, began_on_stack) in mem::take(&mut self.began_on_stack) {
            control.begin_on_stack(position, began_on_stack)?;
        }
        Ok(())
    }

    /// Serves what is left, and gives away what can be given, until nothing is left.
    pub(super) async fn leave(
        self,
        successor: Successor,
        signals: &mut Signals,
    ) -> anyhow::Result<()> {
        let Self {
            plan, mut workers, ..
        } = self;
        self.socket.give_away();
        // Maps, links, listeners, and the channels of those that left before: all of it is the successor's now.
        drop((self.control, self.desk, self.door, self.successors));
        drop((self.listeners, self.leavers));
        workers.leave(successor.into_way());
        tracing::info!("another lb has taken over: serving what is left");
        notify::service_manager("STATUS=another lb has taken over: serving what is left");
        let left = tokio::select! {
            left = workers.left() => return left,
            () = signals.any() => Ok(()),
            () = sleep(plan.config.drain_timeout) => {
                tracing::warn!("drain_timeout is over: what is left is cut off");
                Ok(())
            }
            // What is left still sends requests to servers.
            () = keep_health(plan) => Ok(()),
        };
        workers.stop();
        left
    }

    /// Ends it in order.
    pub(super) fn stop(self) {
        // Workers first: their flows need the program to the last segment. What is pinned stays, however the daemon ends: a
        // restart must not be told from an end, and `lb detach` is there for that.
        // Who asks from now on, the next daemon too, shall not wait for an answer.
        drop(self.socket);
        self.workers.stop();
        if let Some(directory) = self.pin {
            tracing::info!(pin = %directory.display(), "L4 flows go on without a daemon; `lb detach` ends them");
        }
    }
}

const TAKING_OVER: &str = "taking over from the lb that runs";
const TOO_LATE: &str = "that took so long that the other may have gone on";

/// What a daemon has before it takes anything from another one.
struct Ground {
    predecessor: Option<Predecessor>,
    /// Its own; a predecessor gives the one that it has.
    socket: Option<admin::Socket>,
    door: Rc<Door>,
    successors: mpsc::Receiver<Successor>,
    dataplane: Dataplane,
}

impl Ground {
    /// Finds out whether another daemon runs, and loads the program.
    async fn prepare(plan: &Plan, pin: Option<&Path>) -> anyhow::Result<Self> {
        let predecessor = predecessor(&plan.config.admin, pin).await?;
        let socket = match &predecessor {
            Some(_) => None,
            None => Some(admin::Socket::bind(&plan.config.admin)?),
        };
        let lock = predecessor.as_ref().map(Predecessor::lock).transpose()?;
        let pins = pin.map(|directory| Pins::open(directory, lock));
        let pins = pins.transpose()?;
        let lock = pins.as_ref().map(Pins::lock).transpose()?;
        let (door, successors) = Door::new(pin.map(Path::to_owned).zip(lock));
        let mut dataplane = Dataplane::load(plan.sizing(), pins)?;
        dataplane.spawn_logger();
        for interface in &plan.config.interfaces {
            dataplane.attach(interface.as_str())?;
        }
        Ok(Self {
            predecessor,
            socket,
            door,
            successors,
            dataplane,
        })
    }

    /// Has a predecessor make room, and takes what it gives.
    async fn take(&mut self) -> anyhow::Result<Estate> {
        let Some(predecessor) = &self.predecessor else {
            return Ok(Estate::default());
        };
        tracing::info!("{TAKING_OVER}");
        let vacated = timeout(PATIENCE, predecessor.vacate()).await;
        let estate = vacated.context(TAKING_OVER)?.context(TAKING_OVER)?;
        self.dataplane.look_again()?;
        Ok(estate)
    }
}

/// The daemon that runs, if there is one and it is to be replaced.
async fn predecessor(admin: &Path, pin: Option<&Path>) -> anyhow::Result<Option<Predecessor>> {
    match pin {
        Some(pin) => timeout(PATIENCE, Predecessor::ask(admin, pin))
            .await
            .context("it doesn't answer")
            .flatten()
            .with_context(|| format!("admin socket {}: {TAKING_OVER}", admin.display())),
        // Without pins nothing can be taken over; binding the socket says so.
        None => Ok(None),
    }
}

/// Checks servers for the proxies alone.
async fn keep_health(plan: &Plan) {
    let (changes, mut received) = mpsc::channel::<health::Change>(HEALTH_BACKLOG);
    let targets = plan.targets();
    let known = targets.clone();
    let apply = async {
        while let Some(change) = received.recv().await {
            let is_it = |target: &&health::Target| {
                (target.service, target.server) == (change.service, change.server)
            };
            let server = known.iter().find(is_it);
            if let Some(server) = server.and_then(|target| target.proxied.as_ref()) {
                server.set_up(change.health.up);
            }
        }
        pending::<()>().await;
    };
    tokio::join!(apply, health::monitor(targets, changes));
}

/// Daemons that left before this one, and give it their clients.
#[derive(Default)]
struct Leavers {
    known: Vec<Weak<Leaver>>,
    tasks: JoinSet<()>,
}

impl Leavers {
    fn follow(&mut self, leaver: Leaver, adopters: Adopters) {
        let leaver = Rc::new(leaver);
        self.known.push(Rc::downgrade(&leaver));
        self.tasks.spawn_local(async move {
            loop {
                match leaver.next().await {
                    Ok(Some(client)) => adopters.adopt(client),
                    Ok(None) => return,
                    Err(error) => {
                        tracing::warn!(%error, "a daemon that leaves keeps its clients");
                        return;
                    }
                }
            }
        });
    }

    /// Those that still have clients.
    fn known(&self) -> Vec<Rc<Leaver>> {
        self.known.iter().filter_map(Weak::upgrade).collect()
    }
}
