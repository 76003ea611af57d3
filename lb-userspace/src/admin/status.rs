//! The document behind `lb status`: what the daemon sends as JSON, and how a person sees it.
//!
//! Field names are part of the interface: scripts read them. Counts start when the daemon starts.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::HandoverStatus;
use crate::doctor::EXPIRY_DAYS;

/// Everything that `lb status --json` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Version of the daemon.
    pub(crate) version: String,
    /// Seconds since the daemon was ready.
    pub(crate) uptime_seconds: u64,
    /// Interfaces that the program is attached to.
    pub(crate) interfaces: Vec<InterfaceStatus>,
    /// Services in the order of the configuration.
    pub(crate) services: Vec<ServiceStatus>,
    /// Counters of the workers' TCP, named like Linux' own; those that are 0 are left out.
    #[serde(default)]
    pub(crate) tcp: Vec<Counter>,
    /// What the XDP program did with packets, by reason; reasons never given are left out.
    pub(crate) reasons: Vec<ReasonStatus>,
}

/// One attached interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InterfaceStatus {
    /// Name.
    pub(crate) name: String,
    /// Receive queues.
    pub(crate) queues: u32,
    /// `AF_XDP` sockets bound to them.
    pub(crate) af_xdp_sockets: u32,
    /// Packets for a worker that the kernel could not give to its socket.
    pub(crate) rx_dropped: u64,
    /// Packets for a worker that found its receive ring full: it is too slow.
    pub(crate) rx_ring_full: u64,
}

/// One service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ServiceStatus {
    /// Name.
    pub(crate) name: String,
    /// Virtual address and port.
    pub(crate) listen: SocketAddr,
    /// What carries it: `l4`, `http/af_xdp` or `http/kernel`.
    pub(crate) mode: String,
    /// Why this transport, when the configuration left the choice open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) transport_reason: Option<String>,
    /// Where its connections live, if they may move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) handover: Option<HandoverStatus>,
    /// Servers in the order of the configuration.
    pub(crate) servers: Vec<ServerStatus>,
    /// Packets of this service that the program handled, both directions.
    pub(crate) packets: u64,
    /// Bytes of those packets, Ethernet headers included.
    pub(crate) bytes: u64,
    /// Flows inserted; 0 for a service that workers answer.
    pub(crate) flows: u64,
    /// Counters of the proxy, by name; empty for l4.
    pub(crate) http: Vec<Counter>,
    /// Certificates that clients are shown, the default one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) certificates: Vec<CertificateStatus>,
    /// What is wrong with changed files of certificates and roots; what was read before is in use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) file_problems: Vec<String>,
    /// Routes in the order of the configuration, and all of a relay as one; empty for l4.
    #[serde(default)]
    pub(crate) routes: Vec<RouteStatus>,
}

/// A certificate that clients are shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CertificateStatus {
    /// Its first name, or else its subject.
    pub(crate) title: String,
    /// Its subject.
    pub(crate) subject: String,
    /// The names that it is for.
    pub(crate) names: Vec<String>,
    /// SHA-256, in hexadecimal.
    pub(crate) sha256: String,
    /// Its last moment, UTC.
    pub(crate) not_after: String,
    /// Whole days until then; below 0 if it is over.
    pub(crate) days_left: i64,
    /// Its file.
    pub(crate) file: String,
    /// Whether it waits for its turn, because earlier ones have all its names.
    pub(crate) staged: bool,
    /// Whether an OCSP response is stapled to it.
    pub(crate) stapled: bool,
}

/// What a look at the certificate that a server shows came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SeenCertificate {
    /// `same`, `staged`, `differs` or `unseen`.
    pub(crate) state: String,
    /// The same, for people.
    pub(crate) detail: String,
}

/// One server of one service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ServerStatus {
    /// Name.
    pub(crate) name: String,
    /// The route that it serves, if its service has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) route: Option<String>,
    /// Address and port.
    pub(crate) address: SocketAddr,
    /// Whether it takes new connections.
    pub(crate) up: bool,
    /// Why it is up or down.
    pub(crate) reason: String,
    /// Share of new connections, relative to the other servers.
    #[serde(default)]
    pub(crate) weight: u16,
    /// Whether the operator has drained it.
    #[serde(default)]
    pub(crate) drained: bool,
    /// Whether it is used only while no other of its route is up.
    #[serde(default)]
    pub(crate) backup: bool,
    /// Requests under way and pinned connections, of all routes; `None` for l4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) in_use: Option<u32>,
    /// Most of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_connections: Option<u32>,
    /// Whether it shows the certificate that clients see, if that is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<SeenCertificate>,
}

/// One route of a service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RouteStatus {
    /// Name.
    pub(crate) name: String,
    /// Requests that it took; of a relay, connections.
    pub(crate) requests: u64,
    /// Requests that wait for a server just now.
    pub(crate) waiting: u32,
    /// Requests that ever waited.
    pub(crate) queued: u64,
    /// Whether fewer servers are up than its `minimum_healthy`.
    pub(crate) degraded: bool,
}

impl fmt::Display for RouteStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            requests,
            waiting,
            queued,
            degraded,
        } = self;
        write!(f, "  route {name}: took {requests}")?;
        if *queued > 0 {
            write!(f, ", {waiting} wait, {queued} ever waited")?;
        }
        if *degraded {
            write!(f, ", DEGRADED: fewer servers up than minimum_healthy")?;
        }
        writeln!(f)
    }
}

impl fmt::Display for ServerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.up, self.drained) {
            (true, _) => "up",
            (false, true) => "drained",
            (false, false) => "DOWN",
        };
        write!(f, "  {state:<7} ")?;
        if let Some(route) = &self.route {
            write!(f, "{route}/")?;
        }
        write!(f, "{}", self.name)?;
        // A server that the configuration leaves unnamed is called by its address.
        if self.name != self.address.to_string() {
            write!(f, " {}", self.address)?;
        }
        if self.backup {
            write!(f, " backup")?;
        }
        if self.weight != 1 {
            write!(f, " weight {}", self.weight)?;
        }
        match (self.in_use, self.max_connections) {
            (Some(used), Some(most)) => write!(f, " in use {used} of {most}")?,
            (Some(used), None) => write!(f, " in use {used}")?,
            (None, _) => {}
        }
        writeln!(f, "  {}", self.reason)?;
        let certificate = self.certificate.as_ref();
        match certificate.filter(|seen| seen.state != "same") {
            Some(seen) => writeln!(f, "       {}", seen.detail),
            None => Ok(()),
        }
    }
}

/// One named count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counter {
    /// Name.
    pub(crate) name: String,
    /// Count.
    pub(crate) value: u64,
}

/// How often the program gave one reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReasonStatus {
    /// Name of the reason.
    pub(crate) reason: String,
    /// Packets.
    pub(crate) packets: u64,
    /// What it means.
    pub(crate) explanation: String,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "lb {}, up {} s", self.version, self.uptime_seconds)?;
        for interface in &self.interfaces {
            let InterfaceStatus {
                name,
                queues,
                af_xdp_sockets,
                rx_dropped,
                rx_ring_full,
            } = interface;
            write!(
                f,
                "interface {name}: {queues} queues, {af_xdp_sockets} AF_XDP sockets"
            )?;
            if rx_dropped + rx_ring_full > 0 {
                write!(
                    f,
                    ", {rx_dropped} dropped, {rx_ring_full} for want of room in a ring"
                )?;
            }
            writeln!(f)?;
        }
        for service in &self.services {
            write!(f, "\n{service}")?;
        }
        if !self.tcp.is_empty() {
            writeln!(f, "\nTCP of the workers")?;
        }
        for Counter { name, value } in &self.tcp {
            writeln!(f, "  {name:<34} {value:>12}")?;
        }
        writeln!(f, "\npackets by reason")?;
        for ReasonStatus {
            reason,
            packets,
            explanation,
        } in &self.reasons
        {
            writeln!(f, "  {reason:<22} {packets:>12}  {explanation}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ServiceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            listen,
            mode,
            packets,
            bytes,
            flows,
            ..
        } = self;
        writeln!(f, "service {name} {listen} {mode}")?;
        if let Some(reason) = &self.transport_reason {
            writeln!(f, "  transport: {reason}")?;
        }
        if let Some(handover) = &self.handover {
            write!(f, "{handover}")?;
        }
        writeln!(f, "  {packets} packets, {bytes} bytes, {flows} flows")?;
        for certificate in &self.certificates {
            write!(f, "  {certificate}")?;
        }
        for problem in &self.file_problems {
            writeln!(f, "  FILES {problem}")?;
        }
        for route in &self.routes {
            write!(f, "{route}")?;
        }
        for server in &self.servers {
            write!(f, "{server}")?;
        }
        for Counter { name, value } in self.http.iter().filter(|counter| counter.value > 0) {
            writeln!(f, "  {name:<34} {value:>12}")?;
        }
        Ok(())
    }
}

impl fmt::Display for CertificateStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            title,
            not_after,
            days_left,
            sha256,
            ..
        } = self;
        write!(f, "certificate {title} until {not_after} SHA-256 {sha256}")?;
        for (is_so, word) in [(self.staged, ", staged"), (self.stapled, ", stapled")] {
            f.write_str(if is_so { word } else { "" })?;
        }
        match days_left {
            ..0 => writeln!(f, ", EXPIRED"),
            0..EXPIRY_DAYS => writeln!(f, ", EXPIRES in {days_left} days"),
            EXPIRY_DAYS.. => writeln!(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_routes_in_words() {
        let server = ServerStatus {
            name: "ex1".to_owned(),
            route: Some("owa".to_owned()),
            address: ([10, 0, 0, 1], 443).into(),
            up: true,
            reason: "200 OK<br/>EX1".to_owned(),
            weight: 1,
            drained: false,
            backup: false,
            in_use: Some(3),
            max_connections: None,
            certificate: None,
        };
        let expected = "  up      owa/ex1 10.0.0.1:443 in use 3  200 OK<br/>EX1\n";
        assert_eq!(server.to_string(), expected);
        let drained = ServerStatus {
            name: "10.0.0.1:443".to_owned(),
            route: None,
            up: false,
            reason: "drained".to_owned(),
            weight: 5,
            drained: true,
            backup: true,
            max_connections: Some(9),
            ..server.clone()
        };
        let expected = "  drained 10.0.0.1:443 backup weight 5 in use 3 of 9  drained\n";
        assert_eq!(drained.to_string(), expected);
        let forwarded = ServerStatus {
            up: false,
            reason: "connect: refused".to_owned(),
            in_use: None,
            ..server
        };
        let expected = "  DOWN    owa/ex1 10.0.0.1:443  connect: refused\n";
        assert_eq!(forwarded.to_string(), expected);

        let route = RouteStatus {
            name: "owa".to_owned(),
            requests: 7,
            waiting: 0,
            queued: 0,
            degraded: false,
        };
        assert_eq!(route.to_string(), "  route owa: took 7\n");
        let busy = RouteStatus {
            waiting: 2,
            queued: 5,
            degraded: true,
            ..route
        };
        let expected = "  route owa: took 7, 2 wait, 5 ever waited, DEGRADED: fewer servers up than minimum_healthy\n";
        assert_eq!(busy.to_string(), expected);
    }
}
