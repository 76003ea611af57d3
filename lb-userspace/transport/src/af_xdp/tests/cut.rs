//! A device that cuts: what Linux and network cards do with a super-segment, written from their documentation.

use lb_xsk::Cut;

use crate::af_xdp::packet::ETHERNET_LEN;

/// Offsets in a TCP header.
const SEQ: usize = 4;
const FLAGS: usize = 13;
const CHECKSUM: usize = 16;
const PSH_AND_FIN: u8 = 0x09;

/// The frames that a super-segment is cut into. Each gets the headers, its own length and sequence number, and whole checksums; PSH and
/// FIN stay with the last.
pub(super) fn pieces(head: &[u8], payload: &[u8], cut: Cut) -> Vec<Vec<u8>> {
    let tcp_at = usize::from(cut.transport);
    assert_eq!(head.len(), tcp_at + usize::from(cut.tcp_header));
    let told = u16::from_be_bytes([head[tcp_at + CHECKSUM], head[tcp_at + CHECKSUM + 1]]);
    let whole = head.len() - tcp_at + payload.len();
    assert_eq!(told, pseudo_sum(head, cut, whole), "the partial checksum");
    let count = payload.len().div_ceil(usize::from(cut.mss));
    assert!(count > 1, "nothing to cut");
    let chunks = payload.chunks(usize::from(cut.mss)).enumerate();
    let piece = |(index, chunk): (usize, &[u8])| {
        let mut frame = [head, chunk].concat();
        let offset = u32::try_from(index * usize::from(cut.mss)).unwrap();
        let seq = &mut frame[tcp_at + SEQ..tcp_at + SEQ + 4];
        let moved = u32::from_be_bytes((&*seq).try_into().unwrap()).wrapping_add(offset);
        seq.copy_from_slice(&moved.to_be_bytes());
        if index + 1 < count {
            frame[tcp_at + FLAGS] &= !PSH_AND_FIN;
        }
        set_lengths_and_checksums(&mut frame, cut);
        frame
    };
    chunks.map(piece).collect()
}

fn set_lengths_and_checksums(frame: &mut [u8], cut: Cut) {
    let tcp_at = usize::from(cut.transport);
    let tcp_len = frame.len() - tcp_at;
    if cut.is_ipv6 {
        put(frame, ETHERNET_LEN + 4, u16::try_from(tcp_len).unwrap());
    } else {
        let total = u16::try_from(frame.len() - ETHERNET_LEN).unwrap();
        put(frame, ETHERNET_LEN + 2, total);
        put(frame, ETHERNET_LEN + 10, 0);
        let sum = !folded(sum(&frame[ETHERNET_LEN..tcp_at]));
        put(frame, ETHERNET_LEN + 10, sum);
    }
    let partial = pseudo_sum(frame, cut, tcp_len);
    put(frame, tcp_at + CHECKSUM, partial);
    let sum = !folded(sum(&frame[tcp_at..]));
    put(frame, tcp_at + CHECKSUM, sum);
}

fn put(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// RFC 9293 §3.1, RFC 8200 §8.1.
fn pseudo_sum(frame: &[u8], cut: Cut, tcp_len: usize) -> u16 {
    let addresses = if cut.is_ipv6 { 8..40 } else { 12..20 };
    let addresses = &frame[ETHERNET_LEN..][addresses];
    folded(sum(addresses) + 6 + u64::try_from(tcp_len).unwrap())
}

fn sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    bytes.chunks(2).map(word).sum()
}

fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}
