//! Clients of all kinds, each a thread in the client's namespace. None tries anything again.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    PLAIN, TLS,
    origin::{is_right, pattern},
};
use crate::{
    client::{Connection, Head},
    world::{World, eventually},
};

/// What clients found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Small requests that were answered.
    pub requests: u64,
    /// Long transfers that were completed.
    pub transfers: u64,
    /// Connections that small requests on kept connections needed, without TLS and with.
    pub kept: [u64; 2],
    /// What failed, described.
    pub failed: Vec<String>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            requests,
            transfers,
            kept: [plain, tls],
            failed,
        } = self;
        write!(
            f,
            "{requests} requests and {transfers} long transfers answered; kept connections opened: {plain} plain, {tls} TLS; \
             {} failed",
            failed.len()
        )
    }
}

/// All clients.
pub(super) struct Load {
    ca: PathBuf,
    size: usize,
    ended: AtomicBool,
    requests: AtomicU64,
    transfers: AtomicU64,
    kept: [AtomicU64; 2],
    failed: Mutex<Vec<String>>,
}

/// With or without TLS.
#[derive(Clone, Copy, Debug)]
enum Door {
    Plain,
    Tls,
}

/// Clients of each kind at each door.
const KEPT: usize = 3;
const TRANSFERS: usize = 2;

/// Bytes of a small answer: less than a segment, and some.
const SMALL: [usize; 2] = [700, 9_000];

impl Load {
    pub(super) fn new(world: &World, size: usize) -> Self {
        Self {
            ca: world.certs().ca.clone(),
            size,
            ended: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            transfers: AtomicU64::new(0),
            kept: Default::default(),
            failed: Mutex::default(),
        }
    }

    /// Runs all clients until they are told to end, and what they have begun is over.
    pub(super) fn run(&self) {
        thread::scope(|scope| {
            for door in [Door::Plain, Door::Tls] {
                for number in 0..KEPT {
                    scope.spawn(move || self.go_on(door, "kept", || self.keep(door, number)));
                }
                scope.spawn(move || self.go_on(door, "one-shot", || self.once(door)));
                for _ in 0..TRANSFERS {
                    scope.spawn(move || self.go_on(door, "download", || self.download(door)));
                    scope.spawn(move || self.go_on(door, "upload", || self.upload(door)));
                }
            }
        });
    }

    /// No more is begun.
    pub(super) fn end(&self) {
        self.ended.store(true, Relaxed);
    }

    /// Waits for twenty more requests; fails at once if one has failed.
    pub(super) fn goes_on(&self) -> Result<()> {
        let enough = self.requests.load(Relaxed) + 20;
        eventually("requests are answered", || {
            Ok(self.requests.load(Relaxed) >= enough)
        })
    }

    pub(super) fn found(&self) -> Found {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        Found {
            requests: self.requests.load(Relaxed),
            transfers: self.transfers.load(Relaxed),
            kept: [0, 1].map(|door| self.kept[door].load(Relaxed)),
            failed: failed.clone(),
        }
    }

    fn is_over(&self) -> bool {
        self.ended.load(Relaxed)
    }

    /// Does something until the end, and says what goes wrong.
    fn go_on(&self, door: Door, what: &str, mut act: impl FnMut() -> Result<()>) {
        while !self.is_over() {
            if let Err(error) = act() {
                let text = format!("{what}, {door:?}: {error:#}");
                self.failed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(text);
            }
        }
    }

    fn open(&self, door: Door) -> Result<Connection> {
        match door {
            Door::Plain => Connection::open(PLAIN),
            Door::Tls => Connection::open_tls(TLS, &self.ca),
        }
        .context("connecting")
    }

    /// Small requests on one connection, until the server says that it is the last one.
    fn keep(&self, door: Door, number: usize) -> Result<()> {
        let mut connection = self.open(door)?;
        self.kept[door as usize].fetch_add(1, Relaxed);
        // One of them rests long enough to be idle in most moments.
        let pause = Duration::from_millis([1, 5, 100][number % 3]);
        for turn in 0.. {
            if self.is_over() || self.small(&mut connection, SMALL[turn % 2])? {
                break;
            }
            thread::sleep(pause);
        }
        Ok(())
    }

    fn once(&self, door: Door) -> Result<()> {
        let mut connection = self.open(door)?;
        self.small(&mut connection, SMALL[0])?;
        thread::sleep(Duration::from_millis(5));
        Ok(())
    }

    /// One small request; whether it was the connection's last.
    fn small(&self, connection: &mut Connection, size: usize) -> Result<bool> {
        connection.send_head("GET", &format!("/page/{size}"), &[])?;
        let head = connection.head()?;
        let body = connection.body(&head)?;
        ensure!(
            head.status == 200 && body.len() == size && is_right(0, &body),
            "a wrong answer: {} and {} bytes",
            head.status,
            body.len()
        );
        self.requests.fetch_add(1, Relaxed);
        Ok(is_last(&head))
    }

    /// Long transfers one after the other on one connection.
    fn download(&self, door: Door) -> Result<()> {
        let mut connection = self.open(door)?;
        let mut is_last = false;
        while !is_last && !self.is_over() {
            connection.send_head("GET", &format!("/slow/{}", self.size), &[])?;
            let head = connection.head()?;
            ensure!(head.status == 200, "status {}", head.status);
            let mut got = 0;
            while got < self.size {
                let piece = connection.exactly((32 << 10).min(self.size - got));
                let piece = piece.with_context(|| format!("after {got} bytes"))?;
                ensure!(is_right(got, &piece), "wrong bytes after {got}");
                got += piece.len();
            }
            self.transfers.fetch_add(1, Relaxed);
            is_last = self::is_last(&head) || self.small(&mut connection, SMALL[0])?;
        }
        Ok(())
    }

    fn upload(&self, door: Door) -> Result<()> {
        let mut connection = self.open(door)?;
        let mut is_last = false;
        while !is_last && !self.is_over() {
            let length = format!("Content-Length: {}", self.size);
            connection.send_head("POST", "/upload", &[&length])?;
            let mut sent = 0;
            while sent < self.size {
                let piece = pattern(sent, self.size - sent);
                let outcome = connection.send(piece);
                outcome.with_context(|| format!("after {sent} bytes"))?;
                sent += piece.len();
            }
            let head = connection.head()?;
            let answer = connection.body(&head)?;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            let expected = format!("{} true", self.size);
            ensure!(answer == expected, "status {}: {answer}", head.status);
            self.transfers.fetch_add(1, Relaxed);
            is_last = self::is_last(&head) || self.small(&mut connection, SMALL[0])?;
        }
        Ok(())
    }
}

fn is_last(head: &Head) -> bool {
    let says = head.values("connection");
    says.iter().any(|value| value.eq_ignore_ascii_case("close"))
}
