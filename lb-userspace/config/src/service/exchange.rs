//! Reads how the exchange of a request and its response is relayed: `expect`, `upgrade`, `connect`.

use crate::model::{Expect, Tunnels, UpgradeTo};
use crate::reader::{Node, Scope};

/// Reads `expect`.
pub(super) fn expect(scope: Scope<'_, '_>) -> Option<Expect> {
    scope.optional("expect", Expect::Forward, |node| node.choice(&MODES))
}

const MODES: [(&str, Expect); 4] = [
    ("forward", Expect::Forward),
    ("local", Expect::Local),
    ("strip", Expect::Strip),
    ("require", Expect::Require),
];

/// Reads `upgrade` and `connect`.
pub(super) fn tunnels(scope: Scope<'_, '_>) -> Option<Tunnels> {
    let upgrade = scope.optional("upgrade", Vec::new(), |node| {
        // An empty list is how a route refuses what its service allows.
        let nodes = node.array("a list of protocols, such as [\"websocket\"]")?;
        let protocols: Vec<_> = nodes.iter().map(protocol).collect();
        protocols.into_iter().collect()
    });
    let connect = scope.optional("connect", false, Node::boolean);
    Some(Tunnels {
        upgrade: upgrade?,
        connect: connect?,
    })
}

fn protocol(node: &Node<'_>) -> Option<UpgradeTo> {
    node.string(
        "the name of a protocol, such as \"websocket\"; not \"h2c\"",
        UpgradeTo::new,
    )
}
