//! The admin socket: a Unix socket on which the daemon answers `GET /status` with JSON.
//!
//! Reading only; nothing here changes the daemon. Whoever may open the socket may read: it is made
//! with mode 0600 by the daemon's user. The client half serves `lb status`.

mod status;

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context as _;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};

use crate::cli::Failure;

pub(crate) use status::{
    Counter, InterfaceStatus, ReasonStatus, ServerStatus, ServiceStatus, Status,
};

/// The socket file, removed when the daemon ends in order.
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Makes the socket. A file that a killed daemon left is replaced; a socket on which somebody
    /// still answers is not.
    pub(crate) fn bind(path: &Path) -> anyhow::Result<Self> {
        let at = || format!("admin socket {}", path.display());
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            anyhow::bail!(
                "{}: another lb answers there; stop it first, or set `admin` to another path",
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
        })
    }

    /// Answers until dropped. `status` is called once for each request.
    pub(crate) async fn serve(self, status: impl Fn() -> anyhow::Result<Status> + 'static) {
        let status = Rc::new(status);
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let status = Rc::clone(&status);
                    tokio::task::spawn_local(answer(stream, status));
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

impl Drop for Socket {
    fn drop(&mut self) {
        // Nothing is lost if it stays: the next start replaces it.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn answer(stream: UnixStream, status: Rc<impl Fn() -> anyhow::Result<Status>>) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(&request, &*status);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin socket");
    }
}

fn respond(
    request: &Request<Incoming>,
    status: &impl Fn() -> anyhow::Result<Status>,
) -> Response<Full<Bytes>> {
    if request.uri().path() != "/status" {
        return plain(StatusCode::NOT_FOUND, "only /status is here\n".to_owned());
    }
    if request.method() != Method::GET {
        return plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "/status answers GET only\n".to_owned(),
        );
    }
    let json = status().and_then(|status| Ok(serde_json::to_vec(&status)?));
    match json {
        Ok(json) => {
            let mut response = Response::new(Full::from(json));
            let json = header::HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        }
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")),
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

/// `lb status`.
#[expect(clippy::print_stdout, reason = "the answer of `lb status`")]
pub(crate) fn print_status(socket: &Path, format: Format) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let body = runtime.block_on(fetch(socket)).with_context(|| {
        format!(
            "asking the daemon on {} (is `lb run` up, and are you its user?)",
            socket.display()
        )
    })?;
    match format {
        Format::Json => println!("{}", String::from_utf8_lossy(&body)),
        Format::Text => print!("{}", serde_json::from_slice::<Status>(&body)?),
    }
    Ok(())
}

/// How `lb status` prints.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs: the daemon's answer as it is.
    Json,
}

async fn fetch(socket: &Path) -> anyhow::Result<Bytes> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/status")
        .header(header::HOST, "lb")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    anyhow::ensure!(
        status.is_success(),
        "{status}: {}",
        String::from_utf8_lossy(&body).trim_end()
    );
    Ok(body)
}
