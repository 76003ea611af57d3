//! Workers: one thread per receive queue, each with everything it needs to serve its clients.
//!
//! A worker owns the `AF_XDP` sockets of its queue, the connections that came in by them, and the
//! upstream connections made for those. It shares with others only what is read (services, servers'
//! up/down flags) and relaxed counters. A worker that ends while the daemon runs, even by a panic,
//! ends the daemon: see [`Workers::failed`].

mod carried;
mod inquiry;
mod leaving;
mod queue;
mod report;
mod server;

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use lb_proxy::{Carriage, ClientAddr, RelayService, Service};
use lb_transport::af_xdp::{EngineConfig, Handle};
use lb_transport::{Accepted, IntoSocket, Listener, kernel};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

pub(crate) use carried::Tally;
use carried::{Begun, Carried, Origin};
use inquiry::Inbox;
pub(crate) use inquiry::{Inquiry, Inside};
pub(crate) use leaving::Adopters;
use leaving::{House, Orders, Phase};
use queue::{Move, Queue};
pub(crate) use queue::{MovedOut, Sockets};
use report::Report;
use server::Server;

use crate::dataplane::StackFlows;
use crate::succession::{Adopted, Way};

/// How long requests in flight may take to finish after a stop. `ActiveSync` holds requests for up
/// to an hour, so there has to be an end.
const DRAIN: Duration = Duration::from_secs(10);

/// How long closed connections may take to say goodbye: a client that does not answer to a FIN is
/// not waited for, but reset.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long the last segments of all may take to leave.
const LAST_RESETS: Duration = Duration::from_millis(200);

/// What one worker shall do.
pub(crate) struct Plan {
    /// Number of the receive queue.
    pub(crate) queue: u32,
    /// `AF_XDP` sockets of that queue, one for each interface, not yet in use.
    pub(crate) sockets: Sockets,
    /// Services, each with the transport that was chosen for it.
    pub(crate) listeners: Vec<ListenerPlan>,
    /// Rules of its engine.
    pub(crate) engine: EngineConfig,
    /// Turns packets of connections that move to the stack; `None` if none may.
    pub(crate) steering: Option<StackFlows>,
}

/// One service on one worker.
pub(crate) struct ListenerPlan {
    /// What to serve.
    pub(crate) served: Served,
    /// Virtual address and port.
    pub(crate) address: SocketAddr,
    /// How its packets get here.
    pub(crate) carrier: Carrier,
    /// What listens for it on the kernel; none if nothing does.
    pub(crate) sockets: Vec<std::net::TcpListener>,
    /// Counts what becomes of its connections.
    pub(crate) tally: Arc<Tally>,
}

/// What is done with the connections of a service.
#[derive(Clone)]
pub(crate) enum Served {
    /// HTTP is proxied.
    Http(Arc<Service>),
    /// Bytes are relayed.
    Tcp(Arc<RelayService>),
}

/// Transport of a service, decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// Frames and userspace TCP.
    AfXdp,
    /// As long as a connection is small frames and userspace TCP, and then a kernel socket.
    Both,
    /// Kernel sockets.
    Kernel,
}

/// The running workers.
pub(crate) struct Workers {
    phase: watch::Sender<Phase>,
    ended: mpsc::UnboundedReceiver<anyhow::Result<()>>,
    threads: Vec<thread::JoinHandle<()>>,
    inquiry: Inquiry,
    adopters: Adopters,
    queues: Vec<mpsc::UnboundedSender<Move>>,
}

impl Workers {
    /// Starts a thread for each plan and waits until all of them listen.
    pub(crate) async fn start(plans: Vec<Plan>) -> anyhow::Result<Self> {
        let (phase, followed) = watch::channel(Phase::Starting);
        let (end, ended) = mpsc::unbounded_channel();
        let (inquiry, inboxes) = Inquiry::to_workers(plans.len());
        let mut workers = Self {
            phase,
            ended,
            threads: Vec::new(),
            inquiry,
            adopters: Adopters::default(),
            queues: Vec::new(),
        };
        let mut ready = Vec::new();
        for ((position, plan), inbox) in plans.into_iter().enumerate().zip(inboxes) {
            let name = format!("lb-worker-{}", plan.queue);
            let (ready_sender, is_ready) = oneshot::channel();
            let report = Report {
                worker: name.clone(),
                result: None,
                end: end.clone(),
            };
            let (adopter, arrivals) = mpsc::unbounded_channel();
            let (queue, moves) = mpsc::unbounded_channel();
            workers.adopters.add(adopter);
            workers.queues.push(queue);
            let ties = Ties {
                position,
                phase: followed.clone(),
                arrivals,
                moves,
                inbox,
                inquiry: workers.inquiry(),
            };
            let thread = thread::Builder::new()
                .name(name)
                .spawn(move || report.of(|| run(plan, ready_sender, ties)))
                .context("starting a worker thread")?;
            workers.threads.push(thread);
            ready.push(is_ready);
        }
        for is_ready in ready {
            // A worker that fails before it is ready drops its sender and reports why.
            if is_ready.await.is_err() {
                return Err(workers.failed().await);
            }
        }
        Ok(workers)
    }

    /// The way to ask all workers something.
    pub(crate) fn inquiry(&self) -> Inquiry {
        self.inquiry.clone()
    }

    /// Waits until a worker ends by itself, which it never should.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        match self.ended.recv().await {
            Some(Err(error)) => error,
            Some(Ok(())) | None => anyhow::anyhow!("a worker stopped without being asked"),
        }
    }

    /// Accepts clients from now on.
    pub(crate) fn open(&self) {
        self.phase.send_replace(Phase::Serving);
    }

    /// The way for clients that other daemons give away.
    pub(crate) fn adopters(&self) -> Adopters {
        self.adopters.clone()
    }

    /// Moves every connection from `AF_XDP` to the kernel and closes the sockets there.
    pub(crate) async fn move_out(&self) -> anyhow::Result<MovedOut> {
        let answers: Vec<_> = self
            .queues
            .iter()
            .map(|queue| {
                let (done, is_done) = oneshot::channel();
                let _ = queue.send(Move::Out(done));
                is_done
            })
            .collect();
        let mut all = MovedOut::default();
        for answer in answers {
            let MovedOut { moved, reset } = answer.await.context("a worker has ended")?;
            all.moved += moved;
            all.reset += reset;
        }
        Ok(all)
    }

    /// Goes back to the rx queues, with new sockets for each worker.
    pub(crate) async fn move_in(&self, sockets: Vec<Sockets>) -> anyhow::Result<()> {
        for (queue, sockets) in self.queues.iter().zip(sockets) {
            let (done, is_done) = oneshot::channel();
            let _ = queue.send(Move::In(sockets, done));
            is_done.await.context("a worker has ended")??;
        }
        Ok(())
    }

    /// Another daemon accepts: gives it the clients by this way, and ends with the last one.
    pub(crate) fn leave(&self, way: Way) {
        self.phase.send_replace(Phase::Leaving(Arc::new(way)));
    }

    /// Waits until every worker has ended, as it does after [`leave`](Self::leave).
    pub(crate) async fn left(&mut self) -> anyhow::Result<()> {
        for _ in 0..self.threads.len() {
            if let Some(ended) = self.ended.recv().await {
                ended?;
            }
        }
        Ok(())
    }

    /// Stops accepting, lets requests in flight finish within [`DRAIN`], and joins the threads.
    pub(crate) fn stop(mut self) {
        self.phase.send_replace(Phase::Stopping);
        for thread in self.threads.drain(..) {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// What ties a worker to the rest of the daemon.
struct Ties {
    /// Its place among the workers.
    position: usize,
    phase: watch::Receiver<Phase>,
    /// Clients that other daemons give away.
    arrivals: mpsc::UnboundedReceiver<Adopted>,
    /// What to do with the rx queue.
    moves: mpsc::UnboundedReceiver<Move>,
    inbox: Inbox,
    /// The way to all workers, itself included.
    inquiry: Inquiry,
}

fn run(plan: Plan, ready: oneshot::Sender<()>, ties: Ties) -> anyhow::Result<()> {
    // Not a `LocalSet`, which is a second scheduler inside of the first: each wake-up would pass through both.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(serve(plan, ready, ties))
}

async fn serve(plan: Plan, ready: oneshot::Sender<()>, ties: Ties) -> anyhow::Result<()> {
    let Ties {
        position,
        phase,
        arrivals,
        moves,
        inbox,
        inquiry,
    } = ties;
    let orders = Orders::new(phase);
    let has_sockets = !plan.sockets.is_empty();
    let (queue, engine) = Queue::new(plan.sockets, plan.engine, plan.steering, position, inquiry)?;
    let begun = Rc::new(Begun::default());
    tokio::task::spawn_local(inbox.answer(Inside {
        queue: Rc::clone(&queue),
        begun: Rc::clone(&begun),
    }));
    let mut services = JoinSet::new();
    let mut houses = Vec::new();
    for plan in plan.listeners {
        houses.push(listen(plan, &queue, &begun, &orders, &mut services)?);
    }
    services.spawn_local(leaving::adopt(houses, arrivals, orders.clone()));
    // The receiver is gone when another worker failed to start; this one is about to be stopped.
    let _ = ready.send(());
    let engine = has_sockets.then_some(engine);
    // A task of its own: as a branch of this future it would be woken through the runtime's root.
    let running = tokio::task::spawn_local(Rc::clone(&queue).run(engine, moves));
    let refuse = {
        let (queue, orders) = (Rc::clone(&queue), orders.clone());
        async move {
            orders.over().await;
            queue.engine().stop();
        }
    };
    tokio::task::spawn_local(refuse);
    let all_done = async {
        while let Some(ended) = services.join_next().await {
            ended.context("an accept loop panicked")??;
        }
        orders.over().await;
        last_words(&queue.engine()).await;
        Ok(())
    };
    tokio::select! {
        result = all_done => result,
        ended = running => match ended.context("the AF_XDP engine")?? {},
    }
}

/// Listens for one service on all that carries it, and serves whoever comes. Clients that other daemons give away are served as
/// those of the kernel.
fn listen(
    plan: ListenerPlan,
    queue: &Queue,
    begun: &Rc<Begun>,
    orders: &Orders,
    services: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<Rc<House>> {
    let ListenerPlan {
        served,
        address,
        carrier,
        sockets,
        tally,
    } = plan;
    let on_kernel = House {
        server: Server::new(served),
        service: address,
        orders: orders.clone(),
        tally,
        origin: Origin::Kernel(Rc::clone(begun)),
        steering: queue.steering().cloned(),
    };
    if carrier != Carrier::Kernel {
        let house = House {
            origin: Origin::AfXdp,
            ..on_kernel.clone()
        };
        services.spawn_local(accept(queue.listen(address)?, Rc::new(house)));
    }
    let on_kernel = Rc::new(on_kernel);
    for socket in sockets {
        let listener = kernel::Listener::accepting(socket)?;
        services.spawn_local(accept(listener, Rc::clone(&on_kernel)));
    }
    Ok(on_kernel)
}

/// Gives the engine time to send what closed streams have left, and resets what is left then: a client that is not told would
/// hang on a silent port.
async fn last_words(engine: &Handle) {
    wait_while(LAST_WORDS, || engine.counters().flows > 0).await;
    engine.reset_all();
    wait_while(LAST_RESETS, || engine.has_output()).await;
}

/// Waits for others, but not too long.
async fn wait_while(limit: Duration, condition: impl Fn() -> bool) {
    let over = async {
        while condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let _ = tokio::time::timeout(limit, over).await;
}

/// Serves the clients of one listener until told to stop or to leave, and then those that are left.
async fn accept<L: Listener>(mut listener: L, house: Rc<House>) -> anyhow::Result<()> {
    let mut clients = JoinSet::new();
    house.orders.open().await;
    let mut over = pin!(house.orders.over());
    loop {
        tokio::select! {
            () = over.as_mut() => break,
            accepted = listener.accept() => {
                clients.spawn_local(serve_client(&house, accepted?));
                // Reaps what has ended, or the set would grow with each connection ever made. Here, and not by waiting for it,
                // which would wake this loop once more for each of them.
                while clients.try_join_next().is_some() {}
            }
        }
    }
    // A socket that was passed on is accepted from by its new owner alone.
    let _kept = (!house.orders.is_leaving()).then_some(listener);
    house.empty(clients).await;
    Ok(())
}

/// One client, from the first byte to the last. How it ended matters to this client alone.
fn serve_client<S>(house: &Rc<House>, accepted: Accepted<S>) -> impl Future<Output = ()> + use<S>
where
    S: AsyncRead + AsyncWrite + IntoSocket + Unpin + 'static,
{
    let Accepted {
        stream,
        peer,
        local,
        mover,
    } = accepted;
    let client = ClientAddr { peer, local };
    let carried = Carried::new(&house.tally, &house.origin, mover, client);
    let house = Rc::clone(house);
    async move {
        let carriage: Rc<dyn Carriage> = Rc::<Carried>::clone(&carried);
        let served = house.server.clone().serve(carriage, stream, client).await;
        // Not before: a service that nothing moves of lets go of its carriage at once.
        drop(carried);
        house.end(client, served).await;
    }
}
