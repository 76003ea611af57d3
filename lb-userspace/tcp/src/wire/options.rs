//! Options in a header: kinds 0 (end), 1 (no operation), 2 (MSS), 3 (window scale), 4 (SACK permitted), 5 (SACK) and 8
//! (timestamps). Others are skipped by their length (RFC 9293 §3.1, MUST-6, MUST-7).
//!
//! Written as everyone does: timestamps behind two no-operations (RFC 7323 appendix A), so that their values lie on words and
//! peers recognise the whole by one comparison; in a SYN, SACK permitted takes the place of these two.

use crate::{Options, SackBlocks, Seq, SeqRange, Timestamps};

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// Bytes for options at most.
const MAX_LEN: usize = super::MAX_HEADER_LEN - super::MIN_HEADER_LEN;

/// The largest shift count; one above that is taken as this (RFC 7323 §2.3).
const MAX_WINDOW_SCALE: u8 = 14;

/// Reads options. What a handshake negotiates counts `in_syn` only.
pub(super) fn read(mut bytes: &[u8], in_syn: bool) -> Options {
    let mut options = Options::default();
    loop {
        bytes = match bytes {
            [] | [END, ..] | [_] => return options,
            [NO_OPERATION, rest @ ..] => rest,
            [kind, len, ..] => {
                // The length counts the two bytes before the value.
                let Some((option, rest)) = bytes.split_at_checked(usize::from(*len)) else {
                    return options;
                };
                let [_, _, value @ ..] = option else {
                    return options;
                };
                read_one(*kind, value, in_syn, &mut options);
                rest
            }
        };
    }
}

/// Takes one option. A known kind of an unknown length is skipped like an unknown one.
fn read_one(kind: u8, value: &[u8], in_syn: bool, options: &mut Options) {
    match (kind, value) {
        (TIMESTAMPS, &[v0, v1, v2, v3, e0, e1, e2, e3]) => {
            options.timestamps = Some(Timestamps {
                value: u32::from_be_bytes([v0, v1, v2, v3]),
                echo: u32::from_be_bytes([e0, e1, e2, e3]),
            });
        }
        (SACK, _) => read_blocks(value, &mut options.sack),
        // An MSS of nothing would be one that no byte fits: none was said, then, as Linux takes it.
        (MSS, &[0, 0]) => {}
        (MSS, &[high, low]) if in_syn => options.mss = Some(u16::from_be_bytes([high, low])),
        (WINDOW_SCALE, &[shift]) if in_syn => {
            options.window_scale = Some(shift.min(MAX_WINDOW_SCALE));
        }
        (SACK_PERMITTED, &[]) if in_syn => options.sack_permitted = true,
        _ => {}
    }
}

/// Takes blocks; none if the length is not one of whole blocks.
fn read_blocks(value: &[u8], blocks: &mut SackBlocks) {
    let (pairs, []) = value.as_chunks::<8>() else {
        return;
    };
    for &[s0, s1, s2, s3, e0, e1, e2, e3] in pairs {
        blocks.push(SeqRange {
            start: Seq(u32::from_be_bytes([s0, s1, s2, s3])),
            end: Seq(u32::from_be_bytes([e0, e1, e2, e3])),
        });
    }
}

/// Bytes of options, which are whole words.
pub(super) fn len(options: &Options, in_syn: bool) -> usize {
    let len = len_without_sack(options, in_syn);
    match blocks_beside(len).min(options.sack.as_slice().len()) {
        0 => len,
        blocks => len + 4 + 8 * blocks,
    }
}

fn len_without_sack(options: &Options, in_syn: bool) -> usize {
    let timestamps = if options.timestamps.is_some() { 12 } else { 0 };
    if !in_syn {
        return timestamps;
    }
    let mss = if options.mss.is_some() { 4 } else { 0 };
    let scale = if options.window_scale.is_some() { 4 } else { 0 };
    // SACK permitted needs no room of its own beside timestamps.
    let sack = if options.sack_permitted && timestamps == 0 {
        4
    } else {
        0
    };
    mss + scale + sack + timestamps
}

/// SACK blocks that fit beside `len` bytes of other options.
const fn blocks_beside(len: usize) -> usize {
    MAX_LEN.saturating_sub(len + 4) / 8
}

/// Writes options into `bytes`, which is [`len`] long.
pub(super) fn write(options: &Options, in_syn: bool, bytes: &mut [u8]) {
    let mut writer = Writer { rest: bytes };
    let permitted = options.sack_permitted && in_syn;
    if in_syn && let Some(mss) = options.mss {
        let [high, low] = mss.to_be_bytes();
        writer.put([MSS, 4, high, low]);
    }
    if let Some(Timestamps { value, echo }) = options.timestamps {
        writer.put(if permitted {
            [SACK_PERMITTED, 2, TIMESTAMPS, 10]
        } else {
            [NO_OPERATION, NO_OPERATION, TIMESTAMPS, 10]
        });
        writer.put(value.to_be_bytes());
        writer.put(echo.to_be_bytes());
    } else if permitted {
        writer.put([NO_OPERATION, NO_OPERATION, SACK_PERMITTED, 2]);
    }
    if in_syn && let Some(shift) = options.window_scale {
        writer.put([NO_OPERATION, WINDOW_SCALE, 3, shift]);
    }
    let blocks = options.sack.as_slice();
    let fitting = blocks_beside(len_without_sack(options, in_syn)).min(blocks.len());
    write_blocks(&blocks[..fitting], &mut writer);
}

fn write_blocks(blocks: &[SeqRange], writer: &mut Writer<'_>) {
    // At most four, so the length fits.
    let Some(len) = u8::try_from(2 + 8 * blocks.len())
        .ok()
        .filter(|&len| len > 2)
    else {
        return;
    };
    writer.put([NO_OPERATION, NO_OPERATION, SACK, len]);
    for block in blocks {
        writer.put(block.start.0.to_be_bytes());
        writer.put(block.end.0.to_be_bytes());
    }
}

/// Writes word by word.
struct Writer<'a> {
    rest: &'a mut [u8],
}

impl Writer<'_> {
    fn put(&mut self, word: [u8; 4]) {
        if let Some((first, rest)) = core::mem::take(&mut self.rest).split_first_chunk_mut() {
            *first = word;
            self.rest = rest;
        } else {
            debug_assert!(false, "`len` and `write` disagree");
        }
    }
}
