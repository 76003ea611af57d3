//! The HTTP proxy of `lb`: one client connection in, requests out to the servers of one service.
//!
//! What it is for: authentication that belongs to a TCP connection (NTLM, Kerberos) passes through it, and **no one is
//! ever someone else**. An upstream connection that a client may have authenticated is that client's alone, until
//! both are closed; the types in `upstream` leave no way back into sharing.
//!
//! Runs on a tokio `LocalRuntime`, or inside a `LocalSet`, one [`Proxy`] per worker and service; nothing on the
//! request path is shared between workers but counters and what is known of servers (`balance`). HTTP/1.1 only, both sides.
//! Knows nothing of XDP, configuration files and namespaces: it takes any byte stream.
//!
//! Where to read: `connection` (a client connection's life), `http1` (hyper, while there is something to do), `forward` (one request), `route` (whose it is), `exchange`
//! (the way to a server and back), `identity` (what pins), `upstream` (what pinning means), `expect` (`100-continue`), `headers` (the header policy),
//! `rules` (what an operator changes besides), `carriage` (what whoever carries a connection is told of it), `record` and `feed` (what was done with a request), `guard` (request smuggling; `DESYNC.md` has the cases), `tunnel` (`Upgrade`, `CONNECT`).

mod activity;
mod admission;
mod alarm;
mod balance;
mod body;
mod carriage;
mod client_certificate;
mod client_io;
mod connection;
mod counters;
mod entrance;
mod error;
mod exchange;
mod expect;
mod feed;
mod forward;
mod guard;
mod headers;
mod http1;
mod http2;
mod identity;
mod leftover;
mod pages;
mod parting;
mod proxy_header;
mod record;
pub mod relay;
mod route;
mod rules;
mod service;
mod session;
pub mod tls;
mod tunnel;
mod upstream;
mod wakers;

pub use admission::{
    Access, BodyRate, ConnectionLimits, Decision, Exceeded, Prefix, Rate, RequestLimits,
};
pub use balance::{
    Balancing, Cookie, CookieKey, Load, Method, Passive, Persistence, Queue, Role, Server, Sources,
    Symptom,
};
pub use carriage::{Bulk, BulkThresholds, Carriage};
pub use connection::Proxy;
pub use counters::{Counter, Counters};
pub use entrance::Entrance;
pub use error::{Error, Fault, Kind};
pub use expect::ExpectMode;
pub use feed::{Feed, Seen, Traced, Watcher};
pub use headers::{HeaderMode, HeaderPolicy, Inbound, Tell, Told};
pub use pages::{ErrorPages, Page};
pub use parting::{Parted, Parting};
pub use proxy_header::{ProxyProtocol, write as proxy_header};
pub use relay::{Relay, RelayService};
pub use route::{
    Action, HeaderEquals, HostPattern, PathPrefix, Redirect, Respond, Route, RouteCounters, When,
};
pub use rules::{HeaderRule, Piece, Rules, TargetPart, TargetRule, Template, Variable};
pub use service::{BodyLimits, ClientAddr, ClientTimeouts, Forwarding, Service, Timeouts};
pub use tunnel::Tunnels;
