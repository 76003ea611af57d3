//! A witness beside each end: what it sends must obey the rules that the other end can rely on.
//!
//! The users see wrong bytes; only a witness sees a window that moved to the left, or a segment that the peer never asked for
//! and that happened to do no harm.

use lb_tcp::{Flags, Header, Segment, Seq, wire};

use crate::app::Stream;
use crate::packet::Packet;

/// What was sent and received by one end.
#[derive(Debug)]
pub(crate) struct Monitor {
    stream: Stream,
    /// Our SYN and the peer's.
    ours: Option<Header>,
    peers: Option<Header>,
    /// The peer's latest SYN, and whether it has acknowledged ours.
    last_syn: Option<Header>,
    was_open: bool,
    /// Behind the last number that we may send.
    granted: Option<Seq>,
    /// Behind the last number that we have allowed the peer.
    edge: Option<Seq>,
    ack: Option<Seq>,
    timestamp: Option<u32>,
    /// Behind our FIN.
    end: Option<Seq>,
    /// Whether windows are obeyed, and our own never moves to the left (RFC 9293 §3.8.6: SHOULD NOT). smoltcp 0.14
    /// believes a smaller window of an old segment, and then counts wrong.
    is_strict: bool,
}

impl Monitor {
    pub(crate) const fn new(stream: Stream, is_strict: bool) -> Self {
        Self {
            stream,
            ours: None,
            peers: None,
            last_syn: None,
            was_open: false,
            granted: None,
            edge: None,
            ack: None,
            timestamp: None,
            end: None,
            is_strict,
        }
    }

    /// The peer's segment has arrived.
    pub(crate) fn received(&mut self, packet: &Packet) {
        let Ok((_, segment)) = wire::parse(&packet.bytes) else {
            return;
        };
        let header = segment.header;
        if segment.has(Flags::RST) {
            return;
        }
        if segment.has(Flags::SYN) {
            self.peers.get_or_insert(header);
            self.last_syn = Some(header);
        }
        if segment.has(Flags::ACK) {
            self.was_open |= self.ours.is_some_and(|syn| header.ack.follows(syn.seq));
            let right = header.ack + self.unscaled(&header, self.scale_of(self.peers));
            self.granted = Some(self.granted.map_or(right, |edge| edge.max(right)));
        }
    }

    /// # Panics
    /// If the segment breaks a rule.
    pub(crate) fn sent(&mut self, packet: &Packet) {
        assert!(packet.checksum_holds(), "a wrong checksum: {packet}");
        let (_, segment) = wire::parse(&packet.bytes).expect("a segment");
        if segment.has(Flags::RST) {
            return;
        }
        if segment.has(Flags::SYN) {
            let is_another = |syn: Header| syn.seq != segment.header.seq;
            if self.ours.is_some_and(is_another) {
                // Only a handshake that was given up may be followed by another one. (smoltcp listens again after a RST.)
                assert!(!self.was_open || !self.is_strict, "another SYN: {packet}");
                *self = Self::new(self.stream, self.is_strict);
                self.peers = self.last_syn;
            }
            self.ours.get_or_insert(segment.header);
        }
        self.check_text(&segment, packet);
        self.check_acknowledgement(&segment.header, packet);
        self.check_options(&segment, packet);
    }

    fn check_text(&mut self, segment: &Segment<'_>, packet: &Packet) {
        let header = segment.header;
        let Some(iss) = self.ours.map(|syn| syn.seq) else {
            return;
        };
        let mut expected = vec![0; segment.payload.len()];
        let offset = header.seq.since(iss + 1);
        self.stream.fill(offset.into(), &mut expected);
        assert!(
            segment.payload == expected,
            "not the bytes of the stream: {packet}"
        );
        let behind = header.seq + segment.len();
        if segment.has(Flags::FIN) {
            let end = *self.end.get_or_insert(behind);
            assert_eq!(end, behind, "another FIN: {packet}");
        }
        if let Some(end) = self.end {
            assert!(!behind.follows(end), "behind the FIN: {packet}");
        }
        if let Some(granted) = self.granted
            && self.is_strict
        {
            // One byte, or the FIN, may probe a closed window (RFC 9293 §3.8.6.1).
            assert!(
                !behind.follows(granted + 1),
                "{} bytes beyond the window: {packet}",
                behind.since(granted)
            );
        }
    }

    fn check_acknowledgement(&mut self, header: &Header, packet: &Packet) {
        if !header.flags.has(Flags::ACK) {
            return;
        }
        if let Some(ack) = self.ack {
            assert!(!header.ack.precedes(ack), "acknowledges less: {packet}");
        }
        self.ack = Some(header.ack);
        if header.flags.has(Flags::SYN) {
            // A SYN that is sent again can't say a scaled window.
            return;
        }
        let right = header.ack + self.unscaled(header, self.scale_of(self.ours));
        if let Some(edge) = self.edge
            && self.is_strict
        {
            // A window may be rounded down to its unit (RFC 7323 §2.4).
            let unit = 1 << self.scale_of(self.ours);
            assert!(
                !(right + (unit - 1)).precedes(edge),
                "the window moved left by {}: {packet}",
                edge.since(right)
            );
        }
        self.edge = Some(right);
    }

    fn check_options(&mut self, segment: &Segment<'_>, packet: &Packet) {
        let options = segment.header.options;
        let syn = segment.has(Flags::SYN);
        assert!(
            syn || (options.mss.is_none()
                && options.window_scale.is_none()
                && !options.sack_permitted),
            "options of a SYN: {packet}"
        );
        let (Some(ours), Some(peers)) = (self.ours, self.peers) else {
            return;
        };
        let both = |has: fn(&Header) -> bool| has(&ours) && has(&peers);
        let has_timestamps = both(|syn| syn.options.timestamps.is_some());
        assert!(
            syn || options.timestamps.is_some() == has_timestamps,
            "timestamps, or none: {packet}"
        );
        if let Some(timestamps) = options.timestamps {
            let last = self.timestamp.replace(timestamps.value);
            let is_older = last.is_some_and(|last| Seq(timestamps.value).precedes(Seq(last)));
            assert!(!is_older, "a timestamp moved back: {packet}");
        }
        let has_sack = both(|syn| syn.options.sack_permitted);
        assert!(
            has_sack || options.sack.as_slice().is_empty(),
            "SACK was not permitted: {packet}"
        );
        let header_len = usize::from(packet.bytes[12] >> 4) * 4;
        let peer_mss = peers.options.mss.unwrap_or(1220);
        assert!(
            segment.payload.len() + header_len - 20 <= usize::from(peer_mss),
            "longer than the peer's MSS of {peer_mss}: {packet}"
        );
    }

    /// Shift of the windows of the end whose SYN this is.
    fn scale_of(&self, syn: Option<Header>) -> u8 {
        let scale = |syn: Option<Header>| syn.and_then(|syn| syn.options.window_scale);
        let both = scale(self.ours).and(scale(self.peers));
        both.and(scale(syn)).unwrap_or(0)
    }

    #[expect(clippy::unused_self, reason = "reads better")]
    fn unscaled(&self, header: &Header, scale: u8) -> u32 {
        let scale = if header.flags.has(Flags::SYN) {
            0
        } else {
            scale
        };
        u32::from(header.window) << scale
    }
}
