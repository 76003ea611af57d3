//! What was received behind gaps, as segments again.
//!
//! The kernel has no option for them, and they must not be forgotten: the peer may have been told that they are here (SACK), and need not
//! send them again before a timeout.

use crate::history::window;
use lb_tcp::{Flags, Header, Options, Seq, Snapshot, Timestamps};

/// Segments that carry what was received behind gaps, in order, the peer's FIN included: for
/// [`Reinjector::inject`](crate::Reinjector::inject), before any packet that came later.
///
/// They say nothing new: the acknowledgement is SND.UNA, the window is the one that is known. As timestamp they have TS.Recent, which
/// every segment since has passed (PAWS); later packets may raise it, hence the order. They echo nothing, so they are no round trip.
pub fn out_of_order(snapshot: &Snapshot) -> impl Iterator<Item = (Header, &[u8])> {
    // As large as the peer would have sent them: by their size the kernel judges what is a full segment.
    let overhead = if snapshot.timestamps.is_some() { 12 } else { 0 };
    let size = usize::from(snapshot.own_mss)
        .saturating_sub(overhead)
        .max(1);
    let segments = snapshot
        .out_of_order
        .iter()
        .flat_map(move |(start, bytes)| cut(*start, bytes, size));
    let fin = snapshot.fin.map(|seq| {
        let mut header = header(snapshot, seq);
        header.flags = header.flags | Flags::FIN;
        (header, &[][..])
    });
    segments
        .map(|(seq, bytes)| (header(snapshot, seq), bytes))
        .chain(fin)
}

/// Bytes in pieces with the number of each first one.
fn cut(start: Seq, bytes: &[u8], size: usize) -> impl Iterator<Item = (Seq, &[u8])> {
    let mut seq = start;
    bytes.chunks(size).map(move |piece| {
        let at = seq;
        seq += u32::try_from(piece.len()).unwrap_or(0);
        (at, piece)
    })
}

fn header(snapshot: &Snapshot, seq: Seq) -> Header {
    Header {
        seq,
        ack: snapshot.una,
        flags: Flags::ACK,
        window: window(snapshot),
        options: Options {
            timestamps: snapshot.timestamps.map(|(recent, _)| Timestamps {
                value: recent,
                echo: 0,
            }),
            ..Options::default()
        },
    }
}
