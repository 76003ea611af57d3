//! Reads `handover`, which services have whose transport is left to `lb`.

use std::num::NonZeroU32;

use crate::error::Problem;
use crate::model::{Begin, Handover, Transport};
use crate::reader::{Node, Schema, Table};
use crate::{MAX_BULK, MIN_BULK};

/// What a service can say: HTTP announces lengths, of a relay nothing is known but what has passed.
#[derive(Clone, Copy)]
pub(super) enum Of {
    Http,
    Relay,
}

impl Of {
    const fn schema(self) -> Schema {
        match self {
            Self::Http => &["response", "upload", "streamed", "begin"],
            Self::Relay => &["streamed", "begin"],
        }
    }

    const fn expected(self) -> &'static str {
        match self {
            Self::Http => "\"off\", or a table such as { response = 65536, begin = \"af_xdp\" }",
            Self::Relay => "\"off\", or a table such as { streamed = 65536, begin = \"af_xdp\" }",
        }
    }
}

/// Reads it; `None` in what it gives if no connection ever moves.
#[expect(
    clippy::option_option,
    reason = "the outer one says whether it could be read, as everywhere here"
)]
pub(super) fn read(
    table: &Table<'_>,
    transport: Option<Transport>,
    of: Of,
) -> Option<Option<Handover>> {
    let stays = match transport {
        // If it could not be read, it may have been meant to be "auto".
        None | Some(Transport::Auto) => None,
        Some(Transport::AfXdp) => Some("\"af_xdp\", which keeps connections in the workers"),
        Some(Transport::Kernel) => Some("\"kernel\", where connections are on the kernel anyway"),
    };
    let Some(node) = table.get("handover") else {
        return Some(stays.is_none().then(Handover::default));
    };
    if let Some(stays) = stays {
        let clash = format!(
            "is only for transport = \"auto\", and this is {stays}; remove it, or change the other"
        );
        return node.fail(Problem::Contradiction(clash));
    }
    if node.is_string() {
        return node.string("\"off\", or a table", |text| {
            (text == "off").then_some(None)
        });
    }
    let table = node.table(of.expected(), of.schema())?;
    let default = Handover::default();
    let bytes = |key, default| table.optional(key, default, bytes);
    let (response, upload) = (
        bytes("response", default.response),
        bytes("upload", default.upload),
    );
    let streamed = bytes("streamed", default.streamed);
    let begin = table.optional("begin", default.begin, |node| node.choice(&BEGINNINGS));
    Some(Some(Handover {
        response: response?,
        upload: upload?,
        streamed: streamed?,
        begin: begin?,
    }))
}

fn bytes(node: &Node<'_>) -> Option<NonZeroU32> {
    node.number(MIN_BULK..=MAX_BULK).and_then(NonZeroU32::new)
}

const BEGINNINGS: [(&str, Begin); 3] = [
    ("adaptive", Begin::Adaptive),
    ("af_xdp", Begin::AfXdp),
    ("kernel", Begin::Kernel),
];
