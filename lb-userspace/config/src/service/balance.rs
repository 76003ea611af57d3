//! Reads how requests of a route are spread over its servers, and checks that its servers allow it.

use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderName;

use super::server;
use crate::error::{Cost, Problem};
use crate::model::{BalanceMethod, Balancing, Health, Passive, Persistence, Queue, Symptom};
use crate::reader::{Node, Scope, Table, unique};
use crate::{
    DEFAULT_PASSIVE_FAILURES, DEFAULT_PERSISTENCE_COOKIE, DEFAULT_PERSISTENCE_TIMEOUT,
    DEFAULT_QUEUE_TIMEOUT, DEFAULT_RETRIES, value,
};

/// What is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Requests,
    /// Of `mode = "tcp"`, in which nobody knows what they carry.
    Connections,
}

/// Reads it; of `servers` and `health` as far as they could be read.
pub(super) fn read(
    scope: Scope<'_, '_>,
    of: Of,
    servers: &[server::Draft],
    health: Option<&Health>,
) -> Option<Balancing> {
    let method = scope.optional("balance", BalanceMethod::RoundRobin, |node| {
        match (method(node)?, of) {
            (BalanceMethod::HeaderHash(_), Of::Connections) => node.fail(not_in("a header")),
            (method, _) => Some(method),
        }
    });
    let persistence = scope.optional("persistence", None, |node| match (persistence(node)?, of) {
        (Persistence::Cookie(_), Of::Connections) => node.fail(not_in("a cookie")),
        (persistence, _) => Some(Some(persistence)),
    });
    let queue = scope.optional("queue", NO_QUEUE, |node| queue(node, servers));
    let is_checked = match health {
        Some(Health::Unchecked) => Checked::No,
        _ => Checked::Yes,
    };
    // Nobody would take a server in again that nobody checks.
    let default = (is_checked == Checked::Yes).then(default_passive);
    let passive = scope.optional("passive", default, |node| {
        if node.is_string() {
            return node.choice(&[("off", ())]).map(|()| None);
        }
        let passive = passive(node, is_checked)?;
        let in_vain = passive.on != [Symptom::Connect] && of == Of::Connections;
        if in_vain {
            let clash = "in mode = \"tcp\" only \"connect\" can be seen to fail; leave out the rest of `on`";
            return node.fail(Problem::Contradiction(clash.to_owned()));
        }
        Some(Some(passive))
    });
    let slow_start = scope.optional("slow_start", None, |node| {
        value::duration(node, SLOW_STARTS).map(Some)
    });
    let minimum_healthy = scope.optional("minimum_healthy", None, |node| {
        minimum_healthy(node, servers).map(Some)
    });
    let retries = scope.optional("retries", DEFAULT_RETRIES, |node| node.number(RETRIES));
    server::check_backups(scope, servers);
    Some(Balancing {
        method: method?,
        persistence: persistence?,
        queue: queue?,
        passive: passive?,
        slow_start: slow_start?,
        minimum_healthy: minimum_healthy?,
        retries: retries?,
    })
}

fn not_in(what: &str) -> Problem {
    let clash = format!(
        "{what} is only for mode = \"http\", because mode = \"tcp\" doesn't look at what it relays; go by the source"
    );
    Problem::Contradiction(clash)
}

/// Whether servers are probed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Checked {
    Yes,
    No,
}

/// Methods that need no more than their name.
#[derive(Clone, Copy)]
enum Named {
    RoundRobin,
    LeastConnections,
    SourceHash,
}

fn method(node: &Node<'_>) -> Option<BalanceMethod> {
    if !node.is_string() {
        let expected = "\"round-robin\", \"least-connections\", \"source-hash\", or a table such as \
                        { header = \"X-Group\" }";
        let table = node.table(expected, &["header"])?;
        let name = table.required("header", "such as header = \"X-Group\"", |node| {
            node.string("the name of a header", |text| {
                text.parse::<HeaderName>().ok()
            })
        });
        return name.map(BalanceMethod::HeaderHash);
    }
    let named = node.choice(&[
        ("round-robin", Named::RoundRobin),
        ("least-connections", Named::LeastConnections),
        ("source-hash", Named::SourceHash),
    ])?;
    Some(match named {
        Named::RoundRobin => BalanceMethod::RoundRobin,
        Named::LeastConnections => BalanceMethod::LeastConnections,
        Named::SourceHash => BalanceMethod::SourceHash,
    })
}

fn persistence(node: &Node<'_>) -> Option<Persistence> {
    #[derive(Clone, Copy)]
    enum By {
        Source,
        Cookie,
    }
    let expected = "a table, such as { by = \"cookie\" } or { by = \"source\", timeout = \"1h\" }";
    let table = node.table(expected, &["by", "timeout", "name"])?;
    let choices = [("source", By::Source), ("cookie", By::Cookie)];
    let by = table.required("by", "by = \"source\" or by = \"cookie\"", |node| {
        node.choice(&choices)
    })?;
    match by {
        By::Source => {
            table.misplaced(&["name"], "by = \"cookie\"", "by = \"source\"");
            let timeout = table.optional("timeout", DEFAULT_PERSISTENCE_TIMEOUT, |node| {
                value::duration(node, PERSISTENCE)
            });
            timeout.map(Persistence::Source)
        }
        By::Cookie => {
            table.misplaced(&["timeout"], "by = \"source\"", "by = \"cookie\"");
            let name = table.optional("name", DEFAULT_PERSISTENCE_COOKIE.to_owned(), |node| {
                node.string("the name of a cookie: letters, digits, - and _", |text| {
                    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
                    (!text.is_empty() && text.bytes().all(is_name)).then(|| text.to_owned())
                })
            });
            name.map(Persistence::Cookie)
        }
    }
}

fn queue(node: &Node<'_>, servers: &[server::Draft]) -> Option<Queue> {
    let expected = "a table, such as { length = 100, timeout = \"5s\" }";
    let table = node.table(expected, &["length", "timeout"])?;
    let length = table.required("length", "such as length = 100", |node| {
        node.number(QUEUE_LENGTHS)
    });
    let timeout = table.optional("timeout", DEFAULT_QUEUE_TIMEOUT, |node| {
        value::duration(node, QUEUE_TIMEOUTS)
    });
    if !servers.iter().any(server::Draft::has_limit) {
        table.warn("length", Cost::UnusedQueue);
    }
    Some(Queue {
        length: length?,
        timeout: timeout?,
    })
}

fn passive(node: &Node<'_>, is_checked: Checked) -> Option<Passive> {
    let expected = "\"off\", or a table such as { failures = 5, on = [\"connect\", \"reset\"] }";
    let table = node.table(expected, &["failures", "on"])?;
    if is_checked == Checked::No {
        let clash = "with health.kind = \"none\" no probe would take the server in again; add a health check, or \
                     remove passive";
        return node.fail(Problem::Contradiction(clash.to_owned()));
    }
    let failures = table.optional("failures", DEFAULT_PASSIVE_FAILURES, |node| {
        node.count(MAX_FAILURES)
    });
    let on = table.optional("on", vec![Symptom::Connect], |node| symptoms(node, &table));
    Some(Passive {
        failures: failures?,
        on: on?,
    })
}

fn default_passive() -> Passive {
    Passive {
        failures: DEFAULT_PASSIVE_FAILURES,
        on: vec![Symptom::Connect],
    }
}

fn symptoms(node: &Node<'_>, table: &Table<'_>) -> Option<Vec<Symptom>> {
    let choices = [
        Symptom::Connect,
        Symptom::Reset,
        Symptom::Timeout,
        Symptom::Gateway,
    ];
    let choices = choices.map(|symptom| match symptom {
        Symptom::Connect => ("connect", symptom),
        Symptom::Reset => ("reset", symptom),
        Symptom::Timeout => ("timeout", symptom),
        Symptom::Gateway => ("gateway", symptom),
    });
    let expected = "a list of what counts as a failure, such as [\"connect\", \"reset\"]";
    let symptoms = node.list(expected, |node| node.choice(&choices))?;
    unique(table.report, symptoms.iter());
    Some(symptoms.into_iter().map(|symptom| symptom.value).collect())
}

fn minimum_healthy(node: &Node<'_>, servers: &[server::Draft]) -> Option<NonZeroU16> {
    let minimum: NonZeroU16 = node.count(MAX_MINIMUM)?;
    let primaries = servers.iter().filter(|server| !server.is_backup()).count();
    if usize::from(minimum.get()) > primaries && !servers.is_empty() {
        let clash = format!(
            "{minimum} can never be up, because the route has {primaries} servers (backups don't count); lower it"
        );
        return node.fail(Problem::Contradiction(clash));
    }
    Some(minimum)
}

const NO_QUEUE: Queue = Queue {
    length: 0,
    timeout: DEFAULT_QUEUE_TIMEOUT,
};

/// LoadMaster's `Persistence Timeout` has the same range.
const PERSISTENCE: RangeInclusive<Duration> =
    Duration::from_mins(1)..=Duration::from_hours(28 * 24);
const QUEUE_LENGTHS: RangeInclusive<u32> = 1..=100_000;
const QUEUE_TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_mins(1);
/// LoadMaster's `Slow Start Time` goes as far.
const SLOW_STARTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(10);
const RETRIES: RangeInclusive<u32> = 0..=10;
const MAX_FAILURES: u32 = 1000;
const MAX_MINIMUM: u32 = 1000;
