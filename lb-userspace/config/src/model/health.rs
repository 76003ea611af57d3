//! How servers are found to be up or down.

use std::num::NonZeroU8;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};

use super::UpstreamTls;

/// `health`.
#[derive(Clone, Debug, PartialEq)]
pub enum Health {
    /// `kind = "none"`: every server always counts as up.
    Unchecked,
    /// Probed on a schedule.
    Checked {
        /// What a probe does.
        check: Check,
        /// When it does it, and how many results make a change.
        schedule: Schedule,
    },
}

/// What a probe does, at the server's own address and port.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// Connects.
    Tcp,
    /// GET over plain TCP.
    Http(Get),
    /// GET over TLS.
    Https(Get, UpstreamTls),
    /// Reads the greeting of a mail server, over TLS if that is there.
    Greeting(Greeting, Option<UpstreamTls>),
}

/// What a mail server says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Which language it speaks.
    pub protocol: Mail,
    /// How a healthy greeting begins; never empty.
    pub expect: String,
}

/// Protocols in which the server speaks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mail {
    /// RFC 5321.
    Smtp,
    /// RFC 9051.
    Imap,
    /// RFC 1939.
    Pop,
}

/// An HTTP/1.1 GET that must be answered with status 200 and a body that begins with `expect`.
#[derive(Clone, Debug, PartialEq)]
pub struct Get {
    /// Request target.
    pub path: PathAndQuery,
    /// `Host` header.
    pub host: Authority,
    /// First bytes of a healthy body; empty if any body will do.
    pub expect: String,
}

/// When probes run, and how many results make a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// From the start of one probe to the start of the next.
    pub interval: Duration,
    /// For the whole probe, connecting included; never longer than `interval`.
    pub timeout: Duration,
    /// Good results in a row that bring a server up.
    pub rise: NonZeroU8,
    /// Bad results in a row that take a server down.
    pub fall: NonZeroU8,
}
