//! Extended Protection guard: whether each server shows the certificate that our clients see.
//!
//! A server with Extended Protection takes a login only if it is bound to the server's own certificate (RFC 5929,
//! `tls-server-end-point`), and clients bind it to the one that they see, which is ours. So both must be the same, and
//! when they aren't, all that users see is passwords asked for again and again. Invariant: a change is told once, with
//! both fingerprints and what to do; nothing is ever sent to a server but a handshake.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lb_proxy::tls::{Fingerprint, ServerTls, peek};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

/// A server to look at, as one route sees it.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    /// Position of its service in the configuration.
    pub(crate) service: usize,
    /// Its place among the servers of all pools of the service.
    pub(crate) server: usize,
    /// `service/server`, for the log.
    pub(crate) label: String,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What it is asked for (SNI), and what clients ask us for.
    pub(crate) name: ServerName<'static>,
    /// What clients are shown.
    pub(crate) ours: Arc<ServerTls>,
    /// Whether the configuration says that logins are bound to it.
    pub(crate) protected: bool,
    /// From one look to the next.
    pub(crate) interval: Duration,
    /// Of one look.
    pub(crate) timeout: Duration,
}

/// What a look at a server came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Drift {
    /// It shows what our clients see.
    Same,
    /// It shows a certificate that waits for its turn here.
    Staged {
        /// What clients see.
        ours: Fingerprint,
        /// What the server shows.
        theirs: Fingerprint,
    },
    /// It shows another one.
    Differs {
        /// What clients see.
        ours: Fingerprint,
        /// What the server shows.
        theirs: Fingerprint,
    },
    /// It could not be seen.
    Unseen(String),
}

impl Drift {
    /// Of a server that shows `theirs` for `name`.
    fn of(ours: &ServerTls, name: &ServerName<'_>, theirs: Fingerprint) -> Self {
        let shown = ours.shown();
        // With strict SNI a name may have no certificate; logins are bound to none then.
        let Some(our) = ours.fingerprint_for(&name.to_str()) else {
            return Self::Unseen(format!(
                "clients that ask for {} are refused",
                name.to_str()
            ));
        };
        let waits = |one: &lb_proxy::tls::Shown| one.staged && one.leaf.fingerprint == theirs;
        match theirs {
            theirs if theirs == our => Self::Same,
            theirs if shown.iter().any(waits) => Self::Staged { ours: our, theirs },
            theirs => Self::Differs { ours: our, theirs },
        }
    }

    /// The word for it in `lb status --json`.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Staged { .. } => "staged",
            Self::Differs { .. } => "differs",
            Self::Unseen(_) => "unseen",
        }
    }

    /// Both fingerprints, for people.
    pub(crate) fn explain(&self) -> String {
        match self {
            Self::Same => "shows the certificate that clients see".to_owned(),
            Self::Staged { ours, theirs } => format!(
                "shows the staged certificate SHA-256 {theirs}, and clients still see {ours}"
            ),
            Self::Differs { ours, theirs } => {
                format!("shows certificate SHA-256 {theirs}, and clients see {ours}")
            }
            Self::Unseen(why) => format!("certificate not seen: {why}"),
        }
    }
}

/// What to do about a server that differs.
pub(crate) const REMEDY: &str = "logins with Extended Protection fail there: bind the certificate that clients see on that server \
     (Enable-ExchangeCertificate -Services IIS), or give this host the servers' certificate and key (tls)";

/// What to do about a server that shows the staged certificate.
pub(crate) const REMEDY_STAGED: &str = "logins with Extended Protection fail there until both are the same: bind it on all servers, then put it over the \
     files of the first certificate here";

/// The last look at each server, by service and server; and how often a server was found to differ.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Rc<RefCell<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    servers: BTreeMap<(usize, usize), Entry>,
    /// By service.
    found: BTreeMap<usize, u64>,
}

#[derive(Debug)]
struct Entry {
    last: Drift,
    /// The last one that was worth telling: a server that was away and comes back as it was is no news.
    told: Option<Drift>,
}

impl Board {
    /// Of a server; `None` if nobody looks at it, or nobody has yet.
    pub(crate) fn get(&self, service: usize, server: usize) -> Option<Drift> {
        let seen = self.0.borrow();
        let entry = seen.servers.get(&(service, server))?;
        Some(entry.last.clone())
    }

    /// How often a server of the service began to differ; `None` if nobody looks.
    pub(crate) fn found(&self, service: usize) -> Option<u64> {
        self.0.borrow().found.get(&service).copied()
    }

    /// Takes what a look came to. Whether it is worth telling.
    fn put(&self, watch: &Watch, drift: &Drift) -> bool {
        let mut seen = self.0.borrow_mut();
        let Seen { servers, found } = &mut *seen;
        let found = found.entry(watch.service).or_default();
        let key = (watch.service, watch.server);
        let entry = servers.entry(key).or_insert_with(|| Entry {
            last: drift.clone(),
            told: None,
        });
        entry.last = drift.clone();
        if matches!(drift, Drift::Unseen(_)) || entry.told.as_ref() == Some(drift) {
            return false;
        }
        let was = entry.told.replace(drift.clone());
        if matches!(drift, Drift::Differs { .. }) {
            *found += 1;
        }
        // That all is well from the start is not worth a line.
        was.is_some() || *drift != Drift::Same
    }
}

/// Looks at all servers until dropped. Routes that share a server share the look.
pub(crate) async fn monitor(watches: Vec<Watch>, board: Board) {
    let config = match peek() {
        Ok(config) => config,
        Err(error) => {
            tracing::warn!(%error, "servers' certificates are not compared with ours");
            return std::future::pending().await;
        }
    };
    join_all(groups(&watches).into_values().map(|group| {
        let (board, config) = (&board, &config);
        async move {
            loop {
                compare(&group, config, board).await;
                let interval = group.iter().map(|watch| watch.interval).min();
                sleep(interval.unwrap_or(Duration::MAX)).await;
            }
        }
    }))
    .await;
    std::future::pending::<()>().await;
}

/// By what a look depends on.
fn groups(watches: &[Watch]) -> BTreeMap<(SocketAddr, String), Vec<&Watch>> {
    let mut groups: BTreeMap<_, Vec<&Watch>> = BTreeMap::new();
    for watch in watches {
        let key = (watch.address, watch.name.to_str().into_owned());
        groups.entry(key).or_default().push(watch);
    }
    groups
}

/// One look for all of a group.
async fn compare(group: &[&Watch], config: &Arc<ClientConfig>, board: &Board) {
    let Some(first) = group.first() else { return };
    let seen = look(first, config).await;
    for watch in group {
        let drift = match &seen {
            Ok(theirs) => Drift::of(&watch.ours, &watch.name, *theirs),
            Err(error) => Drift::Unseen(error.to_string()),
        };
        if board.put(watch, &drift) {
            log(watch, &drift);
        }
    }
}

/// The leaf that a server shows.
async fn look(watch: &Watch, config: &Arc<ClientConfig>) -> io::Result<Fingerprint> {
    let look = async {
        let tcp = TcpStream::connect(watch.address).await?;
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(watch.name.clone(), tcp).await?;
        let shown = stream.get_ref().1.peer_certificates();
        let leaf = shown.and_then(<[_]>::first);
        leaf.map(Fingerprint::of)
            .ok_or_else(|| io::Error::other("no certificate"))
    };
    match timeout(watch.timeout, look).await {
        Ok(seen) => seen,
        Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn log(watch: &Watch, drift: &Drift) {
    let (server, address, name) = (&watch.label, watch.address, watch.name.to_str());
    match drift {
        Drift::Same => {
            tracing::info!(server, %address, name = &*name, "server's certificate is ours");
        }
        Drift::Staged { ours, theirs } => {
            tracing::warn!(server, %address, name = &*name, %ours, %theirs, "certificate drift: matches the staged certificate; {REMEDY_STAGED}");
        }
        Drift::Differs { ours, theirs } => {
            tracing::warn!(server, %address, name = &*name, %ours, %theirs, "certificate drift; {REMEDY}");
        }
        // That a server can't be reached is for the health checks to tell.
        Drift::Unseen(_) => {}
    }
}

/// Refuses a start that would end every login: a server with Extended Protection that shows another certificate than our
/// clients see. One that can't be seen, or shows the staged one, is only warned of.
pub(crate) async fn require_same(watches: &[Watch]) -> anyhow::Result<()> {
    let protected: Vec<_> = watches.iter().filter(|w| w.protected).cloned().collect();
    if protected.is_empty() {
        return Ok(());
    }
    let board = Board::default();
    let config = peek()?;
    let groups = groups(&protected);
    join_all(groups.values().map(|group| compare(group, &config, &board))).await;
    let mut differing = Vec::new();
    for watch in &protected {
        let (label, address) = (&watch.label, watch.address);
        match board.get(watch.service, watch.server) {
            Some(drift @ Drift::Differs { .. }) => {
                differing.push(format!("{label} ({address}) {}", drift.explain()));
            }
            Some(Drift::Unseen(why)) => {
                tracing::warn!(server = label, %address, why, "extended_protection: the server's certificate could not be compared");
            }
            _ => {}
        }
    }
    anyhow::ensure!(
        differing.is_empty(),
        "extended_protection: {}; {REMEDY}; without extended_protection = true lb starts and only warns",
        differing.join("; ")
    );
    Ok(())
}

#[cfg(test)]
mod tests;
