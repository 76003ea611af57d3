//! Reads `allow`, `deny` and `deny_file`, of a service or of the whole file; and who may send a PROXY header.

use crate::error::Problem;
use crate::model::{Access, Prefix, ProxyProtocol};
use crate::reader::{Node, Read, Table, unique};
use crate::value;

pub(crate) fn read(table: &Table<'_>) -> Option<Access> {
    let allow = prefixes(table, "allow");
    let deny = prefixes(table, "deny");
    let deny_file = table.optional("deny_file", None, |node| value::file(node).map(Some));
    let (allow, deny) = (allow?, deny?);
    unique(table.report, allow.iter());
    unique(table.report, deny.iter());
    for denied in &deny {
        if allow.iter().any(|allowed| allowed.value == denied.value) {
            let clash = format!(
                "{} is in allow as well; remove it from one of the two",
                denied.value
            );
            table
                .report
                .error(&denied.spot, Problem::Contradiction(clash));
        }
    }
    Some(Access {
        allow: values(allow),
        deny: values(deny),
        deny_file: deny_file?,
    })
}

fn values(read: Vec<Read<Prefix>>) -> Vec<Prefix> {
    read.into_iter().map(|prefix| prefix.value).collect()
}

fn prefixes(table: &Table<'_>, key: &'static str) -> Option<Vec<Read<Prefix>>> {
    table.optional(key, Vec::new(), list)
}

fn list(node: &Node<'_>) -> Option<Vec<Read<Prefix>>> {
    node.list("a list of networks, such as [\"10.0.0.0/8\"]", |node| {
        let expected =
            "a network, such as \"10.0.0.0/8\" or \"2001:db8::/32\", with zeros behind the prefix";
        node.string(expected, |text| text.parse().ok())
    })
}

/// Reads `accept_proxy_protocol`.
pub(super) fn accept_proxy_protocol(table: &Table<'_>) -> Option<Vec<Prefix>> {
    table.optional("accept_proxy_protocol", Vec::new(), |node| {
        let table = node.table("a table, such as { from = [\"10.0.0.0/8\"] }", &["from"])?;
        let from = table.required(
            "from",
            "the networks of the balancers before this one",
            list,
        )?;
        Some(values(from))
    })
}

/// The values of `proxy_protocol`.
pub(super) const VERSIONS: [(&str, ProxyProtocol); 2] =
    [("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)];
