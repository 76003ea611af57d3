//! Switches that make a server fail: how tests and the demo take a server or one of its directories down.
//!
//! Plain HTTP on an address of its own:
//!
//! | PUT | effect |
//! |---|---|
//! | `/health/<vdir>/down`, `/up` | the health page of the directory answers 503 |
//! | `/health/<vdir>/confused` | it answers 200, and doesn't say that all is well |
//! | `/delay/<milliseconds>` | every answer is held back |
//! | `/connections/reset`, `/accept` | new connections are reset, open ones end with their next request |
//! | `/period/<milliseconds>` | how often a held request gets a sign of life; 30 s, as Exchange's `X-PendingPeriod` |
//! | `/channel/<bytes>` | what an RPC channel declares; 1 GiB, as Exchange does |
//! | `/fault/<vdir>/<fault>[/<n>]` | see [`Fault`]; `well` ends it |
//!
//! Invariant: a switch holds for every request that begins after its answer. Health pages never fail by a fault, and
//! nothing else by a health switch: tests must be able to tell a bad page from a bad server.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    time::Duration,
};

use super::{
    http1::{Head, Wire},
    reply::{Break, Reply},
    vdir::Vdir,
};

/// How a server fails at the moment.
#[derive(Debug, Default)]
pub(super) struct Switches {
    health: RefCell<HashMap<String, Health>>,
    faults: RefCell<HashMap<String, Fault>>,
    delay: Cell<Duration>,
    period: Cell<Option<Duration>>,
    channel: Cell<Option<u64>>,
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

/// What the health page of a directory says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Health {
    #[default]
    Well,
    Down,
    /// A page that is not the health page, as a server gives that has lost its `HttpProxy`.
    Confused,
}

/// How the answers of one directory go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// `status/<n>`: this status in place of the answer.
    Status(u16),
    /// `delay/<milliseconds>`: the answer is held back.
    Delay(Duration),
    /// `silent`: there is none, and the connection stays open.
    Silent,
    /// `half`, `reset`: it breaks off in the middle.
    Break(Break),
    /// `close`: it says `Connection: close`, and the connection ends.
    Close,
    /// `close-after/<n>`: the connection ends without a word after its nth answer.
    CloseAfter(u64),
    /// `no-continue`: a client that waits for `100 Continue` gets none.
    NoContinue,
}

impl Switches {
    /// What the health page of a virtual directory says.
    pub(super) fn health(&self, vdir: &str) -> Health {
        let health = self.health.borrow();
        health
            .get(&vdir.to_ascii_lowercase())
            .copied()
            .unwrap_or_default()
    }

    /// How long every answer is held back.
    pub(super) fn delay(&self) -> Duration {
        self.delay.get()
    }

    /// How often a held request gets a sign of life.
    pub(super) fn period(&self) -> Duration {
        self.period.get().unwrap_or(PENDING_PERIOD)
    }

    /// Bytes of the answer to `RPC_OUT_DATA`.
    pub(super) fn channel(&self) -> u64 {
        self.channel.get().unwrap_or(CHANNEL)
    }

    pub(super) fn connections(&self) -> Connections {
        self.connections.get()
    }

    /// What goes wrong with answers for `path`.
    pub(super) fn fault(&self, path: &str) -> Option<Fault> {
        self.faults.borrow().get(Vdir::of(path).name).copied()
    }

    fn apply(&self, path: &str) -> Option<()> {
        let words: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match words.as_slice() {
            ["health", vdir, state] => {
                let state = match *state {
                    "up" => Health::Well,
                    "down" => Health::Down,
                    "confused" => Health::Confused,
                    _ => return None,
                };
                self.health
                    .borrow_mut()
                    .insert(vdir.to_ascii_lowercase(), state);
            }
            ["delay", milliseconds] => self.delay.set(duration(milliseconds)?),
            ["period", milliseconds] => self.period.set(Some(duration(milliseconds)?)),
            ["channel", bytes] => self.channel.set(Some(bytes.parse().ok()?)),
            ["connections", "reset"] => self.connections.set(Connections::Reset),
            ["connections", "accept"] => self.connections.set(Connections::Accept),
            ["fault", vdir, "well"] => {
                self.faults.borrow_mut().remove(Vdir::of(vdir).name);
            }
            ["fault", vdir, fault @ ..] => {
                let fault = Fault::parse(fault)?;
                self.faults
                    .borrow_mut()
                    .insert(Vdir::of(vdir).name.to_owned(), fault);
            }
            _ => return None,
        }
        Some(())
    }
}

impl Fault {
    fn parse(words: &[&str]) -> Option<Self> {
        Some(match words {
            ["status", status] => Self::Status(status.parse().ok()?),
            ["delay", milliseconds] => Self::Delay(duration(milliseconds)?),
            ["silent"] => Self::Silent,
            ["half"] => Self::Break(Break::Half),
            ["reset"] => Self::Break(Break::Reset),
            ["no-continue"] => Self::NoContinue,
            ["close"] => Self::Close,
            ["close-after", answers] => Self::CloseAfter(answers.parse().ok()?),
            _ => return None,
        })
    }
}

fn duration(milliseconds: &str) -> Option<Duration> {
    milliseconds.parse().ok().map(Duration::from_millis)
}

/// Answers requests to the admin address until the client goes.
pub(super) async fn serve(switches: &Switches, mut wire: Wire) -> std::io::Result<()> {
    while let Some((head, mut body)) = wire.head().await? {
        wire.drain(&mut body).await?;
        Reply::new(status(switches, &head), "")
            .send(&mut wire, &head)
            .await?;
        if head.closes() {
            return wire.close().await;
        }
    }
    Ok(())
}

fn status(switches: &Switches, head: &Head) -> u16 {
    if head.method != "PUT" {
        return 405;
    }
    switches.apply(head.path()).map_or(404, |()| 204)
}

/// MS-OXCMAPIHTTP 2.2.3.3.5: the default of `X-PendingPeriod`.
const PENDING_PERIOD: Duration = Duration::from_secs(30);

/// What Exchange and Outlook declare for a channel, in bytes: MS-RPCH 2.1.2.1 has at least 128 KiB and at most 2 GiB.
const CHANNEL: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_of_one_directory() {
        let switches = Switches::default();
        assert_eq!(switches.apply("/fault/EWS/close-after/3"), Some(()));
        assert_eq!(
            switches.fault("/ews/Exchange.asmx"),
            Some(Fault::CloseAfter(3))
        );
        assert_eq!(switches.fault("/owa/"), None);
        assert_eq!(switches.apply("/fault/ews/well"), Some(()));
        assert_eq!(switches.fault("/ews/Exchange.asmx"), None);
        for wrong in [
            "/fault/ews",
            "/fault/ews/status",
            "/fault/ews/half/1",
            "/period/x",
        ] {
            assert_eq!(switches.apply(wrong), None, "{wrong}");
        }
    }
}
