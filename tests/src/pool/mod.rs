//! A simulated Exchange server: what IIS and Exchange show on the wire, as far as a load balancer can tell.
//!
//! Real: NTLM and SPNEGO with real passwords and Extended Protection (`acceptor`), identity bound to the TCP connection, what
//! `Via` does to it, 401 before the body is read, health pages, enough EWS for a real client, forms login. Shaped like the
//! real ones: `ActiveSync`, MAPI and RPC over HTTP. Stand-in: the one-leg Negotiate token ([`credential::one_leg`]), for a
//! Kerberos service ticket. Not here: mail, HTTP/2.
//!
//! Invariant: written to the published behaviour of Exchange, never to our proxy; it shares no code with it.
//! One process per server (binary `lb-pool`), one thread in it; [`Server`] starts it inside a lab.

mod acceptor;
mod admin;
mod content;
pub mod credential;
mod http;
mod http1;
pub mod journal;
mod listen;
mod reply;
mod server;
mod session;
mod smtp;
mod users;
mod vdir;

pub use self::{
    content::ODD,
    listen::{Options, serve},
    server::{Fault, HTTP_PORT, HTTPS_PORT, SMTP_PORT, Server, Settings, Switch},
    users::{CROWD, DOMAIN, USERS, User},
};
