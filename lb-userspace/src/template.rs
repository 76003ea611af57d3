//! `lb template exchange`: a whole configuration for an Exchange pool, printed; nothing is read or changed.
//!
//! Timeouts follow the protocols (MS-ASCMD 2.2.3.88.1, MS-OXCMAPIHTTP, MS-RPCH 2.1.2.1, Microsoft's advice for load balancers); Exchange itself shall
//! end idle sessions, not the load balancer. Invariant: what is printed has no mistakes, and no warning but those that
//! it explains in a comment; `tests` holds that for every combination of options.

mod legacy;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use clap::{Args, ValueEnum};

/// What `lb template` prints a configuration for.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Template {
    /// An Exchange 2016 or 2019 pool: a route with a health page and timeouts of its own for each virtual directory, port 80
    /// redirected, SMTP, IMAP and POP beside it.
    Exchange(Exchange),
}

/// The pool.
#[derive(Debug, Args)]
pub(crate) struct Exchange {
    /// Name that clients use, such as mail.example.com; the certificate is for it.
    #[arg(long, value_name = "NAME")]
    domain: String,
    /// Address of an Exchange server; once for each.
    #[arg(long = "server", value_name = "ADDRESS", required = true)]
    servers: Vec<IpAddr>,
    /// Virtual address, which clients connect to.
    #[arg(long, value_name = "ADDRESS", default_value = "192.0.2.10")]
    listen: IpAddr,
    /// Interface that packets come in by; more than one if servers are on another.
    #[arg(long = "interface", value_name = "NAME", default_value = "eth0")]
    interfaces: Vec<String>,
    /// Where TLS ends.
    #[arg(long, value_enum, default_value_t = Encryption::ReEncrypt)]
    tls: Encryption,
    /// What a LoadMaster does unless told otherwise, for a move without surprises; each line says what it costs.
    #[arg(long)]
    legacy_loadmaster: bool,
}

/// Where TLS ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Encryption {
    /// Here, and again at the servers. With Extended Protection all have the same certificate.
    ReEncrypt,
    /// Here: servers get plain HTTP. Not with Extended Protection.
    Offload,
    /// At the servers: packets are forwarded untouched, without routes and header work.
    Passthrough,
}

/// A virtual directory.
struct Vdir {
    name: &'static str,
    path: &'static str,
    response_timeout: &'static str,
    why: &'static str,
    /// Bytes of a request's body that Exchange's front end takes.
    body: &'static str,
}

/// In the order in which most requests find theirs soonest. The response timeout counts from the end of a request to the
/// head of its response; a response that is on its way has `idle_timeout` between two bytes.
const VDIRS: [Vdir; 10] = [
    Vdir {
        name: "mapi",
        path: "/mapi",
        response_timeout: "15m",
        why: "NotificationWait answers after 5 minutes, with a PENDING chunk every 30 s before",
        body: "2_147_483_648",
    },
    Vdir {
        name: "activesync",
        path: "/Microsoft-Server-ActiveSync",
        response_timeout: "1h",
        why: "Ping and Sync hold a request for up to 3540 s",
        body: "30_000_000",
    },
    Vdir {
        name: "owa",
        path: "/owa",
        response_timeout: "15m",
        why: "notifications hang for minutes",
        body: "35_000_000",
    },
    Vdir {
        name: "ews",
        path: "/EWS",
        response_timeout: "35m",
        why: "GetStreamingEvents lasts up to 30 minutes",
        body: "67_108_864",
    },
    Vdir {
        name: "autodiscover",
        path: "/Autodiscover",
        response_timeout: "5m",
        why: "short",
        body: "30_000_000",
    },
    Vdir {
        name: "rpc",
        path: "/rpc",
        response_timeout: "1h",
        why: "a tunnel: the answer to RPC_IN_DATA comes when it ends",
        body: "2_147_483_648",
    },
    Vdir {
        name: "oab",
        path: "/OAB",
        response_timeout: "15m",
        why: "large files",
        body: "30_000_000",
    },
    Vdir {
        name: "ecp",
        path: "/ecp",
        response_timeout: "15m",
        why: "searches take minutes",
        body: "35_000_000",
    },
    Vdir {
        name: "powershell",
        path: "/PowerShell",
        response_timeout: "15m",
        why: "cmdlets take minutes",
        body: "30_000_000",
    },
    Vdir {
        name: "api",
        path: "/api",
        response_timeout: "5m",
        why: "short",
        body: "30_000_000",
    },
];

/// A service that is forwarded packet by packet.
struct Neighbour {
    name: &'static str,
    port: u16,
    /// Kind of its check.
    check: &'static str,
    idle_timeout: &'static str,
}

/// IDLE is renewed after 29 minutes (RFC 2177); RFC 5321 section 4.5.3.2 wants 5 minutes and more of SMTP, RFC 1939 section 3
/// 10 minutes of POP.
const NEIGHBOURS: [Neighbour; 6] = [
    Neighbour {
        name: "smtp",
        port: 25,
        check: "smtp",
        idle_timeout: "11m",
    },
    Neighbour {
        name: "submission",
        port: 587,
        check: "smtp",
        idle_timeout: "11m",
    },
    Neighbour {
        name: "imap",
        port: 143,
        check: "imap",
        idle_timeout: "31m",
    },
    Neighbour {
        name: "imaps",
        port: 993,
        check: "imaps",
        idle_timeout: "31m",
    },
    Neighbour {
        name: "pop",
        port: 110,
        check: "pop",
        idle_timeout: "11m",
    },
    Neighbour {
        name: "pops",
        port: 995,
        check: "pops",
        idle_timeout: "11m",
    },
];

impl Template {
    /// The text of the configuration.
    pub(crate) fn print(&self) -> anyhow::Result<String> {
        match self {
            Self::Exchange(exchange) => exchange.print(),
        }
    }
}

impl Exchange {
    fn print(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        let forwarded = self.forwarded();
        self.head(&mut text);
        match self.tls {
            Encryption::Passthrough => {
                anyhow::ensure!(
                    !forwarded.is_empty(),
                    "--tls passthrough forwards packets, which stay in their family, and no --server has an address of that of \
                     --listen {}; give one, or take --tls re-encrypt",
                    self.listen
                );
                self.passthrough(&mut text, &forwarded);
            }
            Encryption::ReEncrypt | Encryption::Offload => self.proxied(&mut text),
        }
        self.redirect(&mut text);
        if forwarded.is_empty() {
            text.push_str("\n# No SMTP, IMAP and POP: packets stay in their family, and no server has an address of the virtual one's.\n");
        } else {
            for neighbour in &NEIGHBOURS {
                self.neighbour(&mut text, neighbour, &forwarded);
            }
        }
        Ok(text)
    }

    /// The servers that packets can be forwarded to.
    fn forwarded(&self) -> Vec<IpAddr> {
        let servers = self.servers.iter().copied();
        servers
            .filter(|server| server.is_ipv6() == self.listen.is_ipv6())
            .collect()
    }

    fn head(&self, text: &mut String) {
        let interfaces: Vec<_> = self
            .interfaces
            .iter()
            .map(|name| format!("{name:?}"))
            .collect();
        let _ = write!(
            text,
            "# {domain}: printed by `lb template exchange`. Adjust the names of files, then `lb check`.\n\
             # The virtual address belongs to this host: ip address add {listen}/{bits} dev {first}\n\n\
             interfaces = [{interfaces}]\n\n\
             # IMAP and POP servers see this address; their answers come back here by themselves.\n\
             [nat]\n\
             addresses = [\"{listen}\"]\n",
            domain = self.domain,
            listen = self.listen,
            bits = if self.listen.is_ipv4() { 32 } else { 128 },
            first = self.interfaces.first().map_or("eth0", String::as_str),
            interfaces = interfaces.join(", "),
        );
    }

    fn passthrough(&self, text: &mut String, forwarded: &[IpAddr]) {
        let _ = write!(
            text,
            "\n# TLS ends at the servers. They share one certificate, or OWA's forms cookies break when a client moves.\n\
             [[service]]\n\
             name = \"exchange\"\n\
             listen = \"{listen}\"\n\
             mode = \"l4\"\n\
             servers = [{servers}]\n\
             # The longest silence: ActiveSync's Ping. Exchange's own keep-alive (15 to 30 min) comes first.\n\
             idle_timeout = \"1h\"\n\
             health = {{ kind = \"https\", path = \"/owa/healthcheck.htm\", host = \"{domain}\", expect = \"200 OK\", ca = \"ca.pem\" }}\n",
            listen = SocketAddr::new(self.listen, 443),
            servers = on_port(forwarded, 443),
            domain = self.domain,
        );
    }

    fn proxied(&self, text: &mut String) {
        let offload = self.tls == Encryption::Offload;
        let port = if offload { 80 } else { 443 };
        let _ = write!(
            text,
            "\n[[service]]\n\
             name = \"exchange\"\n\
             listen = \"{listen}\"\n\
             mode = \"http\"\n\
             profile = \"exchange\"     # HTTP/1.1, no added header, logins tied to their connection\n\
             tls = {{ certificate = \"{domain}.pem\", key = \"{domain}.key\" }}\n",
            listen = SocketAddr::new(self.listen, 443),
            domain = self.domain,
        );
        if offload {
            text.push_str(
                "# Servers get plain HTTP. lb warns of it: with Extended Protection (the default since Exchange 2019 CU14) every NTLM\n\
                 # and Kerberos login fails this way. Prefer --tls re-encrypt.\n",
            );
        } else {
            let _ = writeln!(
                text,
                "# The certificate authority of the servers' certificates. With Extended Protection the servers have the same certificate\n\
                 # as this host.\n\
                 upstream_tls = {{ ca = \"ca.pem\", server_name = \"{}\" }}\n\
                 # Once they do: lb then refuses to start with another one, and says which server differs (lb doctor).\n\
                 # extended_protection = true",
                self.domain
            );
        }
        let _ = writeln!(text, "servers = [{}]", on_port(&self.servers, port));
        if self.legacy_loadmaster {
            text.push_str(&legacy::service(&self.domain, offload));
        } else {
            let _ = writeln!(
                text,
                "# Managed Availability's page of each route's virtual directory: OWA in trouble does not take EWS with it.\n\
                 health = {{ kind = \"{kind}\", host = \"{domain}\", interval = \"10s\", rise = 2, fall = 2 }}\n\
                 # Exchange's keep-alive (15 to 30 min) < this < the firewall's (1 h): Exchange ends sessions, not lb.\n\
                 idle_timeout = \"40m\"",
                kind = if offload { "http" } else { "https" },
                domain = self.domain,
            );
        }
        for vdir in &VDIRS {
            self.vdir(text, vdir);
        }
        text.push_str(
            "\n# What no route takes is answered with 404.\n\
             [[service.route]]\n\
             name = \"root\"\n\
             path = [\"=/\"]\n\
             redirect = { to = \"/owa/\", status = 302 }\n",
        );
    }

    fn vdir(&self, text: &mut String, vdir: &Vdir) {
        let Vdir {
            name,
            path,
            response_timeout,
            why,
            body,
        } = vdir;
        let _ = write!(
            text,
            "\n[[service.route]]\nname = \"{name}\"\npath = [\"{path}\"]\n"
        );
        if !self.legacy_loadmaster {
            let _ = write!(
                text,
                "response_timeout = \"{response_timeout}\"    # {why}\n\
                 limits = {{ body = {body} }}    # what Exchange's own front end takes\n"
            );
        }
    }

    fn redirect(&self, text: &mut String) {
        let _ = write!(
            text,
            "\n# Port 80: everyone is sent to TLS.\n\
             [[service]]\n\
             name = \"exchange-http\"\n\
             listen = \"{listen}\"\n\
             mode = \"http\"\n\
             [[service.route]]\n\
             name = \"to-https\"\n\
             redirect = {{ to = \"https://{domain}{{path}}\", status = 301 }}\n",
            listen = SocketAddr::new(self.listen, 80),
            domain = self.domain,
        );
    }

    fn neighbour(&self, text: &mut String, neighbour: &Neighbour, forwarded: &[IpAddr]) {
        let Neighbour {
            name,
            port,
            check,
            idle_timeout,
        } = neighbour;
        // A certificate is shown where TLS comes before the greeting.
        let proof = match *check {
            "imaps" | "pops" => format!(", host = \"{}\", ca = \"ca.pem\"", self.domain),
            _ => String::new(),
        };
        let source = match port {
            25 | 587 => {
                "source = \"client\"    # receive connectors go by the client's address; the servers' route to clients leads through \
                 this host (else: source = \"nat\")\n"
            }
            _ => "",
        };
        let _ = write!(
            text,
            "\n[[service]]\n\
             name = \"{name}\"\n\
             listen = \"{listen}\"\n\
             mode = \"l4\"\n\
             {source}\
             servers = [{servers}]\n\
             health = {{ kind = \"{check}\"{proof} }}\n\
             idle_timeout = \"{idle_timeout}\"\n",
            listen = SocketAddr::new(self.listen, *port),
            servers = on_port(forwarded, *port),
        );
    }
}

/// The elements of `servers`.
fn on_port(servers: &[IpAddr], port: u16) -> String {
    let servers = servers
        .iter()
        .map(|&address| format!("\"{}\"", SocketAddr::new(address, port)));
    servers.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
