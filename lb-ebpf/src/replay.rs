//! What the benchmark's wrapper does to a frame before each run of the program under test.
//!
//! `BPF_PROG_TEST_RUN` can repeat a program, but on the same frame: a second run would find the first one's
//! rewrite and measure something else. So a wrapper (`src/bench.rs`) restores the frame, gives it the client of its
//! turn, and only then calls the program. [`Plan`] is what both sides share; [`client`] is the client of a number,
//! so that the host can build the very frame that the kernel will see.
//!
//! Deliberately not here: anything that the product runs. The feature `replay` is for benchmarks alone.

use crate::checksum::Update;

/// Numbers count up: each frame is of another client.
pub const ORDER_COUNT: u64 = 0;
/// Numbers are drawn at random, below a power of two.
pub const ORDER_DRAW: u64 = 1;
/// The frame is left alone, as a program that only passes leaves it.
pub const ORDER_NONE: u64 = 2;

/// Only clients send.
pub const TURN_CLIENT: u64 = 0;
/// A client sends next, and then its server answers what it was sent.
pub const TURN_CLIENT_THEN_SERVER: u64 = 1;
/// The server of the frame answers next.
pub const TURN_SERVER: u64 = 2;

/// Element of the wrapper's map `PLAN`: a frame of TCP over IPv4 without options, and who sends it.
///
/// All fields are 64 bits wide, so that userspace can write it as an array of integers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// With [`ORDER_COUNT`], the number of the next client; with [`ORDER_DRAW`], the state of the generator.
    pub state: u64,
    /// `ORDER_*`.
    pub order: u64,
    /// With [`ORDER_DRAW`]: the number of clients minus one, which is a power of two minus one.
    pub mask: u64,
    /// `TURN_*`; the wrapper advances it.
    pub turn: u64,
    /// Bits of the source address in which all clients are like the frame's; zero for none.
    pub same_bits: u64,
    /// Bytes 0 to 7 of the frame.
    pub macs_head: u64,
    /// Bytes 8 to 11.
    pub macs_tail: u64,
    /// Time to live and protocol.
    pub hop: u64,
    /// Checksum of the IPv4 header.
    pub ip_checksum: u64,
    /// Source and destination address.
    pub addresses: u64,
    /// Source and destination port.
    pub ports: u64,
    /// Checksum of the segment.
    pub tcp_checksum: u64,
}

/// Integers of a [`Plan`].
pub const PLAN_WORDS: usize = size_of::<Plan>() / 8;

/// The fields of a frame that differ from client to client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Checksum of the IPv4 header.
    pub ip_checksum: [u8; 2],
    /// Source and destination address.
    pub addresses: u64,
    /// Source and destination port.
    pub ports: u32,
    /// Checksum of the segment.
    pub tcp_checksum: [u8; 2],
}

impl Plan {
    /// The plan that restores `frame`; only clients send it, counted from zero. `None` if it is too short.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let field = |at: usize, length: usize| {
            let mut bytes = [0; 8];
            bytes[..length].copy_from_slice(frame.get(at..at + length)?);
            Some(u64::from_le_bytes(bytes))
        };
        Some(Self {
            macs_head: field(at::MACS_HEAD, 8)?,
            macs_tail: field(at::MACS_TAIL, 4)?,
            hop: field(at::HOP, 2)?,
            ip_checksum: field(at::IP_CHECKSUM, 2)?,
            addresses: field(at::ADDRESSES, 8)?,
            ports: field(at::PORTS, 4)?,
            tcp_checksum: field(at::TCP_CHECKSUM, 2)?,
            ..Self::default()
        })
    }

    /// The integers, in the order of the fields.
    pub fn words(&self) -> [u64; PLAN_WORDS] {
        [
            self.state,
            self.order,
            self.mask,
            self.turn,
            self.same_bits,
            self.macs_head,
            self.macs_tail,
            self.hop,
            self.ip_checksum,
            self.addresses,
            self.ports,
            self.tcp_checksum,
        ]
    }

    /// The fields of the frame as the next client sends it; its checksums are right if the plan's are.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "fields are held in wider integers"
    )]
    pub fn next_client(&mut self) -> Fields {
        let (address, port) = client(self.draw());
        let same = self.same_bits as u32;
        let source = address & !same | self.addresses as u32 & same;
        let addresses = self.addresses & !0xffff_ffff | u64::from(source);
        let ports = self.ports as u32 & 0xffff_0000 | u32::from(port);
        let checksum =
            |old: u64| Update::new((old as u16).to_le_bytes()).long(self.addresses, addresses);
        Fields {
            ip_checksum: checksum(self.ip_checksum).finish(),
            addresses,
            ports,
            tcp_checksum: checksum(self.tcp_checksum)
                .word(self.ports as u32, ports)
                .finish(),
        }
    }

    /// The number of the next client.
    #[inline(always)]
    fn draw(&mut self) -> u64 {
        if self.order == ORDER_COUNT {
            let number = self.state;
            self.state = number.wrapping_add(1);
            return number;
        }
        // Knuth, TAOCP 2, §3.3.4. The low bits of such a generator repeat soon; the high ones are drawn from.
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) & self.mask
    }
}

/// Where the fields are in a frame of TCP over IPv4 without options.
pub mod at {
    /// Eight bytes: the destination's hardware address and two bytes of the source's.
    pub const MACS_HEAD: usize = 0;
    /// Four bytes: the rest of the source's.
    pub const MACS_TAIL: usize = 8;
    /// Two bytes: time to live and protocol.
    pub const HOP: usize = 22;
    /// Two bytes.
    pub const IP_CHECKSUM: usize = 24;
    /// Eight bytes: source, then destination.
    pub const ADDRESSES: usize = 26;
    /// Four bytes: source, then destination.
    pub const PORTS: usize = 34;
    /// Two bytes.
    pub const TCP_CHECKSUM: usize = 50;
}

/// Address and port of a client, as the integers that stand in a frame.
///
/// All 48 bits differ from client to client: a multiplicative hash spreads neighbours better than random tuples
/// and would flatter the table. Two of a million clients are the same one in one case of 500.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "48 of the mixed bits are wanted"
)]
pub fn client(number: u64) -> (u32, u16) {
    // Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014: mix64.
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    ((x >> 32) as u32, (x >> 16) as u16)
}

#[cfg(test)]
mod tests {
    use super::{ORDER_DRAW, Plan, client};
    use crate::fixtures::Segment;
    use crate::tcp::Flags;
    use std::collections::HashSet;
    use std::vec;

    #[test]
    fn a_client_sends_a_valid_frame_with_its_own_source() {
        let segment = |source| Segment {
            macs: ([1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]),
            source,
            destination: ([10, 203, 1, 100], 25),
            flags: Flags::ACK,
            ttl: 64,
            payload: vec![1, 2, 3],
        };
        let check = |same_bits: u32, first: [u8; 4]| {
            let frame = segment((first, 1)).bytes();
            let mut plan = Plan {
                state: 7,
                same_bits: u64::from(same_bits),
                ..Plan::of(&frame).unwrap()
            };
            let fields = plan.next_client();
            let (address, port) = client(7);
            let source = address & !same_bits | u32::from_le_bytes(first) & same_bits;
            let mut got = frame;
            got[24..26].copy_from_slice(&fields.ip_checksum);
            got[26..34].copy_from_slice(&fields.addresses.to_le_bytes());
            got[34..38].copy_from_slice(&fields.ports.to_le_bytes());
            got[50..52].copy_from_slice(&fields.tcp_checksum);
            let expected = segment((source.to_le_bytes(), u16::from_be(port))).bytes();
            assert_eq!(got, expected, "{same_bits:x}");
            assert_eq!(plan.state, 8);
        };
        check(0, [10, 203, 1, 10]);
        check(0x0000_ffff, [10, 203, 1, 10]);
        check(!0, [10, 203, 1, 10]);
    }

    #[test]
    fn a_plan_wants_a_whole_header() {
        assert!(Plan::of(&[0; 52]).is_some());
        assert!(Plan::of(&[0; 51]).is_none());
    }

    #[test]
    fn every_client_is_drawn_sooner_or_later() {
        let mut plan = Plan {
            order: ORDER_DRAW,
            mask: 63,
            ..Plan::default()
        };
        let drawn: HashSet<u64> = (0..1000).map(|_| plan.draw()).collect();
        assert_eq!(drawn.len(), 64);
    }

    #[test]
    fn clients_differ_in_all_bits() {
        let (mut ones, mut zeros) = ((0, 0), (0, 0));
        let all: HashSet<_> = (0..10_000)
            .map(client)
            .inspect(|(address, port)| {
                ones = (ones.0 | address, ones.1 | port);
                zeros = (zeros.0 | !address, zeros.1 | !port);
            })
            .collect();
        assert_eq!(all.len(), 10_000);
        assert_eq!((ones, zeros), ((!0, !0), (!0, !0)));
    }
}
