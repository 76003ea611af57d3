//! The packets of a question: built from a 5-tuple, or read by [`capture`].
//!
//! Runs in the command, not in the daemon: whoever may ask may not thereby make the daemon read files.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use lb_ebpf::checksum;
use lb_ebpf::tcp::Flags;
use lb_ebpf::wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTOCOL_TCP, PROTOCOL_UDP};

use super::{MAX_FRAMES, capture};

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
            (_, _, Some(digits), _) => vec![capture::hex(digits).context("--hex")?],
            (_, _, _, Some(path)) => {
                let file = fs::read(path).map_err(anyhow::Error::from);
                file.and_then(|bytes| capture::pcap(&bytes))
                    .with_context(|| format!("--pcap {}", path.display()))?
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
}
