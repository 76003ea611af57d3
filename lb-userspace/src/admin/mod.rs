//! The admin socket: a Unix socket on which the daemon answers `GET /status` and `/doctor`, `POST /flows` and
//! `POST /explain` with a question, and `POST /trace` with a line for each request until the asker goes; it takes orders by `POST /drain`. All in JSON. `GET /succession` is for the next daemon,
//! and stops being HTTP ([`crate::succession`]).
//!
//! Whoever may open the socket may read and order: it is made with mode 0600 by the daemon's user. The client half
//! serves `lb status`, `lb doctor`, `lb flows`, `lb explain`, `lb trace`, `lb drain` and `lb undrain`.

mod handover;
mod status;

use std::borrow::Cow;
use std::convert::Infallible;
use std::io;
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context as _;
use futures_util::stream;
use http::request::Builder;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lb_proxy::Watcher;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};

use crate::control::{Done, Order};
use crate::doctor::Diagnosis;
use crate::explain::{Outcome, Question};
use crate::flows::{Flows, Query};
use crate::succession::{self, Door};
use crate::trace::Filter;

pub(crate) use handover::HandoverStatus;
pub(crate) use status::{
    CertificateStatus, Counter, InterfaceStatus, ReasonStatus, RouteStatus, SeenCertificate,
    ServerStatus, ServiceStatus, Status,
};

/// Bytes of a question at most: a capture of as many packets as one question may have.
const MAX_QUESTION: usize = 4 << 20;

/// What an answer consists of.
type AnswerBody = UnsyncBoxBody<Bytes, anyhow::Error>;

/// Who knows the answers. None of them may take long: the control loop waits meanwhile.
pub(crate) trait Answers {
    /// The status now.
    async fn status(&self) -> anyhow::Result<Status>;
    /// The flows that were asked for.
    async fn flows(&self, query: &Query) -> anyhow::Result<Flows>;
    /// Does what the operator wants with a server.
    fn drain(&self, order: &Order) -> anyhow::Result<Done>;
    /// What is wrong.
    async fn doctor(&self) -> anyhow::Result<Diagnosis>;
    /// The requests from now on.
    fn watch(&self) -> Watcher;
    /// What would happen to each packet.
    fn explain(&self, question: Question) -> anyhow::Result<Vec<Outcome>>;
}

/// The socket file, removed when the daemon ends in order and has given it to nobody.
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    is_ours: bool,
}

impl Socket {
    /// Makes the socket. A file that a killed daemon left is replaced; a socket on which somebody
    /// still answers is not.
    pub(crate) fn bind(path: &Path) -> anyhow::Result<Self> {
        let at = || format!("admin socket {}", path.display());
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            anyhow::bail!(
                "{}: another lb answers there; stop it first, or set `admin` to another path, or take over from it \
                 with the same --pin",
                at()
            );
        }
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).with_context(at)?;
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(at);
            }
            _ => {}
        }
        let listener = UnixListener::bind(path).with_context(at)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).with_context(at)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            is_ours: true,
        })
    }

    /// The socket that an earlier daemon made.
    pub(crate) fn inherited(
        listener: std::os::unix::net::UnixListener,
        path: &Path,
    ) -> io::Result<Self> {
        Ok(Self {
            listener: UnixListener::from_std(listener)?,
            path: path.to_owned(),
            is_ours: true,
        })
    }

    /// Leaves the file to another daemon, which listens on it.
    pub(crate) fn give_away(mut self) {
        self.is_ours = false;
    }

    /// Answers until dropped; whoever wants to succeed this daemon is sent to the door.
    pub(crate) async fn serve(&self, answers: &Rc<impl Answers + 'static>, door: &Rc<Door>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (answers, door) = (Rc::clone(answers), Rc::clone(door));
                    tokio::task::spawn_local(answer(stream, answers, door));
                }
                Err(error) => {
                    // EMFILE and its like pass; a loop without a pause would burn the CPU meanwhile.
                    tracing::warn!(%error, "admin socket: accept failed");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.is_ours {
            // Nothing is lost if it stays: the next start replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

async fn answer(stream: UnixStream, answers: Rc<impl Answers>, door: Rc<Door>) {
    let (answers, door) = (&*answers, &door);
    let service = service_fn(|mut request: Request<Incoming>| async move {
        let response = if request.uri().path() == succession::PATH {
            door.answer(&mut request).map(whole)
        } else {
            respond(request, answers).await
        };
        Ok::<_, Infallible>(response)
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin socket");
    }
}

async fn respond(request: Request<Incoming>, answers: &impl Answers) -> Response<AnswerBody> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let body = match question(request).await {
        Ok(body) => body,
        Err(error) => return plain(StatusCode::BAD_REQUEST, format!("{error:#}\n")),
    };
    let answer = match (method, path.as_str()) {
        (Method::GET, "/status") => answers.status().await.and_then(|status| json(&status)),
        (Method::GET, "/doctor") => answers.doctor().await.and_then(|found| json(&found)),
        (Method::POST, "/flows") => match parse(&body) {
            Ok(query) => answers.flows(&query).await.and_then(|flows| json(&flows)),
            Err(error) => Err(error),
        },
        (Method::POST, "/drain") => parse(&body)
            .and_then(|order| answers.drain(&order))
            .and_then(|done| json(&done)),
        (Method::POST, "/trace") => parse(&body).map(|filter| follow(filter, answers.watch())),
        (Method::POST, "/explain") => parse(&body)
            .and_then(|question| answers.explain(question))
            .and_then(|outcomes| json(&outcomes)),
        _ => {
            let told =
                "GET /status and /doctor, POST /flows, /explain, /trace and /drain are here\n"
                    .to_owned();
            return plain(StatusCode::NOT_FOUND, told);
        }
    };
    answer.unwrap_or_else(|error| plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")))
}

async fn question(request: Request<Incoming>) -> anyhow::Result<Bytes> {
    let body = Limited::new(request.into_body(), MAX_QUESTION);
    match body.collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => anyhow::bail!("reading the question: {error}"),
    }
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> anyhow::Result<T> {
    serde_json::from_slice(body).context("reading the question")
}

fn json(answer: &impl Serialize) -> anyhow::Result<Response<AnswerBody>> {
    let mut response = Response::new(whole(serde_json::to_vec(answer)?.into()));
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

fn plain(status: StatusCode, text: String) -> Response<AnswerBody> {
    let mut response = Response::new(whole(text.into()));
    *response.status_mut() = status;
    response
}

fn whole(answer: Full<Bytes>) -> AnswerBody {
    answer.map_err(|never| match never {}).boxed_unsync()
}

/// A line for each request, until nobody reads any more.
fn follow(filter: Filter, watcher: Watcher) -> Response<AnswerBody> {
    let lines = stream::try_unfold((filter, watcher), |(filter, mut watcher)| async move {
        let line = filter.next(&mut watcher).await?;
        Ok(Some((Frame::data(line), (filter, watcher))))
    });
    let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
    let lines = header::HeaderValue::from_static("application/jsonl");
    response.headers_mut().insert(header::CONTENT_TYPE, lines);
    response
}

/// Asks the daemon for its status.
pub(crate) fn status(socket: &Path) -> anyhow::Result<Answer<Status>> {
    ask(socket, Request::get("/status"), Bytes::new())
}

/// Asks the daemon what is wrong.
pub(crate) fn doctor(socket: &Path) -> anyhow::Result<Answer<Diagnosis>> {
    ask(socket, Request::get("/doctor"), Bytes::new())
}

/// Asks the daemon for flows.
pub(crate) fn flows(socket: &Path, query: &Query) -> anyhow::Result<Answer<Flows>> {
    ask(
        socket,
        Request::post("/flows"),
        serde_json::to_vec(query)?.into(),
    )
}

/// Tells the daemon what to do with a server.
pub(crate) fn drain(socket: &Path, order: &Order) -> anyhow::Result<Answer<Done>> {
    ask(
        socket,
        Request::post("/drain"),
        serde_json::to_vec(order)?.into(),
    )
}

/// Asks the daemon about packets.
pub(crate) fn explain(socket: &Path, question: &Question) -> anyhow::Result<Answer<Vec<Outcome>>> {
    ask(
        socket,
        Request::post("/explain"),
        serde_json::to_vec(question)?.into(),
    )
}

/// Asks the daemon for requests, and hands each line of its answer to `print` until that has enough.
pub(crate) fn trace(
    socket: &Path,
    filter: &Filter,
    print: impl FnMut(&[u8]) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<()> {
    let question = serde_json::to_vec(filter)?.into();
    let runtime = runtime()?;
    runtime.block_on(async {
        let body = send(socket, Request::post("/trace"), question).await;
        lines(body.with_context(|| asking(socket))?, print).await
    })
}

async fn lines(
    mut body: Incoming,
    mut print: impl FnMut(&[u8]) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<()> {
    let mut rest = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.context("the daemon broke off")?;
        rest.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let flow = print(&rest[..end])?;
            rest.drain(..=end);
            if flow.is_break() {
                return Ok(());
            }
        }
    }
    anyhow::bail!("the daemon has ended")
}

/// What the daemon said.
pub(crate) struct Answer<T> {
    body: Bytes,
    kind: PhantomData<T>,
}

impl<T: DeserializeOwned> Answer<T> {
    /// As it is, for programs.
    pub(crate) fn json(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// As a value, for people.
    pub(crate) fn value(&self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.body).context("reading the daemon's answer")
    }
}

fn ask<T>(socket: &Path, request: Builder, body: Bytes) -> anyhow::Result<Answer<T>> {
    let answer = runtime()?.block_on(async {
        let body = send(socket, request, body).await?.collect().await?;
        anyhow::Ok(body.to_bytes())
    });
    let body = answer.with_context(|| asking(socket))?;
    let kind = PhantomData;
    Ok(Answer { body, kind })
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn asking(socket: &Path) -> String {
    format!(
        "asking the daemon on {} (is `lb run` up, and are you its user?)",
        socket.display()
    )
}

async fn send(socket: &Path, request: Builder, body: Bytes) -> anyhow::Result<Incoming> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = request.header(header::HOST, "lb").body(Full::new(body))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body();
    if status.is_success() {
        return Ok(body);
    }
    let told = body.collect().await?.to_bytes();
    anyhow::bail!("{status}: {}", String::from_utf8_lossy(&told).trim_end())
}
