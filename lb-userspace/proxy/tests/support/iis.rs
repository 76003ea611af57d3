//! A server that binds identity to the TCP connection as IIS does; its tokens name the user instead of proving it.
//!
//! `NTLM T1-alice` is answered with 401 and `T2`, then `NTLM T3-alice` makes the connection alice's. `Negotiate
//! ONE-alice` does it in one leg, as Kerberos does, and no response header tells. `Basic alice` counts for its request only. A request with `Via` ends
//! the login with its response, and `Persistent-Auth: false` says so.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use super::{Message, Wire, origin};

/// What the server saw and holds.
#[derive(Default)]
pub(crate) struct Iis {
    /// Requests, with the number of the connection that each came on.
    pub(crate) seen: RefCell<Vec<(usize, Message)>>,
    /// Connections ever opened.
    pub(crate) opened: Cell<usize>,
    /// Connections open now.
    pub(crate) open: Cell<usize>,
    /// Logins completed.
    pub(crate) logins: Cell<usize>,
}

impl Iis {
    pub(crate) async fn start() -> (SocketAddr, Rc<Self>) {
        let iis = Rc::<Self>::default();
        let state = Rc::clone(&iis);
        let address = origin(move |wire, number| Rc::clone(&state).serve(wire, number)).await;
        (address, iis)
    }

    /// Connection numbers of the requests seen, in order.
    pub(crate) fn connections(&self) -> Vec<usize> {
        self.seen
            .borrow()
            .iter()
            .map(|(number, _)| *number)
            .collect()
    }

    async fn serve(self: Rc<Self>, mut wire: Wire, number: usize) -> Option<()> {
        self.opened.set(self.opened.get() + 1);
        self.open.set(self.open.get() + 1);
        let mut login = Login::default();
        while let Some(request) = wire.message().await {
            self.seen.borrow_mut().push((number, request.clone()));
            let answer = login.answer(&request, &self.logins);
            if wire.send(answer).await.is_none() || request.path() == "/close" {
                break;
            }
        }
        self.open.set(self.open.get() - 1);
        Some(())
    }
}

/// Identity of one connection.
#[derive(Default)]
struct Login {
    challenged: bool,
    user: Option<String>,
}

impl Login {
    fn answer(&mut self, request: &Message, logins: &Cell<usize>) -> String {
        let close = if request.path() == "/close" {
            "Connection: close\r\n"
        } else {
            ""
        };
        let credential = request.get("authorization").unwrap_or_default();
        let mut says_so = false;
        let user = if let Some(user) = credential.strip_prefix("Basic ") {
            Some(user.to_owned())
        } else if credential.starts_with("NTLM T1-") {
            self.challenged = true;
            return response(401, &format!("WWW-Authenticate: NTLM T2\r\n{close}"), "");
        } else if let Some(user) = credential
            .strip_prefix("NTLM T3-")
            .filter(|_| self.challenged)
        {
            says_so = true;
            self.challenged = false;
            self.log_in(user, logins)
        } else if let Some(user) = credential.strip_prefix("Negotiate ONE-") {
            self.log_in(user, logins)
        } else {
            self.user.clone()
        };
        let Some(user) = user else {
            let offers = "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\n";
            let offers = if request.path() == "/basic" {
                ""
            } else {
                offers
            };
            return response(401, &format!("{offers}{close}"), "");
        };
        let persistent = match (says_so, request.get("via")) {
            (_, Some(_)) => {
                self.user = None;
                "Persistent-Auth: false\r\n"
            }
            (true, None) => "Persistent-Auth: true\r\n",
            (false, None) => "",
        };
        response(200, &format!("{persistent}{close}"), &user)
    }

    fn log_in(&mut self, user: &str, logins: &Cell<usize>) -> Option<String> {
        logins.set(logins.get() + 1);
        self.user = Some(user.to_owned());
        self.user.clone()
    }
}

fn response(status: u16, lines: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\n{lines}Content-Length: {length}\r\n\r\n{body}")
}
