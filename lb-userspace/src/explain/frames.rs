//! The packets of a question: built from a 5-tuple, or read from hexadecimal digits or a capture file.
//!
//! Runs in the command, not in the daemon: whoever may ask may not thereby make the daemon read files.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use lb_ebpf::checksum;
use lb_ebpf::tcp::Flags;
use lb_ebpf::wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTOCOL_TCP, PROTOCOL_UDP};

use super::MAX_FRAMES;

/// Where the packets come from; one of three.
#[derive(Debug, clap::Args)]
pub(crate) struct Source {
    /// Sender of a packet.
    #[arg(long, value_name = "ADDR:PORT", requires = "to", required_unless_present_any = ["hex", "pcap"], conflicts_with_all = ["hex", "pcap"])]
    from: Option<SocketAddr>,
    /// Its receiver.
    #[arg(long, value_name = "ADDR:PORT", requires = "from")]
    to: Option<SocketAddr>,
    /// What it is.
    #[arg(long, value_enum, default_value = "tcp", requires = "from")]
    protocol: Protocol,
    /// Flags of a TCP segment.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "syn",
        requires = "from"
    )]
    flags: Vec<Flag>,
    /// A whole Ethernet frame in hexadecimal digits; blanks and colons don't matter.
    #[arg(long, value_name = "BYTES", conflicts_with = "pcap")]
    hex: Option<String>,
    /// A capture file (classic pcap, Ethernet), for example of `tcpdump -w`.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
}

/// Transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Protocol {
    /// A segment.
    Tcp,
    /// A datagram.
    Udp,
}

/// A control bit of TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Flag {
    /// Opens a connection.
    Syn,
    /// Acknowledges.
    Ack,
    /// Ends one direction.
    Fin,
    /// Ends the connection.
    Rst,
}

impl Flag {
    fn bits(self) -> Flags {
        match self {
            Self::Syn => Flags::SYN,
            Self::Ack => Flags::ACK,
            Self::Fin => Flags::FIN,
            Self::Rst => Flags::RST,
        }
    }
}

impl Source {
    /// The frames, at least one.
    pub(crate) fn frames(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        let frames = match (self.from, self.to, &self.hex, &self.pcap) {
            (Some(from), Some(to), _, _) => {
                let flags = self
                    .flags
                    .iter()
                    .fold(Flags::default(), |all, flag| all | flag.bits());
                vec![packet(from, to, self.protocol, flags)?]
            }
            (_, _, Some(digits), _) => vec![unhex(digits).context("--hex")?],
            (_, _, _, Some(path)) => {
                read_pcap(path).with_context(|| format!("--pcap {}", path.display()))?
            }
            _ => anyhow::bail!("no packet: name one with --from and --to, --hex or --pcap"),
        };
        anyhow::ensure!(
            (1..=MAX_FRAMES).contains(&frames.len()),
            "{} packets; at least one and at most {MAX_FRAMES} can be explained at once",
            frames.len()
        );
        Ok(frames)
    }
}

/// A packet without data. Hardware addresses don't matter for a decision, and are zero.
fn packet(
    from: SocketAddr,
    to: SocketAddr,
    protocol: Protocol,
    flags: Flags,
) -> anyhow::Result<Vec<u8>> {
    let mut transport = Vec::with_capacity(20);
    transport.extend(from.port().to_be_bytes());
    transport.extend(to.port().to_be_bytes());
    let (number, checksum) = match protocol {
        Protocol::Tcp => {
            transport.extend([0; 8]);
            transport.extend([0x50, flags.0, 0xff, 0xff, 0, 0, 0, 0]);
            (PROTOCOL_TCP, 16)
        }
        Protocol::Udp => {
            transport.extend([0, 8, 0, 0]);
            (PROTOCOL_UDP, 6)
        }
    };
    let length = u8::try_from(transport.len())?;
    let mut covered = addresses(from.ip(), to.ip())?;
    covered.extend([0, number, 0, length]);
    covered.extend(&transport);
    transport.splice(checksum..checksum + 2, checksum::of(&covered));

    let mut frame = vec![0; 12];
    if from.is_ipv4() {
        let mut ip = vec![0x45, 0, 0, 20 + length, 0, 0, 0x40, 0, 64, number, 0, 0];
        ip.extend(addresses(from.ip(), to.ip())?);
        let sum = checksum::of(&ip);
        ip.splice(10..12, sum);
        frame.extend(ETHERTYPE_IPV4);
        frame.extend(ip);
    } else {
        frame.extend(ETHERTYPE_IPV6);
        frame.extend([0x60, 0, 0, 0, 0, length, number, 64]);
        frame.extend(addresses(from.ip(), to.ip())?);
    }
    frame.extend(transport);
    Ok(frame)
}

fn addresses(from: IpAddr, to: IpAddr) -> anyhow::Result<Vec<u8>> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Ok([from.octets(), to.octets()].concat()),
        (IpAddr::V6(from), IpAddr::V6(to)) => Ok([from.octets(), to.octets()].concat()),
        _ => {
            anyhow::bail!("--from {from} and --to {to} are of different families; give two of one")
        }
    }
}

fn unhex(text: &str) -> anyhow::Result<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace() && *c != ':')
        .map(|c| {
            let digit = c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            digit.with_context(|| format!("{c:?} is no hexadecimal digit"))
        })
        .collect::<Result<_, _>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    anyhow::ensure!(rest.is_empty(), "an odd number of digits");
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

fn read_pcap(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    pcap(&std::fs::read(path)?)
}

/// Link type of Ethernet frames (draft-ietf-opsawg-pcap, §4).
const LINKTYPE_ETHERNET: u32 = 1;

/// The packets of a capture file (draft-ietf-opsawg-pcap): in either byte order, with microseconds or
/// nanoseconds.
fn pcap(bytes: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    const SHORT: &str = "the file ends too early";
    let (magic, rest) = bytes.split_first_chunk::<4>().context(SHORT)?;
    let word: fn([u8; 4]) -> u32 = match u32::from_le_bytes(*magic) {
        0xa1b2_c3d4 | 0xa1b2_3c4d => u32::from_le_bytes,
        0xd4c3_b2a1 | 0x4d3c_b2a1 => u32::from_be_bytes,
        _ => anyhow::bail!(
            "no classic pcap file; `tcpdump -w` writes one, `editcap -F pcap` converts"
        ),
    };
    let (header, mut rest) = rest.split_first_chunk::<20>().context(SHORT)?;
    let ([.., link], _) = header.as_chunks::<4>() else {
        anyhow::bail!(SHORT);
    };
    // The high bits say whether frames end with a checksum.
    let link = word(*link) & 0xffff;
    anyhow::ensure!(
        link == LINKTYPE_ETHERNET,
        "link type {link}; only Ethernet (1) can be explained: capture on an interface, not on \"any\""
    );
    let mut frames = Vec::new();
    while let Some((record, after)) = rest.split_first_chunk::<16>() {
        let ([_, _, captured, original], _) = record.as_chunks::<4>() else {
            anyhow::bail!(SHORT);
        };
        let (captured, original) = (word(*captured), word(*original));
        anyhow::ensure!(
            captured == original,
            "packet {} was cut to {captured} of {original} bytes: capture with `tcpdump -s 0`",
            frames.len() + 1
        );
        let (frame, after) = after.split_at_checked(captured as usize).context(SHORT)?;
        frames.push(frame.to_vec());
        rest = after;
    }
    anyhow::ensure!(rest.is_empty(), SHORT);
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_the_checksums_that_a_receiver_expects() {
        let from = "192.0.2.1:40000".parse().unwrap();
        let to = "198.51.100.1:25".parse().unwrap();
        let frame = packet(from, to, Protocol::Tcp, Flags::SYN).unwrap();
        assert_eq!(frame.len(), 54);
        // A sum over data that includes its own checksum is zero.
        assert_eq!(checksum::of(&frame[14..34]), [0, 0]);
        let mut covered = frame[26..34].to_vec();
        covered.extend([0, PROTOCOL_TCP, 0, 20]);
        covered.extend(&frame[34..]);
        assert_eq!(checksum::of(&covered), [0, 0]);
        assert_eq!(super::super::addresses(&frame), Some((from, to)));
    }

    #[test]
    fn datagrams_and_both_families_are_understood() {
        for (from, to) in [
            ("192.0.2.1:40000", "198.51.100.1:53"),
            ("[2001:db8::1]:40000", "[2001:db8::2]:53"),
        ] {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let frame = packet(from, to, protocol, Flags::SYN).unwrap();
                assert_eq!(super::super::addresses(&frame), Some((from, to)));
            }
        }
        let mixed = packet(
            "192.0.2.1:1".parse().unwrap(),
            "[2001:db8::1]:1".parse().unwrap(),
            Protocol::Udp,
            Flags::SYN,
        );
        assert!(
            mixed
                .unwrap_err()
                .to_string()
                .contains("different families")
        );
    }

    #[test]
    fn hexadecimal_digits_are_bytes() {
        assert_eq!(unhex("00:ff a0\n1B").unwrap(), [0, 0xff, 0xa0, 0x1b]);
        assert!(unhex("0").is_err());
        assert!(unhex("0g").is_err());
    }

    fn file(word: fn(u32) -> [u8; 4], link: u32, captured: u32) -> Vec<u8> {
        let mut file = Vec::new();
        for value in [
            0xa1b2_c3d4,
            0x0004_0002,
            0,
            0,
            65535,
            link,
            1,
            2,
            captured,
            3,
        ] {
            file.extend(word(value));
        }
        file.extend([7, 8, 9]);
        file
    }

    #[test]
    fn captures_of_either_byte_order_are_read() {
        for word in [u32::to_le_bytes, u32::to_be_bytes] {
            assert_eq!(pcap(&file(word, 1, 3)).unwrap(), [[7, 8, 9]]);
        }
    }

    #[test]
    fn a_capture_that_cannot_be_explained_says_why() {
        let check = |bytes: &[u8], expected: &str| {
            let error = pcap(bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&[1; 40], "no classic pcap");
        check(&file(u32::to_le_bytes, 113, 3), "link type 113");
        check(&file(u32::to_le_bytes, 1, 2), "cut to 2 of 3 bytes");
        let whole = file(u32::to_le_bytes, 1, 3);
        for length in [0, 3, 23, 30, whole.len() - 1] {
            check(&whole[..length], "ends too early");
        }
    }
}
