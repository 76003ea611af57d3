//! Switches that make a server fail: how tests and the demo take a server or one of its applications down.
//!
//! Plain HTTP on an address of its own, `PUT /health/<vdir>/down|up`, `PUT /delay/<milliseconds>`,
//! `PUT /connections/reset|accept`. Invariant: a switch holds for every request that begins after its answer.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;

/// How a server fails at the moment.
#[derive(Debug, Default)]
pub(super) struct Switches {
    down: RefCell<HashSet<String>>,
    delay: Cell<Duration>,
    connections: Cell<Connections>,
}

/// What happens to connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Connections {
    #[default]
    Accept,
    /// New ones are reset at once; open ones end with their next request.
    Reset,
}

impl Switches {
    /// Whether the health page of a virtual directory says that it is well.
    pub(super) fn is_healthy(&self, vdir: &str) -> bool {
        !self.down.borrow().contains(&vdir.to_ascii_lowercase())
    }

    /// How long every answer is held back.
    pub(super) fn delay(&self) -> Duration {
        self.delay.get()
    }

    pub(super) fn connections(&self) -> Connections {
        self.connections.get()
    }

    fn apply(&self, path: &str) -> Option<()> {
        let words: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match words.as_slice() {
            ["health", vdir, "down"] => {
                self.down.borrow_mut().insert(vdir.to_ascii_lowercase());
            }
            ["health", vdir, "up"] => {
                self.down.borrow_mut().remove(&vdir.to_ascii_lowercase());
            }
            ["delay", milliseconds] => {
                self.delay
                    .set(Duration::from_millis(milliseconds.parse().ok()?));
            }
            ["connections", "reset"] => self.connections.set(Connections::Reset),
            ["connections", "accept"] => self.connections.set(Connections::Accept),
            _ => return None,
        }
        Some(())
    }
}

/// Answers one request to the admin address.
pub(super) fn answer<B>(switches: &Switches, request: &Request<B>) -> Response<Full<Bytes>> {
    let applied = (request.method() == Method::PUT).then(|| switches.apply(request.uri().path()));
    let mut response = Response::new(Full::default());
    *response.status_mut() = match applied {
        Some(Some(())) => StatusCode::NO_CONTENT,
        Some(None) => StatusCode::NOT_FOUND,
        None => StatusCode::METHOD_NOT_ALLOWED,
    };
    response
}
