//! Whether a segment that has left is the one that a script expects.

use lb_tcp::{Flags, Header, Seq};

use crate::line::{Shape, Stamp};

/// Our initial sequence number.
pub(crate) const ISS: Seq = Seq(u32::MAX - 3000);

/// A segment that has left, as it came off the wire.
pub(crate) struct Sent {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn compare(sent: &Sent, shape: &Shape, irs: Seq) -> Result<(), String> {
    let (header, options) = (sent.header, sent.header.options);
    let push = if shape.flags & Flags::PSH.0 == 0 {
        Flags::PSH.0
    } else {
        0
    };
    equal("flags", &(header.flags.0 & !push), &shape.flags)?;
    equal("SEQ", &header.seq.since(ISS), &shape.seq)?;
    equal("length", &sent.payload.len(), &(shape.len as usize))?;
    let bytes = (shape.seq..).take(sent.payload.len()).map(pattern);
    if !bytes.eq(sent.payload.iter().copied()) {
        return Err("wrong bytes".to_owned());
    }
    if let Some(ack) = shape.ack {
        equal("ACK", &header.ack.since(irs), &ack)?;
    }
    if let Some(window) = shape.window {
        equal("window", &header.window, &window)?;
    }
    equal("MSS", &options.mss, &shape.mss)?;
    equal("scale", &options.window_scale, &shape.scale)?;
    equal(
        "SACK permitted",
        &options.sack_permitted,
        &shape.sack_permitted,
    )?;
    let blocks = options.sack.as_slice().iter();
    let blocks: Vec<_> = blocks
        .map(|it| (it.start.since(irs), it.end.since(irs)))
        .collect();
    equal("SACK", &blocks, &shape.sack)?;
    match (shape.timestamps, options.timestamps) {
        (Stamp::Usual | Stamp::None, None) | (Stamp::Any, Some(_)) => Ok(()),
        (Stamp::Usual, Some(_)) if !header.flags.has(Flags::SYN) => Ok(()),
        (Stamp::Exactly(value, echo), Some(found)) => {
            equal("timestamps", &(found.value, found.echo), &(value, echo))
        }
        (Stamp::Echo(echo), Some(found)) => equal("echo", &found.echo, &echo),
        (expected, found) => Err(format!("timestamps {found:?}, expected {expected:?}")),
    }
}

pub(crate) fn equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: &T,
    expected: &T,
) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what} {found:?}, expected {expected:?}"))
}

/// The byte with this number, in both directions.
pub(crate) fn pattern(number: u32) -> u8 {
    low(u64::from(number) * 31 / 7).to_le_bytes()[0]
}

pub(crate) fn written(before: u64, nth: u64) -> u8 {
    pattern(low(before + nth))
}

#[expect(clippy::cast_possible_truncation, reason = "scripts are short")]
pub(crate) fn low(number: u64) -> u32 {
    number as u32
}
