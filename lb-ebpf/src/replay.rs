//! What the benchmark's wrapper does to a frame before each run of the program under test.
//!
//! `BPF_PROG_TEST_RUN` can repeat a program, but on the same frame: a second run would find the first one's
//! rewrite and measure something else. So a wrapper (`src/bench.rs`) restores the frame, gives it the client of its
//! turn, and only then calls the program. [`Plan`] is what both sides share; [`client`] is the client of a number,
//! so that the host can build the very frame that the kernel will see.
//!
//! Deliberately not here: anything that the product runs. The feature `replay` is for benchmarks alone.

use crate::checksum::Update;
use crate::wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTOCOL_TCP, PROTOCOL_UDP};

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

/// TCP over IPv4 without options.
pub const SHAPE_IPV4_TCP: u64 = 0;
/// UDP over the same.
pub const SHAPE_IPV4_UDP: u64 = 1;
/// TCP over IPv6 without extension headers.
pub const SHAPE_IPV6_TCP: u64 = 2;
/// UDP over the same.
pub const SHAPE_IPV6_UDP: u64 = 3;

/// Elements of the wrapper's map `PLANS`.
pub const PLANS: u32 = 2;

/// Element of the wrapper's map `PLANS`: a frame, and who sends it.
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
    /// Element that the next frame is of. One that is not the plan's own writes the control bits anew as well.
    pub next: u64,
    /// Bits of the source address in which all clients are like the frame's; zero for none.
    pub same_bits: u64,
    /// Bytes of the frame, if the program puts headers in front of it that must be taken off again; else zero.
    pub length: u64,
    /// `SHAPE_*`.
    pub shape: u64,
    /// Bytes 0 to 7 of the frame.
    pub macs_head: u64,
    /// Bytes 8 to 11.
    pub macs_tail: u64,
    /// Bytes 12 and 13.
    pub ethertype: u64,
    /// Hops left and protocol, in the order of the family.
    pub hop: u64,
    /// Checksum of the IPv4 header; zero for IPv6.
    pub ip_checksum: u64,
    /// Source and destination address; those of IPv4 fill the first integer.
    pub addresses: [u64; 4],
    /// Source and destination port.
    pub ports: u64,
    /// Data offset and control bits of TCP; zero for UDP.
    pub control: u64,
    /// Checksum of the segment or datagram.
    pub checksum: u64,
}

/// Integers of a [`Plan`].
pub const PLAN_WORDS: usize = size_of::<Plan>() / 8;

/// The fields of a frame that differ from client to client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Checksum of the IPv4 header.
    pub ip_checksum: [u8; 2],
    /// The integer of [`Plan::addresses`] that has the client in its low half: the first, or, for IPv6, the second.
    pub client: u64,
    /// Source and destination port.
    pub ports: u32,
    /// Checksum of the segment or datagram.
    pub checksum: [u8; 2],
}

impl Plan {
    /// The plan that restores `frame`; only clients send it, counted from zero. `None` if it is of no known shape, or
    /// too short.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let plan = Self {
            macs_head: field(frame, at::MACS_HEAD, 8)?,
            macs_tail: field(frame, at::MACS_TAIL, 4)?,
            ethertype: field(frame, at::ETHERTYPE, 2)?,
            ..Self::default()
        };
        match *frame.get(at::ETHERTYPE..)?.first_chunk()? {
            ETHERTYPE_IPV4 => plan.over_ipv4(frame),
            ETHERTYPE_IPV6 => plan.over_ipv6(frame),
            _ => None,
        }
    }

    fn over_ipv4(self, frame: &[u8]) -> Option<Self> {
        let (shape, control, checksum) = match *frame.get(at::ipv4::PROTOCOL)? {
            PROTOCOL_TCP => {
                let control = field(frame, at::ipv4::CONTROL, 2)?;
                (SHAPE_IPV4_TCP, control, at::ipv4::TCP_CHECKSUM)
            }
            PROTOCOL_UDP => (SHAPE_IPV4_UDP, 0, at::ipv4::UDP_CHECKSUM),
            _ => return None,
        };
        Some(Self {
            shape,
            hop: field(frame, at::ipv4::HOP, 2)?,
            ip_checksum: field(frame, at::ipv4::CHECKSUM, 2)?,
            addresses: [field(frame, at::ipv4::ADDRESSES, 8)?, 0, 0, 0],
            ports: field(frame, at::ipv4::PORTS, 4)?,
            control,
            checksum: field(frame, checksum, 2)?,
            ..self
        })
    }

    fn over_ipv6(self, frame: &[u8]) -> Option<Self> {
        let (shape, control, checksum) = match *frame.get(at::ipv6::PROTOCOL)? {
            PROTOCOL_TCP => {
                let control = field(frame, at::ipv6::CONTROL, 2)?;
                (SHAPE_IPV6_TCP, control, at::ipv6::TCP_CHECKSUM)
            }
            PROTOCOL_UDP => (SHAPE_IPV6_UDP, 0, at::ipv6::UDP_CHECKSUM),
            _ => return None,
        };
        let address = |at| field(frame, at, 8);
        let [a, b, c, d] = at::ipv6::ADDRESSES;
        Some(Self {
            shape,
            hop: field(frame, at::ipv6::HOP, 2)?,
            addresses: [address(a)?, address(b)?, address(c)?, address(d)?],
            ports: field(frame, at::ipv6::PORTS, 4)?,
            control,
            checksum: field(frame, checksum, 2)?,
            ..self
        })
    }

    /// The plan for a frame that is left alone.
    pub fn untouched() -> Self {
        Self {
            order: ORDER_NONE,
            ..Self::default()
        }
    }

    /// The integers, in the order of the fields.
    pub fn words(&self) -> [u64; PLAN_WORDS] {
        let [a, b, c, d] = self.addresses;
        [
            self.state,
            self.order,
            self.mask,
            self.turn,
            self.next,
            self.same_bits,
            self.length,
            self.shape,
            self.macs_head,
            self.macs_tail,
            self.ethertype,
            self.hop,
            self.ip_checksum,
            a,
            b,
            c,
            d,
            self.ports,
            self.control,
            self.checksum,
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
        let [first, second, ..] = self.addresses;
        let old = match self.shape {
            SHAPE_IPV4_TCP | SHAPE_IPV4_UDP => first,
            _ => second,
        };
        let same = self.same_bits as u32;
        let source = address & !same | old as u32 & same;
        let client = old & !0xffff_ffff | u64::from(source);
        let ports = self.ports as u32 & 0xffff_0000 | u32::from(port);
        let checksum = |sum: u64| Update::new((sum as u16).to_le_bytes()).long(old, client);
        Fields {
            ip_checksum: checksum(self.ip_checksum).finish(),
            client,
            ports,
            checksum: checksum(self.checksum)
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

/// At most eight bytes as the integer that they are read as.
fn field(frame: &[u8], at: usize, length: usize) -> Option<u64> {
    let mut bytes = [0; 8];
    let found = frame.get(at..at + length)?;
    bytes.get_mut(..length)?.copy_from_slice(found);
    Some(u64::from_le_bytes(bytes))
}

/// Where the fields are in a frame, in bytes.
pub mod at {
    /// Eight bytes: the destination's hardware address and two bytes of the source's.
    pub const MACS_HEAD: usize = 0;
    /// Four bytes: the rest of the source's.
    pub const MACS_TAIL: usize = 8;
    /// Two bytes.
    pub const ETHERTYPE: usize = 12;

    /// Over IPv4 without options.
    pub mod ipv4 {
        /// Two bytes: time to live and protocol.
        pub const HOP: usize = 22;
        /// One byte.
        pub const PROTOCOL: usize = 23;
        /// Two bytes.
        pub const CHECKSUM: usize = 24;
        /// Eight bytes: source, then destination.
        pub const ADDRESSES: usize = 26;
        /// Four bytes: source, then destination.
        pub const PORTS: usize = 34;
        /// Two bytes: data offset and control bits.
        pub const CONTROL: usize = 46;
        /// Two bytes.
        pub const TCP_CHECKSUM: usize = 50;
        /// Two bytes.
        pub const UDP_CHECKSUM: usize = 40;
    }

    /// Over IPv6 without extension headers.
    pub mod ipv6 {
        /// Two bytes: protocol and hop limit.
        pub const HOP: usize = 20;
        /// One byte.
        pub const PROTOCOL: usize = 20;
        /// Eight bytes each: two for the source, then two for the destination.
        pub const ADDRESSES: [usize; 4] = [22, 30, 38, 46];
        /// Four bytes: source, then destination.
        pub const PORTS: usize = 54;
        /// Two bytes: data offset and control bits.
        pub const CONTROL: usize = 66;
        /// Two bytes.
        pub const TCP_CHECKSUM: usize = 70;
        /// Two bytes.
        pub const UDP_CHECKSUM: usize = 60;
    }
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
    use super::{
        ORDER_DRAW, Plan, SHAPE_IPV4_TCP, SHAPE_IPV4_UDP, SHAPE_IPV6_TCP, SHAPE_IPV6_UDP, at,
        client,
    };
    use crate::fixtures::{Address, Checksum, Datagram, Segment};
    use crate::tcp::Flags;
    use std::collections::HashSet;
    use std::vec;
    use std::vec::Vec;

    const MACS: ([u8; 6], [u8; 6]) = ([1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]);

    fn segment<A: Address>(source: A, port: u16, destination: A) -> Vec<u8> {
        Segment {
            macs: MACS,
            source: (source, port),
            destination: (destination, 25),
            flags: Flags::ACK,
            ttl: 64,
            payload: vec![1, 2, 3],
        }
        .bytes()
    }

    fn datagram<A: Address>(source: A, port: u16, destination: A) -> Vec<u8> {
        Datagram {
            macs: MACS,
            source: (source, port),
            destination: (destination, 25),
            ttl: 64,
            checksum: Checksum::Computed,
            payload: vec![1, 2, 3],
        }
        .bytes()
    }

    /// What [`Plan::next_client`] leaves to be written, written as the wrapper does.
    fn written(frame: &[u8], same_bits: u32) -> (Vec<u8>, Plan) {
        let mut plan = Plan {
            state: 7,
            same_bits: u64::from(same_bits),
            ..Plan::of(frame).unwrap()
        };
        let fields = plan.next_client();
        let mut got = frame.to_vec();
        let (client, ports, checksum) = match plan.shape {
            SHAPE_IPV4_TCP => (at::ipv4::ADDRESSES, at::ipv4::PORTS, at::ipv4::TCP_CHECKSUM),
            SHAPE_IPV4_UDP => (at::ipv4::ADDRESSES, at::ipv4::PORTS, at::ipv4::UDP_CHECKSUM),
            SHAPE_IPV6_TCP => (30, at::ipv6::PORTS, at::ipv6::TCP_CHECKSUM),
            _ => (30, at::ipv6::PORTS, at::ipv6::UDP_CHECKSUM),
        };
        if plan.shape == SHAPE_IPV4_TCP || plan.shape == SHAPE_IPV4_UDP {
            got[at::ipv4::CHECKSUM..][..2].copy_from_slice(&fields.ip_checksum);
        }
        got[client..][..8].copy_from_slice(&fields.client.to_le_bytes());
        got[ports..][..4].copy_from_slice(&fields.ports.to_le_bytes());
        got[checksum..][..2].copy_from_slice(&fields.checksum);
        (got, plan)
    }

    #[test]
    fn a_client_sends_a_valid_frame_with_its_own_source() {
        let first = [10, 203, 1, 10];
        let vip = [10, 203, 1, 100];
        let (address, port) = client(7);
        let check = |frame: fn([u8; 4], u16, [u8; 4]) -> Vec<u8>, shape: u64, same_bits: u32| {
            let (got, plan) = written(&frame(first, 1, vip), same_bits);
            let source = address & !same_bits | u32::from_le_bytes(first) & same_bits;
            let expected = frame(source.to_le_bytes(), u16::from_be(port), vip);
            assert_eq!(got, expected, "{shape} {same_bits:x}");
            assert_eq!((plan.state, plan.shape), (8, shape));
        };
        for same_bits in [0, 0x0000_ffff, !0] {
            check(segment, SHAPE_IPV4_TCP, same_bits);
            check(datagram, SHAPE_IPV4_UDP, same_bits);
        }
    }

    #[test]
    fn over_ipv6_the_client_is_in_the_second_half_of_the_source() {
        let mut source = [0xfd, 0, 2, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10];
        let vip = [0xfd, 0, 2, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100];
        let (address, port) = client(7);
        let mut check = |frame: fn([u8; 16], u16, [u8; 16]) -> Vec<u8>, shape: u64| {
            source[8..12].fill(0);
            let (got, plan) = written(&frame(source, 1, vip), 0);
            source[8..12].copy_from_slice(&address.to_le_bytes());
            assert_eq!(got, frame(source, u16::from_be(port), vip), "{shape}");
            assert_eq!(plan.shape, shape);
        };
        check(segment, SHAPE_IPV6_TCP);
        check(datagram, SHAPE_IPV6_UDP);
    }

    #[test]
    fn a_plan_wants_a_known_and_whole_header() {
        let frame = segment([1, 2, 3, 4], 1, [5, 6, 7, 8]);
        assert!(Plan::of(&frame[..52]).is_some());
        assert!(Plan::of(&frame[..51]).is_none());
        assert!(Plan::of(&[0; 60]).is_none());
    }

    #[test]
    fn the_words_are_the_fields() {
        let plan = Plan::of(&segment([1, 2, 3, 4], 1, [5, 6, 7, 8])).unwrap();
        let words = Plan {
            checksum: 77,
            state: 5,
            ..plan
        }
        .words();
        assert_eq!((words[0], words.last()), (5, Some(&77)));
        assert_eq!(words[10], u64::from(u16::from_le_bytes([8, 0])));
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
