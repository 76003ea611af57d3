//! A small HTTP server on either transport of `lb-transport`: the same service on kernel sockets and on ours.
//!
//! Invariant: everything above [`Listener`] is one piece of code, so that what differs in a measurement is the
//! transport. `GET /bench/<n>` answers n bytes; `GET /counters` what the engine has counted; `GET /heap` how many bytes
//! the process has from its allocator. Not here: the load (`bench_tcp`), and anything of the proxy.

use std::{convert::Infallible, mem, net::SocketAddr};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use lb_transport::{
    Listener,
    af_xdp::{Engine, EngineConfig, Handle, PortConfig, RxChecksums},
    kernel,
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::{LocalSet, spawn_local},
};

use crate::{
    front::{self, Front},
    heap,
};

/// What the server runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Sockets of the host.
    Kernel,
    /// Our TCP over `AF_XDP`, in the namespace of the edge.
    AfXdp,
}

/// What it does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Serves HTTP by hyper.
    Hyper,
    /// Answers one request and keeps the connection, in no list: what is left is the transport's own. Ends those that ask
    /// for the heap.
    Hold,
}

/// How to run.
#[derive(Args)]
pub struct Options {
    /// What to run on.
    #[arg(long, value_enum)]
    transport: Transport,
    /// What to do with connections.
    #[arg(long, value_enum, default_value_t = Service::Hyper)]
    service: Service,
    /// Address and port that clients connect to.
    #[arg(long)]
    listen: SocketAddr,
    /// CPU to stay on.
    #[arg(long)]
    cpu: Option<usize>,
    /// Congestion control of kernel sockets, if not the host's default.
    #[arg(long)]
    congestion: Option<String>,
    /// Connections at most, of our TCP.
    #[arg(long)]
    max_flows: Option<usize>,
}

/// Where it says what it has from the allocator.
const HEAP: &str = "/heap";
/// Largest answer.
const LARGEST: usize = 1 << 20;

/// Serves until the process is ended; calls `ready` when it listens.
pub fn run(options: &Options, ready: impl FnOnce() -> Result<()>) -> Result<()> {
    if let Some(cpu) = options.cpu {
        let mut cpus = CpuSet::new();
        cpus.set(cpu)?;
        sched_setaffinity(Pid::from_raw(0), &cpus).with_context(|| format!("taking CPU {cpu}"))?;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of open files")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        match options.transport {
            Transport::Kernel => {
                let listener = kernel::Listener::bind(options.listen)?;
                if let Some(name) = &options.congestion {
                    // Not by sysctl: a namespace may choose only from what its host allows everybody.
                    SockRef::from(&listener)
                        .set_tcp_congestion(name.as_bytes())
                        .with_context(|| format!("choosing {name}"))?;
                }
                ready()?;
                serve(listener, options.service, None).await
            }
            Transport::AfXdp => over_our_tcp(options, ready).await,
        }
    })
}

async fn over_our_tcp(options: &Options, ready: impl FnOnce() -> Result<()>) -> Result<()> {
    let sockets = front::sockets()?;
    let mut program = Front::load(&[options.listen], &sockets)?;
    let port = PortConfig {
        mtu: 1500,
        // A veth peer leaves checksums to "the hardware".
        rx_checksums: RxChecksums::Trust,
    };
    let mut config = EngineConfig::default();
    if let Some(flows) = options.max_flows {
        config.tcp.max_flows = flows;
    }
    let sockets = sockets.into_iter().map(|socket| (socket, port)).collect();
    let engine = Engine::new(sockets, config)?;
    let handle = engine.handle();
    let listener = handle.listen(options.listen)?;
    program.attach()?;
    // As the product does: a task of its own, not a branch of this future.
    let engine = spawn_local(engine.run());
    ready()?;
    tokio::select! {
        ended = engine => match ended?? {},
        served = serve(listener, options.service, Some(handle)) => served,
    }
}

async fn serve<L: Listener>(
    mut listener: L,
    service: Service,
    handle: Option<Handle>,
) -> Result<()> {
    let body = pattern(LARGEST);
    loop {
        let mut stream = listener.accept().await?.stream;
        match service {
            Service::Hyper => {
                let (body, handle) = (body.clone(), handle.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = answer(request.uri().path(), &body, handle.as_ref());
                    async { Ok::<_, Infallible>(answer) }
                });
                let io = TokioIo::new(stream);
                // A client that breaks off is no news; wrk does so at the end of each run.
                spawn_local(http1::Builder::new().serve_connection(io, service));
            }
            Service::Hold => {
                let body = body.clone();
                spawn_local(async move {
                    if let Ok(Then::Keep) = answer_once(&mut stream, &body).await {
                        // Nobody looks for it again, and a list would grow by leaps.
                        mem::forget(stream);
                    }
                });
            }
        }
    }
}

fn answer(path: &str, body: &Bytes, handle: Option<&Handle>) -> Response<Full<Bytes>> {
    let text = match path.strip_prefix("/bench/") {
        Some(length) => length
            .parse()
            .ok()
            .filter(|length: &usize| *length <= body.len())
            .map(|length| body.slice(..length)),
        None if path == "/counters" => {
            let counters = handle.map(|handle| format!("{:?}", handle.counters()));
            Some(counters.unwrap_or_default().into())
        }
        None if path == HEAP => Some(heap::in_use().to_string().into()),
        None => None,
    };
    let status = match text {
        Some(_) => StatusCode::OK,
        None => StatusCode::NOT_FOUND,
    };
    let mut response = Response::new(Full::new(text.unwrap_or_default()));
    *response.status_mut() = status;
    response
}

/// What becomes of a connection.
enum Then {
    Keep,
    End,
}

/// Reads a request without a body and answers 1 KB, whatever it asks for, unless that is the heap.
async fn answer_once<S>(stream: &mut S, body: &Bytes) -> std::io::Result<Then>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut request = [0; 1024];
    let mut length = 0;
    while !request[..length].ends_with(b"\r\n\r\n") {
        match stream.read(&mut request[length..]).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            more => length += more,
        }
    }
    let path = request[..length].split(|byte| *byte == b' ').nth(1);
    let (body, then) = if path == Some(HEAP.as_bytes()) {
        (heap::in_use().to_string().into(), Then::End)
    } else {
        (body.slice(..1024), Then::Keep)
    };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    Ok(then)
}

/// Bytes whose place in the stream shows in their value.
pub fn pattern(length: usize) -> Bytes {
    (0..length).map(pattern_at).collect()
}

/// The byte at this place. The period is no power of two, so that a lost or doubled segment can't go unseen.
#[expect(clippy::cast_possible_truncation, reason = "the remainder fits")]
pub const fn pattern_at(place: usize) -> u8 {
    (place % 251) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_how_much() {
        let body = pattern(2048);
        let check = |path, status: u16| {
            assert_eq!(answer(path, &body, None).status(), status, "{path}");
        };
        check("/bench/1024", 200);
        check("/bench/2048", 200);
        check("/bench/2049", 404);
        check("/bench/-1", 404);
        check("/bench/", 404);
        check("/", 404);
        check("/counters", 200);
        check("/heap", 200);
    }
}
