//! `lb flows`: which connections there are just now: those that the packet path forwards, from the live flow table, and those
//! that end in a worker's TCP, from its engine.
//!
//! The daemon reads and filters, because it has both; the command prints. Field names are part of the interface: scripts
//! read them.

mod forwarded;
mod query;
mod terminated;

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub(crate) use forwarded::{Addressed, tuple};
pub(crate) use query::{Endpoint, Query};
pub(crate) use terminated::{Names, reason, terminated};

use crate::control::Control;

/// Everything that `lb flows --json` prints.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Flows {
    /// Flows, in no order.
    pub(crate) flows: Vec<Flow>,
    /// There may be more than the limit let through.
    pub(crate) truncated: bool,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Flow {
    /// The client.
    pub(crate) client: SocketAddr,
    /// The address that it talks to.
    pub(crate) listen: SocketAddr,
    /// The client as the server sees it: another one with full NAT.
    pub(crate) source: SocketAddr,
    /// The server; none for a connection that ends here, whose requests may go to several.
    pub(crate) server: Option<SocketAddr>,
    /// Name of the service.
    pub(crate) service: String,
    /// `tcp` or `udp`.
    pub(crate) protocol: String,
    /// `nat`, `dsr`, `ipip` or `gue`: in all but the first the server answers by itself, and nothing is counted out. A connection that
    /// ends here lives in a worker's TCP, `af_xdp`, or in the kernel's, `kernel`; of both neither packets nor bytes are known.
    pub(crate) forward: String,
    /// `half-open`, `established`, `closing` or `closed`.
    pub(crate) state: String,
    /// Seconds since the last packet in either direction; none where only the kernel knows.
    pub(crate) idle_seconds: Option<u32>,
    /// Packets to the server, modulo 2³².
    pub(crate) packets_in: u32,
    /// Bytes of them, Ethernet headers included.
    pub(crate) bytes_in: u64,
    /// Packets to the client, modulo 2³².
    pub(crate) packets_out: u32,
    /// Bytes of them, Ethernet headers included.
    pub(crate) bytes_out: u64,
    /// Of a connection that has moved from `af_xdp` to `kernel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) moved: Option<Moved>,
    /// Of a connection that ends in a worker's TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tcp: Option<Tcp>,
}

/// When and why a connection has moved to the kernel's TCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moved {
    /// `response`, `upload`, `streamed`, `tunnel`: what it carries; or `stop`: its worker was about to end.
    pub(crate) why: String,
    /// How long ago.
    pub(crate) seconds: u64,
}

/// What our TCP knows of a connection, named like Linux' `tcp_info`: windows in bytes, what is in flight in segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tcp {
    /// State of RFC 9293, as `ss` prints it.
    pub(crate) state: String,
    /// Smoothed round trip; none before the first sample.
    pub(crate) rtt_us: Option<u64>,
    /// Its mean deviation.
    pub(crate) rttvar_us: u64,
    /// The least one of the last minutes.
    pub(crate) min_rtt_us: u64,
    /// Retransmission timeout, backed off.
    pub(crate) rto_ms: u64,
    /// Payload of a full segment.
    pub(crate) snd_mss: u32,
    /// Congestion window.
    pub(crate) snd_cwnd: u32,
    /// Slow start threshold; none before the first loss.
    pub(crate) snd_ssthresh: Option<u32>,
    /// What the client lets us send.
    pub(crate) snd_wnd: u32,
    /// What we let the client send.
    pub(crate) rcv_wnd: u32,
    /// Segments sent and not acknowledged.
    pub(crate) unacked: u32,
    /// Of these, received behind a gap.
    pub(crate) sacked: u32,
    /// Of these, believed lost.
    pub(crate) lost: u32,
    /// Retransmissions ever.
    pub(crate) total_retrans: u32,
    /// Bytes written and not sent.
    pub(crate) notsent_bytes: u32,
    /// Bytes received and not read.
    pub(crate) unread_bytes: u32,
}

/// What workers told, and then what the tables hold, which are read in place.
pub(crate) fn list(
    control: &Control,
    query: &Query,
    of_workers: Vec<Flows>,
) -> anyhow::Result<Flows> {
    let mut listed = Flows::default();
    for told in of_workers {
        listed.truncated |= told.truncated;
        told.flows
            .into_iter()
            .for_each(|flow| listed.add(flow, query.limit));
    }
    let settings = control.dataplane().settings()?;
    let found = forwarded::forwarded(control, &settings).filter(|flow| query.matches(flow));
    for flow in found {
        listed.add(flow, query.limit);
        if listed.truncated {
            break;
        }
    }
    Ok(listed)
}

impl Flows {
    fn add(&mut self, flow: Flow, limit: usize) {
        if self.flows.len() < limit {
            self.flows.push(flow);
        } else {
            self.truncated = true;
        }
    }
}

impl fmt::Display for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for flow in &self.flows {
            writeln!(f, "{flow}")?;
        }
        if self.truncated {
            writeln!(f, "… and more: narrow the question, or raise --limit")?;
        }
        Ok(())
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            client,
            listen,
            source,
            server,
            service,
            protocol,
            forward,
            state,
            idle_seconds,
            ..
        } = self;
        write!(f, "{protocol} {client} > {listen}")?;
        if let Some(server) = server {
            write!(f, " > {server}")?;
        }
        write!(f, "  {service}  {state}")?;
        if forward != "nat" {
            write!(f, "  {forward}")?;
        }
        if source != client {
            write!(f, "  nat {source}")?;
        }
        if let Some(Moved { why, seconds }) = &self.moved {
            write!(f, "  moved ({why}) {seconds} s ago")?;
        }
        if let Some(idle_seconds) = idle_seconds {
            write!(f, "  idle {idle_seconds} s")?;
        }
        match &self.tcp {
            Some(tcp) => write!(f, "  {tcp}"),
            None if self.server.is_none() => Ok(()),
            None => write!(
                f,
                "  in {} packets {} bytes  out {} packets {} bytes",
                self.packets_in, self.bytes_in, self.packets_out, self.bytes_out
            ),
        }
    }
}

impl fmt::Display for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  rtt ", self.state)?;
        match self.rtt_us {
            Some(rtt) => write!(f, "{rtt} ± {} µs", self.rttvar_us)?,
            None => write!(f, "unknown")?,
        }
        write!(
            f,
            "  rto {} ms  cwnd {}  unacked {}  retransmitted {}",
            self.rto_ms, self.snd_cwnd, self.unacked, self.total_retrans
        )
    }
}

#[cfg(test)]
mod tests {
    use super::query::Endpoint;
    use super::*;

    const CLIENT: &str = "192.0.2.1:40000";

    fn sample() -> Flow {
        Flow {
            client: CLIENT.parse().unwrap(),
            listen: "198.51.100.1:25".parse().unwrap(),
            source: "203.0.113.9:1025".parse().unwrap(),
            server: "203.0.113.2:25".parse().ok(),
            service: "smtp".to_owned(),
            protocol: "tcp".to_owned(),
            forward: "nat".to_owned(),
            state: "established".to_owned(),
            idle_seconds: Some(3),
            packets_in: 4,
            bytes_in: 500,
            packets_out: 6,
            bytes_out: 700,
            moved: None,
            tcp: None,
        }
    }

    #[test]
    fn a_query_matches_what_it_names() {
        let any = Query {
            service: None,
            server: None,
            client: None,
            state: None,
            limit: 1,
        };
        let check = |query: Query, expected| {
            assert_eq!(query.matches(&sample()), expected, "{query:?}");
        };
        let endpoint = |text: &str| Some(text.parse::<Endpoint>().unwrap());
        let name = |text: &str| Some(text.to_owned());
        check(any.clone(), true);
        for (service, expected) in [("smtp", true), ("web", false)] {
            let service = name(service);
            check(
                Query {
                    service,
                    ..any.clone()
                },
                expected,
            );
        }
        for (client, expected) in [
            ("192.0.2.1", true),
            (CLIENT, true),
            ("192.0.2.1:4", false),
            ("192.0.2.2", false),
        ] {
            let client = endpoint(client);
            check(
                Query {
                    client,
                    ..any.clone()
                },
                expected,
            );
        }
        for (server, expected) in [("203.0.113.2", true), ("203.0.113.9", false)] {
            let server = endpoint(server);
            check(
                Query {
                    server,
                    ..any.clone()
                },
                expected,
            );
        }
        for (state, expected) in [("established", true), ("closed", false)] {
            let state = name(state);
            check(
                Query {
                    state,
                    ..any.clone()
                },
                expected,
            );
        }
    }

    #[test]
    fn a_line_says_who_and_how_much() {
        assert_eq!(
            sample().to_string(),
            "tcp 192.0.2.1:40000 > 198.51.100.1:25 > 203.0.113.2:25  smtp  established  nat 203.0.113.9:1025  \
             idle 3 s  in 4 packets 500 bytes  out 6 packets 700 bytes"
        );
    }

    #[test]
    fn a_line_says_where_a_connection_lives_and_why() {
        let ends_here = Flow {
            server: None,
            source: sample().client,
            forward: "kernel".to_owned(),
            idle_seconds: None,
            ..sample()
        };
        let began = "tcp 192.0.2.1:40000 > 198.51.100.1:25  smtp  established  kernel";
        assert_eq!(ends_here.to_string(), began);
        let moved = Some(Moved {
            why: "upload".to_owned(),
            seconds: 7,
        });
        let moved = Flow { moved, ..ends_here };
        assert_eq!(
            moved.to_string(),
            format!("{began}  moved (upload) 7 s ago")
        );
    }

    #[test]
    fn endpoints_survive_the_way_to_the_daemon() {
        for text in ["192.0.2.1", CLIENT] {
            let endpoint: Endpoint = text.parse().unwrap();
            let json = serde_json::to_string(&endpoint).unwrap();
            assert_eq!(serde_json::from_str::<Endpoint>(&json).unwrap(), endpoint);
        }
        assert!("mail.example".parse::<Endpoint>().is_err());
    }
}
