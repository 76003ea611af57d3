//! Workers: one thread per receive queue, each with everything it needs to serve its clients.
//!
//! A worker owns the `AF_XDP` sockets of its queue, the connections that came in by them, and the
//! upstream connections made for those. It shares with others only what is read (services, servers'
//! up/down flags) and relaxed counters. A worker that ends while the daemon runs, even by a panic,
//! ends the daemon: see [`Workers::failed`].

mod carried;
mod inquiry;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use lb_proxy::{Carriage, ClientAddr, Error, Proxy, Relay, RelayService, Service};
use lb_transport::af_xdp::{Engine, EngineConfig, Handle, PortConfig};
use lb_transport::{Accepted, Listener, kernel};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

pub(crate) use carried::Tally;
use carried::{Begun, Carried, Origin};
use inquiry::Inbox;
pub(crate) use inquiry::{Inquiry, Inside};

use crate::dataplane::StackFlows;

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
    pub(crate) sockets: Vec<(lb_xsk::Socket, PortConfig)>,
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
    stop: watch::Sender<bool>,
    ended: mpsc::UnboundedReceiver<anyhow::Result<()>>,
    threads: Vec<thread::JoinHandle<()>>,
    inquiry: Inquiry,
}

impl Workers {
    /// Starts a thread for each plan and waits until all of them listen.
    pub(crate) async fn start(plans: Vec<Plan>) -> anyhow::Result<Self> {
        let (stop, stopping) = watch::channel(false);
        let (end, ended) = mpsc::unbounded_channel();
        let (inquiry, inboxes) = Inquiry::to_workers(plans.len());
        let mut workers = Self {
            stop,
            ended,
            threads: Vec::new(),
            inquiry,
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
            let ties = Ties {
                position,
                stopping: stopping.clone(),
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

    /// Stops accepting, lets requests in flight finish within [`DRAIN`], and joins the threads.
    pub(crate) fn stop(mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// Tells how a worker ended, whatever way it did.
struct Report {
    worker: String,
    result: Option<anyhow::Result<()>>,
    end: mpsc::UnboundedSender<anyhow::Result<()>>,
}

impl Report {
    fn of(mut self, run: impl FnOnce() -> anyhow::Result<()>) {
        self.result = Some(run());
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let result = self
            .result
            .take()
            .unwrap_or_else(|| Err(anyhow::anyhow!("it panicked")));
        // Nobody listens any more when the daemon is stopping.
        let _ = self
            .end
            .send(result.with_context(|| format!("thread {}", self.worker)));
    }
}

/// What ties a worker to the rest of the daemon.
struct Ties {
    /// Its place among the workers.
    position: usize,
    stopping: watch::Receiver<bool>,
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
        stopping,
        inbox,
        inquiry,
    } = ties;
    let has_sockets = !plan.sockets.is_empty();
    let mut engine = Engine::new(plan.sockets, plan.engine)?;
    // Network cards spread ICMP errors by the address of the router that has sent them.
    engine.pass_on(move |error| {
        inquiry.tell_others(position, &move |other: &Inside| other.engine.icmp(&error));
    });
    if let Some(steering) = plan.steering {
        let steered = engine.steer(Box::new(steering));
        steered.context("making the raw sockets that packets are given back to the kernel by")?;
    }
    let handle = engine.handle();
    let begun = Rc::new(Begun::default());
    tokio::task::spawn_local(inbox.answer(Inside {
        engine: handle.clone(),
        begun: Rc::clone(&begun),
    }));
    let mut services = JoinSet::new();
    for plan in plan.listeners {
        listen(plan, &handle, &begun, &stopping, &mut services)?;
    }
    // The receiver is gone when another worker failed to start; this one is about to be stopped.
    let _ = ready.send(());
    let mut engine = has_sockets.then(|| {
        // A task of its own: as a branch of this future it would be woken through the runtime's root.
        tokio::task::spawn_local(engine.run())
    });
    let refuse = {
        let (handle, stopping) = (handle.clone(), stopping.clone());
        async move {
            stopped(stopping).await;
            handle.stop();
        }
    };
    tokio::task::spawn_local(refuse);
    let all_done = async {
        while let Some(ended) = services.join_next().await {
            ended.context("an accept loop panicked")??;
        }
        stopped(stopping).await;
        last_words(&handle).await;
        Ok(())
    };
    tokio::select! {
        result = all_done => result,
        ended = ended(&mut engine) => Err(ended),
    }
}

/// Listens for one service on all that carries it, and serves whoever comes.
fn listen(
    plan: ListenerPlan,
    engine: &Handle,
    begun: &Rc<Begun>,
    stopping: &watch::Receiver<bool>,
    services: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let ListenerPlan {
        served,
        address,
        carrier,
        tally,
    } = plan;
    let service = OneService {
        server: Server::new(served),
        tally,
        origin: Origin::AfXdp,
    };
    if carrier != Carrier::Kernel {
        let listener = engine.listen(address)?;
        services.spawn_local(accept(listener, service.clone(), stopping.clone()));
    }
    if carrier != Carrier::AfXdp {
        let listener =
            kernel::Listener::bind(address).with_context(|| format!("listening on {address}"))?;
        let service = OneService {
            origin: Origin::Kernel(Rc::clone(begun)),
            ..service
        };
        services.spawn_local(accept(listener, service, stopping.clone()));
    }
    Ok(())
}

/// How the engine ended, which it never should; without an engine, never.
async fn ended(engine: &mut Option<JoinHandle<std::io::Result<Infallible>>>) -> anyhow::Error {
    let Some(engine) = engine else {
        return std::future::pending().await;
    };
    match engine.await {
        Ok(Ok(never)) => match never {},
        Ok(Err(error)) => anyhow::Error::new(error).context("the AF_XDP engine stopped"),
        Err(panic) => anyhow::Error::new(panic).context("the AF_XDP engine"),
    }
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

/// What is done with the connections of one service on one worker.
#[derive(Clone)]
enum Server {
    Http(Rc<Proxy>),
    Tcp(Rc<Relay>),
}

impl Server {
    fn new(served: Served) -> Self {
        match served {
            Served::Http(service) => Self::Http(Proxy::new(service)),
            Served::Tcp(service) => Self::Tcp(Relay::new(service)),
        }
    }

    fn drain(&self) {
        match self {
            Self::Http(proxy) => proxy.drain(),
            Self::Tcp(relay) => relay.drain(),
        }
    }

    async fn serve<S>(
        self,
        carriage: Rc<dyn Carriage>,
        stream: S,
        client: ClientAddr,
    ) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        match self {
            Self::Http(proxy) => proxy.serve_on(Some(carriage), stream, client).await,
            // Boxed: the larger of the two would be the size of both.
            Self::Tcp(relay) => Box::pin(relay.serve_on(Some(carriage), stream, client)).await,
        }
    }
}

/// One service on one worker, and where the connections come from that a listener of it takes.
#[derive(Clone)]
struct OneService {
    server: Server,
    tally: Arc<Tally>,
    origin: Origin,
}

/// Serves the clients of one listener until told to stop, then drains.
async fn accept<L>(
    mut listener: L,
    service: OneService,
    stopping: watch::Receiver<bool>,
) -> anyhow::Result<()>
where
    L: Listener,
{
    let mut clients = JoinSet::new();
    let mut stop = pin!(stopped(stopping));
    loop {
        tokio::select! {
            () = stop.as_mut() => break,
            accepted = listener.accept() => {
                clients.spawn_local(serve_client(&service, accepted?));
                // Reaps what has ended, or the set would grow with each connection ever made. Here, and not by waiting for it,
                // which would wake this loop once more for each of them.
                while clients.try_join_next().is_some() {}
            }
        }
    }
    service.server.drain();
    let drained = async { while clients.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!(listen = %listener.local_addr(), left = clients.len(), "requests still in flight are cut off");
    }
    Ok(())
}

/// One client, from the first byte to the last. How it ended matters to this client alone.
fn serve_client<S>(service: &OneService, accepted: Accepted<S>) -> impl Future<Output = ()> + use<S>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let Accepted {
        stream,
        peer,
        local,
        mover,
    } = accepted;
    let client = ClientAddr { peer, local };
    let carried = Carried::new(&service.tally, &service.origin, mover, client);
    let server = service.server.clone();
    async move {
        let carriage: Rc<dyn Carriage> = Rc::<Carried>::clone(&carried);
        if let Err(error) = server.serve(carriage, stream, client).await {
            tracing::debug!(peer = %client.peer, %error, "client connection ended");
        }
        // Not before: a service that nothing moves of lets go of its carriage at once.
        drop(carried);
    }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the daemon is gone, which is a stop as well.
    let _ = stopping.wait_for(|stop| *stop).await;
}
