//! Persistence: a client that was at a server gets to the same one again, as long as that takes new requests.
//!
//! Of itself Exchange needs none (since 2013). A pinned connection goes before: this is about a client's *next* connection.
//! A client's connections land on different workers, so what is known of it is either in its own hands ([`cookie`]) or in a
//! table that all workers share without locks ([`table`]).

mod cookie;
mod table;

pub use cookie::{Cookie, CookieKey};
pub use table::Sources;

/// How a client is known again.
#[derive(Debug)]
pub enum Persistence {
    /// By its address.
    Source(Sources),
    /// By a cookie of ours.
    Cookie(Cookie),
}
