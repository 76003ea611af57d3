//! Who a connection is logged in as: the rules of HTTP.SYS for connection-bound authentication.
//!
//! ```text
//!             T1: 401 + T2            T3 good: 200, Persistent-Auth: true
//! Anonymous ──────────────▶ Halfway ──────────────────────────────────▶ LoggedIn ──▶ no credential: 200
//!     ▲  ▲                     │                                          │   ▲
//!     │  └──── T3 bad: 401 ────┘      a request with Via, or a new T1     │   │ one leg: 200
//!     └───────────────────────────────────────────────────────────────────┘   └── from any state
//! ```
//!
//! With `Via` in the request a good login counts for that request alone and the answer says
//! `Persistent-Auth: false`. A T3 without its T1 on the same connection is a 400.
//! With Extended Protection a login is good only if it names the TLS channel that it came by (`vdir`).
//! Invariant: identity never outlives the connection and never comes from another one.

use std::cell::RefCell;

use anyhow::Result;

use super::{
    acceptor::{Acceptor, Answer},
    credential::{Credential, Leg, Scheme},
    journal::AuthLeg,
    users,
    vdir::Protection,
};

/// Authentication state of one connection.
#[derive(Debug)]
pub(super) struct Session {
    connection: u64,
    state: RefCell<State>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Anonymous,
    Halfway,
    LoggedIn { user: String },
}

/// Whether the request came through a proxy that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Direct,
    /// The request carries a `Via` header.
    Proxied,
}

/// What counts beside the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Circumstances {
    pub(super) route: Route,
    /// Extended Protection where the request goes.
    pub(super) protection: Protection,
}

/// What is decided about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Serve it as `user`.
    Granted { user: String, login: Option<Login> },
    /// 401 with the next token of a handshake.
    Challenge { scheme: Scheme, token: Vec<u8> },
    /// 401 with the list of schemes.
    Unauthorized,
    /// 400: a token that fits no handshake of this connection.
    BadRequest,
}

/// A connection-bound login that this request completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    /// Value of `Persistent-Auth`.
    pub(super) persistent: bool,
    /// SPNEGO's last token, for `WWW-Authenticate`.
    pub(super) token: Option<(Scheme, Vec<u8>)>,
}

impl Session {
    pub(super) fn new(connection: u64) -> Self {
        Self {
            connection,
            state: RefCell::new(State::Anonymous),
        }
    }

    /// Decides about a request and moves the connection's state on.
    pub(super) async fn decide(
        &self,
        credential: Credential,
        circumstances: Circumstances,
        acceptor: &Acceptor,
    ) -> Result<Decision> {
        let Circumstances { route, protection } = circumstances;
        match credential {
            Credential::Absent => Ok(self.without_credential(route)),
            Credential::Malformed => Ok(Decision::BadRequest),
            Credential::Basic { user, password } => Ok(match users::check(&user, &password) {
                Some(user) => Decision::Granted {
                    user: user.qualified(),
                    login: None,
                },
                None => Decision::Unauthorized,
            }),
            // The stand-in names no channel.
            Credential::OneLeg { .. } if protection == Protection::Require => Ok(self.log_out()),
            Credential::OneLeg { user, password } => Ok(match users::check(&user, &password) {
                Some(user) => self.log_in(user.qualified(), route, None),
                None => self.log_out(),
            }),
            Credential::Handshake { scheme, leg, token } => {
                let message = (scheme, leg, token.as_slice());
                self.handshake(message, circumstances, acceptor).await
            }
        }
    }

    /// Ends the session; a handshake that is under way will not go on.
    pub(super) async fn close(&self, acceptor: &Acceptor) -> Result<()> {
        if self.state.replace(State::Anonymous) == State::Halfway {
            acceptor.forget(self.connection).await?;
        }
        Ok(())
    }

    fn without_credential(&self, route: Route) -> Decision {
        let state = self.state.borrow().clone();
        match (state, route) {
            (State::LoggedIn { user }, Route::Direct) => Decision::Granted { user, login: None },
            // HTTP.SYS doesn't use what it cached for a connection when the request came through a proxy.
            (State::LoggedIn { .. }, Route::Proxied) | (State::Anonymous | State::Halfway, _) => {
                self.log_out()
            }
        }
    }

    async fn handshake(
        &self,
        (scheme, leg, token): (Scheme, Leg, &[u8]),
        Circumstances { route, protection }: Circumstances,
        acceptor: &Acceptor,
    ) -> Result<Decision> {
        let before = self.state.replace(State::Anonymous);
        match leg {
            Leg::First if before == State::Halfway => acceptor.forget(self.connection).await?,
            Leg::Later if before == State::Halfway => {}
            Leg::First => {}
            Leg::Later => return Ok(Decision::BadRequest),
        }
        Ok(
            match acceptor.step(self.connection, token, protection).await? {
                Answer::Continue { token } => {
                    self.state.replace(State::Halfway);
                    Decision::Challenge { scheme, token }
                }
                Answer::Complete { user, token } => {
                    self.log_in(user, route, token.map(|token| (scheme, token)))
                }
                Answer::Refused => Decision::Unauthorized,
            },
        )
    }

    fn log_in(&self, user: String, route: Route, token: Option<(Scheme, Vec<u8>)>) -> Decision {
        self.state.replace(match route {
            Route::Direct => State::LoggedIn { user: user.clone() },
            Route::Proxied => State::Anonymous,
        });
        Decision::Granted {
            user,
            login: Some(Login {
                persistent: route == Route::Direct,
                token,
            }),
        }
    }

    fn log_out(&self) -> Decision {
        self.state.replace(State::Anonymous);
        Decision::Unauthorized
    }
}

/// What the journal calls the credential.
pub(super) fn auth_leg(credential: &Credential) -> AuthLeg {
    match credential {
        Credential::Absent => AuthLeg::None,
        Credential::Handshake {
            leg: Leg::First, ..
        } => AuthLeg::First,
        Credential::Handshake {
            leg: Leg::Later, ..
        } => AuthLeg::Later,
        Credential::OneLeg { .. } => AuthLeg::OneLeg,
        Credential::Basic { .. } => AuthLeg::Basic,
        Credential::Malformed => AuthLeg::Malformed,
    }
}
