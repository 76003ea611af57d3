//! Configuration of `lb`: from the text of `lb.toml` to types that can't be wrong.
//!
//! [`parse`] reports *all* mistakes of a file at once, each with line, column, key and what to do.
//! Invariant: whoever holds a [`Config`] need not check anything in it again. This crate does no
//! I/O: it is given text, and files that the text names (certificates) are its caller's to open,
//! relative to the directory of the configuration file. Called by `lb run`, `lb check` and reload.
//!
//! # The file
//!
//! Unknown keys are mistakes. Durations are strings such as `"500ms"`, `"10s"`, `"40m"`, `"1h"`.
//!
//! | key | value | default |
//! |---|---|---|
//! | `interfaces` | list of interfaces that get the XDP program | required |
//! | `admin` | Unix socket of `lb status` | [`DEFAULT_ADMIN`] |
//! | `drain_timeout` | how long a daemon whose place another one has taken (`lb run` with its `--pin`) may go on serving the connections that it has, 1 s to 24 h | [`DEFAULT_DRAIN_TIMEOUT`] |
//! | `af_xdp.connections` | connections of each worker's own TCP, at most [`MAX_CONNECTIONS`]; SYNs above that are not answered | [`DEFAULT_CONNECTIONS`] |
//! | `af_xdp.memory_mib` | bytes of all their buffers together, 16 to 65536 MiB: windows shrink when half is used, SYNs are not answered when an eighth is left | 256 |
//! | `af_xdp.spin_us` | how long an idle worker looks for packets before it sleeps, up to 1000 µs: 20 to 50 are worth it on a CPU of its own | 0 |
//! | `af_xdp.moves_per_second` | connections that each worker moves to the kernel's TCP in a second, at most [`MAX_MOVES_PER_SECOND`]; more stay (`handover` of a service) | [`DEFAULT_MOVES_PER_SECOND`] |
//! | `af_xdp.moved_connections` | connections of each worker that have moved and are still there, at most [`MAX_MOVED_CONNECTIONS`]; more stay. Each is an open file of the daemon | half of the open files that the daemon may have, shared by the workers |
//! | `flows.max` | L4 flows of each family that must fit, at most [`MAX_FLOWS`] | [`DEFAULT_FLOWS`] |
//! | `flows.hash_key` | secret of at least [`MIN_HASH_KEY`] bytes; hosts with the same one and the same services choose the same server for every flow | random for each start |
//! | `flows.orphaned_after` | with `lb run --pin`: how long no daemon may be there before services that ask for it (`when_daemon_gone`, and all that are proxied by `AF_XDP`) are left to the host's stack, 2 s to 24 h | [`DEFAULT_ORPHANED_AFTER`] |
//! | `nat.addresses` | source addresses for `source = "nat"`, routed to this host, of each family that needs one | required in `[nat]` |
//! | `nat.ports` | source ports, `"first-last"` | [`DEFAULT_NAT_PORTS`] |
//! | `service` | one `[[service]]` for each virtual address | at least one |
//! | `allow`, `deny`, `deny_file` | who may connect to any service at all; as in a service, and asked first | everyone |
//!
//! **`[[service]]`**, all modes:
//!
//! | key | value | default |
//! |---|---|---|
//! | `name` | 1 to 63 of `a-z`, `0-9`, `-`; unique | required |
//! | `listen` | address and port; IPv6 as `"[fd00::1]:25"`; unique for its protocol | required |
//! | `protocol` | `"tcp"`; or `"udp"`, only in `mode = "l4"` | `"tcp"` |
//! | `mode` | `"http"` (proxied in userspace), `"tcp"` (relayed in userspace), `"l4"` (forwarded in the kernel) | required |
//! | `servers` | list of `"address:port"` or `{ address, weight, name }`; in `mode = "l4"` of the service's family | at least one |
//! | `servers[].weight` | share of connections, up to [`MAX_WEIGHT`]; 0 in `mode = "l4"` lets a server keep its flows and gives it no new ones | 1 |
//! | `servers[].max_connections` | not in `mode = "l4"`: most requests under way and logins (pinned connections) at once, of all routes together, or relayed connections, up to [`MAX_SERVER_CONNECTIONS`]; more wait (`queue`), or go to another server | no limit |
//! | `servers[].backup` | not in `mode = "l4"`: `true` for a server that is used only while no other of the route is up (LoadMaster's sorry server) | `false` |
//! | `servers[].name` | as a service's; unique in the service | the address |
//! | `health` | see below | `{ kind = "tcp" }`; for `"udp"`, `{ kind = "none" }` |
//! | `idle_timeout` | silence that ends a connection or flow, 1 s to 24 h | exchange, tcp, l4: [`EXCHANGE_IDLE_TIMEOUT`]; plain: [`PLAIN_IDLE_TIMEOUT`]; udp: [`DATAGRAM_IDLE_TIMEOUT`] |
//! | `allow`, `deny` | lists of networks, such as `"10.0.0.0/8"` and `"2001:db8::/32"`; the longest one that holds a client's address decides. Who is not in any is let in, unless there is an `allow`. XDP drops what is denied (`denied`), before there is a flow or a connection; established ones are not looked for | everyone |
//! | `deny_file` | file with more networks to deny, one a line; `#` begins a comment | none |
//!
//! **`mode = "http"`** and **`mode = "tcp"`**:
//!
//! | key | value | default |
//! |---|---|---|
//! | `limits` | see below | none |
//! | `proxy_protocol` | `"v1"`, `"v2"`: servers are told by a PROXY header who each connection is from, before TLS if there is any. Such a connection is one client's, as if it had logged in. Also of a route | none |
//! | `accept_proxy_protocol` | `{ from = ["10.0.0.0/8"] }`: another balancer there says by a PROXY header (v1 or v2) who it speaks for; from there it is required, and from elsewhere no connection is taken. The address learnt is the client's for `allow`, `deny`, limits, headers and logs (and so lists can't be held by XDP) | not known |
//! | `balance` | `"round-robin"` (as often as `weight` says; LoadMaster's `rr`, `wrr`), `"least-connections"` (fewest requests under way and logins for its weight; `lc`, `wlc`), `"source-hash"` (each client address, or IPv6 /64, to the same server as long as that is up; `sh`), `{ header = "X-Group" }` (each value to the same; without the header as `"source-hash"`; only in `mode = "http"`). Not there: `adaptive`, `fixed` (see `servers[].backup`) | `"round-robin"` |
//! | `persistence` | `{ by = "source", timeout = "1h" }`: a client address, or IPv6 /64, gets to its server again until it was silent for `timeout`, 1 m to 672 h, [`DEFAULT_PERSISTENCE_TIMEOUT`]; lost with the daemon. `{ by = "cookie", name = "lb-server" }`: only in `mode = "http"`, by a cookie of ours that no server sees, one name for routes that have the same servers; it outlasts the daemon if `flows.hash_key` is set. Exchange needs neither | none |
//! | `queue` | `{ length, timeout }`: how many requests may wait for a server below its `max_connections`, 1 to 100000, first come, first served, and how long, 100 ms to 1 m, [`DEFAULT_QUEUE_TIMEOUT`]; others are answered with 503 | nobody waits |
//! | `passive` | `{ failures, on }`: so many failures in a row, 1 to 1000, take a server out until its next good probe; `on` is a list of `"connect"` (no connection), `"reset"` (closed before the response), `"timeout"` (no response in time), `"gateway"` (502, 503, 504); or `"off"` | `{ failures = 5, on = ["connect"] }`; with `health.kind = "none"`, `"off"` |
//! | `slow_start` | how long the share of a server that came back takes to grow to all of it, 1 s to 10 m | all at once |
//! | `minimum_healthy` | fewer servers up than this, backups not counted, are logged once and shown by `lb status`; nothing else changes | no warning |
//! | `retries` | how often a request of which no server has seen anything is tried again, 0 to 10 | [`DEFAULT_RETRIES`] |
//!
//! **`mode = "tcp"`** has these, `transport`, `handover` (of which `streamed` and `begin`), `tls` and `upstream_tls` (as in `mode = "http"`, each optional), and what all modes have. It is
//! for protocols in which the server may speak first, such as SMTP, IMAP and POP. `STARTTLS` passes through it from client to server and is
//! never ended here: LoadMaster's STARTTLS modes have no counterpart.
//!
//! **`mode = "http"`** only:
//!
//! | key | value | default |
//! |---|---|---|
//! | `profile` | `"exchange"`, `"plain"` | `"plain"` |
//! | `headers` | [`HeaderMode`]: `"none"`, `"x-forwarded-for"`, `"x-forwarded-for+via"`, `"x-clientside"`, `"x-clientside+via"`, `"via"`, `"legacy"` | exchange: `"none"`; plain: `"x-forwarded-for"` |
//! | `transport` | `"auto"`, `"af_xdp"`, `"kernel"` | `"auto"` |
//! | `handover` | only with `transport = "auto"`: when a connection moves from the worker's TCP to the kernel's; see below | as below |
//! | `tls` | `{ certificate, key }`: PEM files, shown to clients; see below for more | plain HTTP |
//! | `upstream_tls` | `{ server_name, ca }`: what servers must prove; `verify = "none"` in place of `ca` accepts anyone | plain HTTP |
//! | `response_timeout` | longest wait for a response's head, 1 s to 24 h | [`EXCHANGE_RESPONSE_TIMEOUT`], [`PLAIN_RESPONSE_TIMEOUT`] |
//! | `extended_protection` | the servers bind logins to the certificate that clients see: `tls` without `upstream_tls` is a mistake, and the daemon doesn't start if a server shows another certificate than we do for `upstream_tls.server_name` | `false` |
//! | `expect` | what becomes of `Expect: 100-continue`: `"forward"` (the server gets it, the client gets the server's 100), `"local"` (the client gets a 100 at once, the server doesn't see it), `"strip"` (nobody gets anything), `"require"` (as forward, and no body is taken before the server's 100 or response) | `"forward"` |
//! | `upgrade` | protocols that connections may change to, such as `["websocket"]`; `[]` removes `Upgrade` from requests | `[]` |
//! | `connect` | whether `CONNECT` is passed on to servers; else 501 | `false` |
//! | `route` | one `[[service.route]]` for each part of the requests, tried in the order of the file; what none takes is answered with 404 | one for all requests |
//! | `forwarded` | list of `"x-forwarded-for"`, `"x-forwarded-proto"`, `"x-forwarded-port"`, `"x-forwarded-host"`, `"forwarded"` (RFC 7239), beside what `headers` says; `[]` for none | none |
//! | `inbound` | what becomes of `Via`, `X-ClientSide`, `Forwarded` and `X-Forwarded-*` of clients: `"strip"`, or `"keep"` behind a trusted proxy (lists get ours at their end, and what can be said only once stays) | `"strip"` |
//! | `request_rules`, `response_rules` | lists of rules, see below; a route's list replaces its service's | `[]` |
//! | `hsts` | `Strict-Transport-Security` on every response of a service with `tls`: days up to `"3650d"`, or `{ max_age, reach }` with `reach` `"host"`, `"subdomains"`, `"preload"` | none |
//! | `error_pages` | `{ status = file }`, statuses 400 to 599: UTF-8 files that end in `.html`, `.htm`, `.txt`, `.json` or `.xml`, of at most 256 KiB, for what the proxy itself answers; a route's are looked up before its service's | a line of text |
//!
//! **`[[service.route]]`**: for each list that is there, one of it must match (of `header`, all). A route forwards, unless it has
//! `redirect` or `respond`. `servers`, `health`, `headers`, `upstream_tls`, `idle_timeout`, `response_timeout`, `extended_protection`, `forwarded`,
//! `inbound`, `request_rules`, `response_rules`, `error_pages`, `expect`, `upgrade`, `connect`, and all from `balance` to `retries` as above; what a
//! route lacks is its service's.
//!
//! | key | value | default |
//! |---|---|---|
//! | `name` | as a service's; unique in the service | required |
//! | `host` | list of names in `Host`, without port; `"*.example.com"` for those one label below; over TLS the client must have asked for the same name (SNI), else 421 | any |
//! | `path` | list of beginnings that end at a `/` or with the path, without regard to case: `"/owa"` takes `/OWA/x`, not `/owafoo`; with `=` before it a whole path: `"=/"`. A request whose path is another route's once it is decoded is answered with 400 | any |
//! | `method` | list of methods | any |
//! | `header` | list of `{ name, value }`; without `value` any will do | any |
//! | `redirect` | `{ to, status }`: URL or path with `{host}`, `{path}` (and query), `{query}` of the request; 301, 302, 303, 307, 308 | status 302 |
//! | `respond` | `{ status, body }` | |
//!
//! **`handover`**: with `transport = "auto"` on `AF_XDP`, small connections live on the workers' TCP and big ones on the kernel's, to which
//! they move without their client noticing. `"off"` leaves all where they began, on the workers'. Bytes are from [`MIN_BULK`] to [`MAX_BULK`].
//!
//! | key | value | default |
//! |---|---|---|
//! | `response` | (http) a connection moves at the head of a response that announces so many bytes | [`DEFAULT_BULK_RESPONSE`] |
//! | `upload` | (http) at the head of a request that announces so many bytes | [`DEFAULT_BULK_UPLOAD`] |
//! | `streamed` | once so many bytes of a body of unknown length have passed; of a relay, in both directions together | [`DEFAULT_BULK_STREAMED`] |
//! | `repeated` | (http) at the head of the fourth response or a later one, if they have so many bytes each on average | [`DEFAULT_BULK_REPEATED`] |
//! | `begin` | which TCP takes new connections: `"af_xdp"` (the workers'), `"kernel"`, `"adaptive"` (the kernel's while more than three in five of a service's connections turn out to be bulk, and never under a flood of SYNs) | `"adaptive"` |
//!
//! Connections that change to another protocol (`upgrade`, `connect`) move when they do.
//!
//! **`tls`**: all its files are read again when they change, without a restart; what is wrong with them is logged, and what was good stays.
//!
//! | key | value | default |
//! |---|---|---|
//! | `certificate`, `key`, `ocsp` | PEM file with the chain, leaf first; PEM file with its key; DER file with an OCSP response to staple | required, but for `ocsp` |
//! | `certificates` | in place of those: a list of `{ certificate, key, ocsp }`. A client is shown the first one that has the name it asks for (SNI) among its names, `"*.example.com"` included; one that has only names of earlier ones is *staged* for the next change | |
//! | `strict_sni` | clients that ask for no name, or one that no certificate has, are refused; else they are shown the first certificate | `false` |
//! | `versions` | list of `"1.2"` and `"1.3"` | both |
//! | `ciphers` | `"default"`, or a list of [`CipherSuite`] names in order of preference, with one for each version | `"default"` |
//! | `client_certificates` | `{ ca, mode, header }`: PEM file with the roots that vouch for clients; `"required"`, or `"optional"` for clients that may also have none; in which header servers are told the subject | none asked for |
//! | `http2` | clients may speak HTTP/2; requests with a credential that logs in connections (NTLM, Kerberos) are refused on it, and clients repeat them in HTTP/1.1. Not with `profile = "exchange"` or `extended_protection` | `false` |
//!
//! To change the certificate of servers with Extended Protection: put the next one into `certificates` behind the present one; import
//! it on every server; then, without a pause between, bind it on every server and copy it over the files of the first. Until then
//! `lb status` and `lb doctor` say which server shows which of the two. A certificate that renews itself on this host alone (ACME)
//! ends every login.
//!
//! **Rules**, done in the order of the file; those of `response_rules` to servers' responses, and only the first five:
//!
//! | rule | does |
//! |---|---|
//! | `{ add = "X-A", value = "…" }` | one line more |
//! | `{ set = "X-A", value = "…" }` | one line in place of all of that name; the only rule for `Host` |
//! | `{ remove = "X-A" }` | no line of that name |
//! | `{ copy = "X-A", to = "X-B" }` | the lines of one in place of those of the other, if there are any |
//! | `{ rewrite = "X-A", pattern = "^http:(.*)$", with = "https:$1" }` | replaces the first match in each line |
//! | `{ path_prefix = "/old", with = "/new" }` | replaces the beginning of the path, found as by `path` of a route |
//! | `{ path = "^/u/(.*)$", with = "/users/$1" }`; `query` and `url` in place of `path` | replaces the first match in the path, the query (without `?`), or both |
//!
//! (LoadMaster's rules of type 1 to 4 are `add`, `remove`, `rewrite` and `url`; 5, which changes bodies, is not offered: bodies stream.)
//!
//! In a `value`, `{client_ip}`, `{client_port}`, `{listen_ip}`, `{listen_port}`, `{scheme}`, `{sni}`, `{method}`, `{host}`, `{path}`, `{query}`
//! are the client's own, before any rule; `{service}`, `{route}`, and in `response_rules` `{server}`, are names. Patterns are those of the
//! [regex crate](https://docs.rs/regex) on bytes (`(?i)` for any case), matched in linear time. A request's route is chosen before
//! its target is rewritten; a target that is none afterwards, or still goes up by `..`, is answered with 400. No rule may change what frames a
//! message or is for one connection (`Content-Length`, `Connection`, `Expect` and the like). On `profile = "exchange"`, one that makes
//! `Via`, or changes `Authorization`, `WWW-Authenticate`, `Persistent-Auth`, `Cookie` or `Set-Cookie`, needs `force = true`.
//! A name that wasn't in the message before is written `Like-This`.
//!
//! **`limits`**: those of a service are held over all its workers and routes. A route's own `requests`, `rate` and `rate_per_client` are held in
//! addition; its `body` and `body_rate` replace the service's. A client is one IPv4 address, or one IPv6 /64. Up to 65,536 clients are known by
//! their rate at once; beyond that, those that asked least are forgotten.
//!
//! | key | value | default |
//! |---|---|---|
//! | `connections` | of clients at once, up to [`MAX_CONNECTIONS`]; one more is closed | none |
//! | `connections_per_client` | of these, from one client | none |
//! | `tls_handshake` | longest time for it, 1 s to 1 h | 30 s |
//! | `headers` | (http) lines in the head of a request, up to 10000; more are answered with 431 | 100 |
//! | `header_bytes` | (http) bytes in the head of a request, 8192 to 1048576; more are answered with 431 | some 400,000 |
//! | `request_head` | (http) longest time for the head of a request, or a PROXY header, 1 s to 1 h | 30 s |
//! | `requests` | (http, route) requests under way at once; more are answered with 503 | none |
//! | `rate` | (http, route) requests in a time: a number for each second, or `{ requests, per, burst }`, of which `burst` (`requests`) may come at once; `per` from 1 s (the default) to 24 h | none |
//! | `rate_per_client` | (http, route) as `rate`, for each client | none |
//! | `when_exceeded` | (http, route) what a request above a rate gets: `"429"` or `"503"`, both with `Retry-After`, or `"drop"`: its connection is closed | `"429"` |
//! | `body` | (http, route) bytes of a request's body, up to 4294967295; more are answered with 413, before a server is asked if the length is declared | none |
//! | `body_rate` | (http, route) least speed of a request's body in bytes for each second, or `{ bytes_per_second, grace }`: `grace`, 1 s to 1 h, is how long a client may be silent at first. Time runs only while the server waits for the client; never for `RPC_IN_DATA` | none; `grace` 10 s |
//!
//! **`mode = "l4"`** only:
//!
//! | key | value | default |
//! |---|---|---|
//! | `forward` | `"nat"` (addresses and ports are rewritten, answers come back here), `"dsr"` (the server is on the same link), `"ipip"`, `"gue"` (in a tunnel); in the last three the server has the virtual address on its loopback, listens on the same port, and answers the client itself | `"nat"` |
//! | `source` | only with `forward = "nat"`: `"nat"` (server sees `nat.addresses`), `"client"` (server sees the client, and its route to the client must lead through this host) | `"nat"` |
//! | `affinity` | `"none"`, `"client"` (all flows of a client address to one server) | `"none"` |
//! | `mss` | greatest TCP segment, in bytes, that either side may announce in its SYN, 536 to 8960: for ways that take less than their ends believe | left alone |
//! | `when_server_fails` | `"leave"` (its flows stay), `"cut"` (they are forgotten: clients are reset, or with another `forward` than `"nat"` given another server) | `"leave"` |
//! | `when_daemon_gone` | with `lb run --pin`, after `flows.orphaned_after`: `"forward"` (packets go on to the servers, which nobody checks any more), `"pass"` (the host's stack gets them: a listener of its own answers, or clients are reset) | `"forward"` |
//!
//! **`health`**:
//!
//! | key | value | default |
//! |---|---|---|
//! | `kind` | `"tcp"` (connect), `"http"`, `"https"` (GET answered by 200), `"smtp"`, `"imap"`, `"pop"`, and over TLS `"smtps"`, `"imaps"`, `"pops"` (greeting), `"none"` | `"tcp"` |
//! | `path` | request target of the GET | exchange: `healthcheck.htm` in the virtual directory of the route's first path, or in `/owa`; else `"/"` |
//! | `host` | `Host` header, and SNI over TLS | `upstream_tls.server_name`, else required |
//! | `expect` | how a healthy body or greeting begins, at most 256 bytes | exchange: `"200 OK"`; else any body; `"220"`, `"* OK"`, `"+OK"` |
//! | `ca`, `verify` | over TLS, as in `upstream_tls` | those of `upstream_tls`, else required |
//! | `interval` | start to start, 100 ms to 1 h | [`DEFAULT_INTERVAL`] |
//! | `timeout` | of one whole probe, 10 ms up to `interval` | [`DEFAULT_PROBE_TIMEOUT`], or `interval` if shorter |
//! | `rise`, `fall` | results in a row that change the state, 1 to 255 | [`DEFAULT_RISE`], [`DEFAULT_FALL`] |

mod error;
mod health;
mod model;
mod reader;
mod root;
mod service;
mod value;

use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

use toml::de::DeTable;

pub use error::{Cost, Error, Errors, Place, Problem, Warning};
pub use model::{
    Access, Action, AfXdp, Affinity, BalanceMethod, Balancing, Begin, BodyLimits, BodyRate,
    CertificateFiles, Check, CipherSuite, Ciphers, ClientCertificateMode, ClientCertificates,
    Config, ErrorPage, ErrorPages, Expect, Flows, Forward, Forwarding, Get, Greeting, Handover,
    HashKey, HeaderEquals, HeaderMode, HeaderRule, Health, HostPattern, Hsts, HstsReach, Http,
    Inbound, InterfaceName, L4, Limits, Mail, Mode, Name, Nat, NotANetwork, Passive, PathPrefix,
    Pattern, Persistence, Piece, PoolOf, PortRange, Prefix, Profile, Protocol, ProxyProtocol,
    Queue, Rate, Redirect, RequestLimits, Respond, Route, Rules, Schedule, Server, Service, Source,
    Symptom, TargetPart, TargetRule, Tcp, Tell, Template, Tls, TlsVersion, Transport, Tunnels,
    UpgradeTo, UpstreamTls, Variable, Verify, When, WhenDaemonGone, WhenExceeded, WhenServerFails,
};

use error::Path;
use reader::{Report, Spot, Table};

/// Reads the text of a configuration file.
///
/// # Errors
/// All mistakes in it. If the text is not TOML, only what is wrong with its syntax: what a reader
/// makes of a broken text would bring up mistakes that nobody made.
pub fn parse(text: &str) -> Result<Config, Errors> {
    let report = Report::new(text);
    let (tree, syntax) = DeTable::parse_recoverable(text);
    for error in &syntax {
        let span = error.span().unwrap_or_default();
        let message = match text.get(span.clone()) {
            None | Some("") => error.message().to_owned(),
            Some(found) => format!("{}: `{}`", error.message(), found.escape_debug()),
        };
        let offset = span.start;
        let path = Path::default();
        report.error(&Spot { offset, path }, Problem::Syntax(message));
    }
    let config = syntax
        .is_empty()
        .then(|| root::read(&Table::root(&report, &tree, root::SCHEMA)))
        .flatten();
    let (errors, warnings) = report.finish();
    match config {
        Some(config) if errors.is_empty() => Ok(Config { warnings, ..config }),
        _ => Err(Errors::new(errors)),
    }
}

/// Under `/run`, because a socket must not outlive a reboot (file-hierarchy(7)).
pub const DEFAULT_ADMIN: &str = "/run/lb/lb.sock";

/// As long as `ActiveSync` holds a request.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_hours(1);

/// A million connections of a worker, idle ones for less than 1 KiB each.
pub const DEFAULT_CONNECTIONS: NonZeroU32 = NonZeroU32::new(1 << 20).expect("not zero");

/// Sixteen million.
pub const MAX_CONNECTIONS: u32 = 1 << 24;

/// Every move costs the worker some 30 µs, and so these 3 % of its time.
pub const DEFAULT_MOVES_PER_SECOND: NonZeroU32 = NonZeroU32::new(1000).expect("not zero");

/// Three quarters of a worker's time.
pub const MAX_MOVES_PER_SECOND: u32 = 25_000;

/// As many as the data plane can tell apart, of each family.
pub const MAX_MOVED_CONNECTIONS: u32 = 65_536;

/// From here on the kernel's TCP is the faster one on a connection that ends after the response, too: at 256 KB both are as fast, and
/// a move costs something (`cargo xtask bench handover`). One that is kept has [`DEFAULT_BULK_REPEATED`].
pub const DEFAULT_BULK_RESPONSE: NonZeroU32 = NonZeroU32::new(512 << 10).expect("not zero");

/// Less than of a response: our TCP sends several segments at once, and receives them one by one.
pub const DEFAULT_BULK_UPLOAD: NonZeroU32 = NonZeroU32::new(64 << 10).expect("not zero");

/// As of a response; what was streamed so far says nothing of the rest.
pub const DEFAULT_BULK_STREAMED: NonZeroU32 = NonZeroU32::new(512 << 10).expect("not zero");

/// From here on the kernel's TCP is the faster one on connections that are kept: `cargo xtask bench handover`.
pub const DEFAULT_BULK_REPEATED: NonZeroU32 = NonZeroU32::new(6 << 10).expect("not zero");

/// Below, `AF_XDP` is the faster one anyway.
pub const MIN_BULK: u32 = 4 << 10;

/// A gibibyte, which is "never" for most.
pub const MAX_BULK: u32 = 1 << 30;

/// A million connections: 64 MiB of one-cache-line entries.
pub const DEFAULT_FLOWS: NonZeroU32 = NonZeroU32::new(1_000_000).expect("not zero");

/// 4 GiB of one-cache-line entries.
pub const MAX_FLOWS: u32 = 1 << 26;

/// Longer than a restart or an upgrade takes.
pub const DEFAULT_ORPHANED_AFTER: Duration = Duration::from_mins(1);

/// Above the ports that Linux takes for its own connections (`net.ipv4.ip_local_port_range` is
/// 32768 to 60999 unless changed), so that an address of `[nat]` may be the host's own. A wider
/// range is right for an address that only `lb` uses: on a shared one, a connection of the host and
/// a forwarded one could get the same address and port, and the host would never see its replies.
pub const DEFAULT_NAT_PORTS: PortRange = PortRange::new(61_000, 65_535).expect("not empty");

/// What the data plane has room for: [`lb_ebpf::abi::MAX_SNAT_ADDRESSES`].
pub const MAX_NAT_ADDRESSES: usize = lb_ebpf::abi::MAX_SNAT_ADDRESSES as usize;

/// What the data plane has room for: [`lb_ebpf::abi::MAX_SERVICES`].
pub const MAX_SERVICES: usize = lb_ebpf::abi::MAX_SERVICES as usize;

/// What the data plane has room for: [`lb_ebpf::abi::MAX_BACKENDS`].
pub const MAX_SERVERS: usize = lb_ebpf::abi::MAX_BACKENDS as usize;

/// LoadMaster's default weight, so that its weights can be taken over; a Maglev ring of 65,537
/// slots still gives a server of weight 1 beside one of weight 1000 some 65 slots.
pub const MAX_WEIGHT: u32 = 1000;

/// Microsoft's order of timeouts: Exchange's keep-alive (15 to 30 min), then the load balancer's,
/// then the firewall's (1 h), so that Exchange and not the load balancer ends a session.
pub const EXCHANGE_IDLE_TIMEOUT: Duration = Duration::from_mins(40);

/// RFC 4787 REQ-5 recommends it for a NAT.
pub const DATAGRAM_IDLE_TIMEOUT: Duration = Duration::from_mins(5);

/// 128 bits, if every byte is worth eight.
pub const MIN_HASH_KEY: usize = 16;

/// `ActiveSync` holds a request for up to 3540 s (MS-ASCMD 2.2.3.88.1).
pub const EXCHANGE_RESPONSE_TIMEOUT: Duration = Duration::from_hours(1);

/// LoadMaster's `Idletime`.
pub const PLAIN_IDLE_TIMEOUT: Duration = Duration::from_mins(11);

/// As long as silence may last anyway.
pub const PLAIN_RESPONSE_TIMEOUT: Duration = PLAIN_IDLE_TIMEOUT;

/// LoadMaster has 9 s; a server that dies is out after two of them and a timeout.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);

/// As LoadMaster's.
pub const DEFAULT_PROBE_TIMEOUT: Duration = Duration::from_secs(4);

/// As many as [`DEFAULT_FALL`]: one lucky answer is no recovery.
pub const DEFAULT_RISE: NonZeroU8 = NonZeroU8::new(2).expect("not zero");

/// As LoadMaster's: one lost packet is no failure.
pub const DEFAULT_FALL: NonZeroU8 = NonZeroU8::new(2).expect("not zero");

/// LoadMaster's `Persistence Timeout` is 6 min; an OWA session ends after as many hours.
pub const DEFAULT_PERSISTENCE_TIMEOUT: Duration = Duration::from_hours(1);

/// Name of the cookie of `persistence = { by = "cookie" }`.
pub const DEFAULT_PERSISTENCE_COOKIE: &str = "lb-server";

/// Longer, and the user has clicked again.
pub const DEFAULT_QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// More than a burst of clients meets while a service restarts, and far fewer than until the next probe.
pub const DEFAULT_PASSIVE_FAILURES: NonZeroU32 = NonZeroU32::new(5).expect("not zero");

/// As `HAProxy`'s.
pub const DEFAULT_RETRIES: u32 = 3;

/// A million.
pub const MAX_SERVER_CONNECTIONS: u32 = 1_000_000;
