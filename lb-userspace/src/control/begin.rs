//! Where connections of a service begin whose file says `begin = "adaptive"`: on the workers' TCP, or on the kernel's.
//!
//! A connection that is going to be bulk is better on the kernel from its first packet: it needs no move. Whether it will be
//! nobody knows, but those before it did the same as a rule. Invariant: a decision here costs speed at worst; each connection
//! works on either. While SYNs come in a flood connections begin on the workers, whose TCP answers with cookies at a
//! fraction of the kernel's cost. Not here: counting connections ([`crate::worker`]), and telling the program.

mod stale;

use std::cell::RefCell;
use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use lb_tcp::FlowKey;
use tokio::time::{Instant, MissedTickBehavior, interval};

use stale::Stale;

use super::Control;
use crate::dataplane::{MapAccessError, StackFlows};
use crate::worker::{Inquiry, Inside, Tally};

/// Connections of a service that have ended, since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// All of them.
    pub(crate) all: u64,
    /// Of these, the ones that carried bulk: they moved, or would have.
    pub(crate) bulk: u64,
}

/// Whether clients, or those who are none, send more SYNs than they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syns {
    Calm,
    Flood,
}

/// Where the connections of one service begin.
#[derive(Debug, Default)]
pub(crate) struct Adaptive {
    on_kernel: bool,
    /// When those connections began to be counted that the next decision goes by.
    since: Ended,
    /// Nothing changes before.
    not_before: Option<Instant>,
}

impl Adaptive {
    /// Whether connections begin on the kernel from now on.
    pub(crate) fn look(&mut self, now: Instant, ended: Ended, syns: Syns) -> bool {
        if syns == Syns::Flood {
            self.decide(false, ended);
            self.not_before = Some(now + AFTER_FLOOD);
            return false;
        }
        if self.not_before.is_some_and(|until| now < until) {
            return self.on_kernel;
        }
        let all = ended.all.saturating_sub(self.since.all);
        let bulk = ended.bulk.saturating_sub(self.since.bulk);
        if all < ENOUGH {
            return self.on_kernel;
        }
        let on_kernel = if self.on_kernel {
            all <= bulk * 4
        } else {
            all * 3 < bulk * 5
        };
        if on_kernel != self.on_kernel {
            self.not_before = Some(now + AFTER_CHANGE);
        }
        self.decide(on_kernel, ended);
        on_kernel
    }

    fn decide(&mut self, on_kernel: bool, ended: Ended) {
        self.on_kernel = on_kernel;
        self.since = ended;
    }
}

/// A service whose connections begin on the workers, at times or always.
pub(crate) struct Service {
    /// Its place in the configuration.
    pub(crate) position: usize,
    /// For the log.
    pub(crate) name: String,
    /// Its address.
    pub(crate) listen: SocketAddr,
    /// What became of its connections, if it leaves it to them; else they always begin on the workers.
    pub(crate) tally: Option<Arc<Tally>>,
}

impl Service {
    /// Whether connections begin on the kernel from now on.
    fn look(&self, adaptive: &mut Adaptive, now: Instant, syns: Syns) -> bool {
        self.tally.as_ref().is_some_and(|tally| {
            let ended = Ended {
                all: tally.ended(),
                bulk: tally.bulk(),
            };
            adaptive.look(now, ended, syns)
        })
    }
}

/// Looks at each service once a second. Returns only on error.
pub(crate) async fn follow(
    control: &RefCell<Control>,
    inquiry: Inquiry,
    services: Vec<Service>,
) -> Result<Infallible, MapAccessError> {
    if services.is_empty() {
        std::future::pending::<()>().await;
    }
    let mut known: Vec<_> = services.iter().map(|_| Adaptive::default()).collect();
    let mut stale: Vec<_> = services.iter().map(|_| Stale::default()).collect();
    let stack_flows = control.borrow().dataplane().stack_flows();
    let mut before = Cookies::default();
    let mut seconds = interval(LOOK);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        let cookies = Cookies::read(&inquiry).await;
        let syns = cookies.since(before);
        before = cookies;
        if stack_flows.has_kept() {
            let now = Instant::now();
            for stale in &mut stale {
                stale.expect(now);
            }
        }
        for ((service, adaptive), stale) in services.iter().zip(&mut known).zip(&mut stale) {
            let now = Instant::now();
            let was = adaptive.on_kernel;
            let on_kernel = service.look(adaptive, now, syns);
            if on_kernel != was {
                let (name, on) = (&service.name, if on_kernel { "kernel" } else { "af_xdp" });
                tracing::info!(
                    service = name,
                    ?syns,
                    "connections begin on {on} from now on"
                );
                control
                    .borrow_mut()
                    .begin_on_stack(service.position, on_kernel)?;
                stale.expect(now);
            }
            if !on_kernel && stale.is_due(now) {
                free(&stack_flows, &inquiry, service.listen, stale).await;
            }
        }
    }
}

/// Frees tuples of a service whose connections begin on the workers. An error costs speed alone, and there is a next time.
async fn free(stack_flows: &StackFlows, inquiry: &Inquiry, listen: SocketAddr, stale: &mut Stale) {
    let noted = stack_flows.all().unwrap_or_else(|error| {
        tracing::debug!(%error, "reading the stack's connections");
        Vec::new()
    });
    let noted = noted.iter().filter(|flow| flow.began_there);
    let noted: Vec<_> = noted
        .map(|flow| flow.key)
        .filter(|key| key.local == listen)
        .collect();
    // After the tuples: what began since isn't among them.
    let Ok(living) = inquiry.ask(living).await else {
        return;
    };
    let living = living.into_iter().flatten().collect();
    for key in stale.look(Instant::now(), &noted, &living) {
        stack_flows.release(&key);
    }
}

/// The connections of a worker that began on the kernel.
fn living(inside: &Inside) -> HashSet<FlowKey> {
    let mut living = HashSet::new();
    inside.begun.for_each(|ends| {
        living.insert(FlowKey {
            local: ends.local,
            remote: ends.peer,
        });
    });
    living
}

/// Signs that more SYNs come than are meant: cookies, of the workers' TCP or the kernel's, and what neither had room for.
#[derive(Clone, Copy, Debug, Default)]
struct Cookies {
    workers: u64,
    kernel: u64,
}

impl Cookies {
    /// What can't be read counts as none: that decides about speed only.
    async fn read(inquiry: &Inquiry) -> Self {
        let counters = |inside: &Inside| inside.engine().counters().tcp;
        let workers = inquiry.ask(counters).await.unwrap_or_default();
        Self {
            workers: workers.iter().map(|tcp| tcp.syncookies_sent).sum(),
            kernel: of_kernel().unwrap_or_default(),
        }
    }

    fn since(self, before: Self) -> Syns {
        if before.workers < self.workers || before.kernel < self.kernel {
            Syns::Flood
        } else {
            Syns::Calm
        }
    }
}

/// Those of the kernel's TCP, in this network namespace.
fn of_kernel() -> io::Result<u64> {
    Ok(sum(&fs::read_to_string("/proc/net/netstat")?, &SIGNS))
}

/// Counters of this name; a line of names is followed by one of values.
fn sum(text: &str, wanted: &[&str]) -> u64 {
    let lines: Vec<_> = text.lines().collect();
    let pairs = lines.iter().zip(lines.iter().skip(1)).step_by(2);
    let counters = pairs.flat_map(|(names, values)| names.split(' ').zip(values.split(' ')));
    let wanted = counters.filter(|(name, _)| wanted.contains(name));
    wanted
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .sum()
}

const SIGNS: [&str; 3] = ["SyncookiesSent", "ListenOverflows", "TCPReqQFullDrop"];

const LOOK: Duration = Duration::from_secs(1);

/// Fewer connections say too little.
const ENOUGH: u64 = 64;

/// Long enough for connections that began after a change to be among those that end.
const AFTER_CHANGE: Duration = Duration::from_secs(5);

/// Floods come in waves.
const AFTER_FLOOD: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at a service whose connections end in these numbers: each step is seconds since the last, more that ended, of
    /// these bulk, whether SYNs flood, and what is decided.
    fn check(steps: &[(u64, u64, u64, Syns, bool)]) {
        let (mut adaptive, mut now, mut ended) =
            (Adaptive::default(), Instant::now(), Ended::default());
        for (number, &(seconds, all, bulk, syns, expected)) in steps.iter().enumerate() {
            now += Duration::from_secs(seconds);
            ended.all += all;
            ended.bulk += bulk;
            let decided = adaptive.look(now, ended, syns);
            assert_eq!(decided, expected, "step {number}: {adaptive:?}");
        }
    }

    use Syns::{Calm, Flood};

    #[test]
    fn more_than_three_in_five_of_enough_begin_on_the_kernel() {
        check(&[(1, 63, 63, Calm, false), (1, 1, 1, Calm, true)]);
        check(&[(1, 100, 60, Calm, false), (1, 100, 61, Calm, true)]);
    }

    #[test]
    fn fewer_than_one_in_four_begin_on_the_workers_again() {
        check(&[
            (1, 64, 64, Calm, true),
            (5, 100, 25, Calm, true),
            (1, 63, 0, Calm, true),
            (1, 1, 0, Calm, false),
        ]);
    }

    /// Between the two nothing changes, wherever connections begin.
    #[test]
    fn what_is_half_and_half_stays() {
        let half = (10, 100, 50, Calm, false);
        check(&[half, half, half]);
        let half = (10, 100, 50, Calm, true);
        check(&[(1, 64, 64, Calm, true), half, half, half]);
    }

    #[test]
    fn it_changes_once_in_some_seconds() {
        check(&[
            (1, 64, 64, Calm, true),
            (1, 1000, 0, Calm, true),
            (3, 1000, 0, Calm, true),
            (1, 0, 0, Calm, false),
            (1, 5000, 5000, Calm, false),
            (4, 0, 0, Calm, true),
        ]);
    }

    /// Those that ended before a decision have no say in the next one.
    #[test]
    fn the_last_ones_count() {
        check(&[
            (1, 10_000, 0, Calm, false),
            (1, 64, 64, Calm, true),
            (5, 64, 10, Calm, false),
        ]);
    }

    #[test]
    fn the_kernel_counts_by_names_in_one_line_and_values_in_the_next() {
        let text = "TcpExt: SyncookiesSent SyncookiesRecv ListenOverflows\nTcpExt: 3 50 4\n\
                    IpExt: InNoRoutes SyncookiesSent\nIpExt: 7 100\n";
        assert_eq!(sum(text, &SIGNS), 107);
        assert_eq!(sum("", &SIGNS), 0);
        of_kernel().unwrap();
    }

    #[test]
    fn a_flood_ends_it_at_once_and_for_a_while() {
        check(&[
            (1, 64, 64, Calm, true),
            (1, 100, 100, Flood, false),
            (1, 100, 100, Calm, false),
            (58, 100, 100, Calm, false),
            (1, 0, 0, Calm, true),
        ]);
        check(&[(1, 100, 100, Flood, false), (60, 63, 63, Calm, false)]);
    }
}
