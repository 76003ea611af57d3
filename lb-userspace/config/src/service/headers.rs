//! Reads `forwarded`, `inbound` and `hsts`.

use std::time::Duration;

use crate::error::{Cost, Problem};
use crate::model::{Hsts, HstsReach, Inbound, Profile, Tell};
use crate::reader::{Node, Scope, Table};

/// Which headers tell servers of the client's side, besides what `headers` says.
pub(super) fn forwarded(scope: Scope<'_, '_>) -> Option<Vec<Tell>> {
    const EXPECTED: &str = "a list such as [\"x-forwarded-for\", \"x-forwarded-proto\"]";
    scope.optional("forwarded", Vec::new(), |node| {
        let nodes = node.array(EXPECTED)?;
        let read: Vec<_> = nodes.iter().map(|node| node.choice(&TELLS)).collect();
        read.into_iter().collect()
    })
}

/// What becomes of what clients say of their own side.
pub(super) fn inbound(scope: Scope<'_, '_>, profile: Profile) -> Option<Inbound> {
    let choices = [("strip", Inbound::Strip), ("keep", Inbound::Keep)];
    let inbound = scope.optional("inbound", Inbound::Strip, |node| node.choice(&choices))?;
    if inbound == Inbound::Keep {
        let cost = match profile {
            Profile::Exchange => Cost::KeptVia,
            Profile::Plain => Cost::KeptClaims,
        };
        scope.warn("inbound", cost);
    }
    Some(inbound)
}

/// `hsts` of the service in `service`.
pub(super) fn hsts(service: &Table<'_>, node: &Node<'_>) -> Option<Hsts> {
    if !service.has("tls") {
        let clash = "browsers obey it over TLS only (RFC 6797), and this service has no tls; add tls, or remove it";
        return node.fail(Problem::Contradiction(clash.to_owned()));
    }
    if node.is_string() {
        return days(node).map(|max_age| Hsts {
            max_age,
            reach: HstsReach::Host,
        });
    }
    let expected = "a number of days such as \"365d\", or a table such as { max_age = \"365d\", reach = \"subdomains\" }";
    let table = node.table(expected, &["max_age", "reach"])?;
    let max_age = table.required("max_age", "for example max_age = \"365d\"", days);
    let reach = table.optional("reach", HstsReach::Host, |node| node.choice(&REACHES));
    let hsts = Hsts {
        max_age: max_age?,
        reach: reach?,
    };
    if hsts.reach == HstsReach::Preload && hsts.max_age < YEAR {
        let clash = "the lists that browsers ship take at least 365 days; give max_age = \"365d\", or another reach";
        return table.fail("max_age", Problem::Contradiction(clash.to_owned()));
    }
    Some(hsts)
}

fn days(node: &Node<'_>) -> Option<Duration> {
    const EXPECTED: &str = "a number of days up to 3650, such as \"365d\"";
    node.string(EXPECTED, |text| {
        let days: u32 = text.strip_suffix('d')?.parse().ok()?;
        (days <= 3650).then(|| DAY * days)
    })
}

const DAY: Duration = Duration::from_hours(24);
const YEAR: Duration = Duration::from_hours(24 * 365);

const TELLS: [(&str, Tell); 5] = [
    ("x-forwarded-for", Tell::XForwardedFor),
    ("x-forwarded-proto", Tell::XForwardedProto),
    ("x-forwarded-port", Tell::XForwardedPort),
    ("x-forwarded-host", Tell::XForwardedHost),
    ("forwarded", Tell::Forwarded),
];

const REACHES: [(&str, HstsReach); 3] = [
    ("host", HstsReach::Host),
    ("subdomains", HstsReach::Subdomains),
    ("preload", HstsReach::Preload),
];
