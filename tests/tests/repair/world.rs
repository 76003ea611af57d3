//! A lab with a listener of the kernel's, and a wire that can be cut in front of the edge's TCP.

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    process::Stdio,
    time::Duration,
};

use lb_tests::{
    address::{VIP_HTTP, ipv6},
    lab::{Lab, Size},
};
use socket2::SockRef;

/// The lab.
pub(crate) struct World {
    pub(crate) lab: Lab,
    listeners: Vec<TcpListener>,
}

/// Both ends of a connection.
pub(crate) struct Ends {
    pub(crate) client: TcpStream,
    pub(crate) server: TcpStream,
}

/// The virtual address in both families.
pub(crate) fn families() -> [IpAddr; 2] {
    [VIP_HTTP.into(), ipv6(VIP_HTTP).into()]
}

impl World {
    pub(crate) fn new() -> Self {
        let lab = Lab::up(Size {
            servers: 1,
            queues: 1,
        })
        .unwrap();
        lab.speak_ipv6().unwrap();
        nft(
            &lab,
            "add table inet repair
             add chain inet repair wire { type filter hook prerouting priority -300; }",
        );
        let mut world = Self {
            lab,
            listeners: Vec::new(),
        };
        world.listen_again();
        world
    }

    /// Other listeners than before.
    pub(crate) fn listen_again(&mut self) {
        self.listeners.clear();
        self.listeners = self.in_edge(|| families().map(listen)).into();
    }

    pub(crate) fn connect(&self, ip: IpAddr) -> Ends {
        let address = SocketAddr::new(ip, PORT);
        let client = self.lab.client().run(|| TcpStream::connect(address));
        let client = client.unwrap().unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_nodelay(true).unwrap();
        let listener = self
            .listeners
            .iter()
            .find(|listener| listener.local_addr().unwrap() == address);
        let (server, _) = listener.unwrap().accept().unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        Ends { client, server }
    }

    /// From here on nothing of the client's reaches the edge's TCP.
    pub(crate) fn block(&self) {
        nft(
            &self.lab,
            &format!("add rule inet repair wire iifname lb-front tcp dport {PORT} drop"),
        );
    }

    pub(crate) fn unblock(&self) {
        nft(&self.lab, "flush chain inet repair wire");
    }

    /// Segments that left the edge, resets included.
    pub(crate) fn sent(&self) -> u64 {
        self.in_edge(|| {
            let text = fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
            let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
            let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
            let mut pairs = names.split(' ').zip(values.split(' '));
            let value = |wanted| pairs.find(|(name, _)| *name == wanted).unwrap().1;
            ["OutSegs", "OutRsts"]
                .map(value)
                .map(|value| value.parse::<u64>().unwrap())
                .iter()
                .sum()
        })
    }

    pub(crate) fn switch_off(&self, options: &[&str]) {
        self.switch(options, "0");
    }

    pub(crate) fn switch_on(&self, options: &[&str]) {
        self.switch(options, "1");
    }

    pub(crate) fn in_edge<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.lab.edge().run(work).unwrap()
    }

    fn switch(&self, options: &[&str], value: &str) {
        for option in options {
            let path = format!("/proc/sys/net/ipv4/{option}");
            self.in_edge(|| fs::write(path, value).unwrap());
        }
    }
}

/// Rules of the edge's netfilter.
pub(crate) fn nft(lab: &Lab, rules: &str) {
    let mut nft = lab.edge().command("nft");
    let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin
        .take()
        .unwrap()
        .write_all(rules.as_bytes())
        .unwrap();
    assert!(nft.wait().unwrap().success(), "{rules}");
}

/// With cubic: how much is in flight at a moment should not depend on how fast the machine is, as it does with BBR.
fn listen(ip: IpAddr) -> TcpListener {
    let listener = TcpListener::bind((ip, PORT)).unwrap();
    let socket = SockRef::from(&listener);
    socket.set_tcp_congestion(b"cubic").unwrap();
    listener
}

/// Where the server listens.
const PORT: u16 = 7100;
/// Longer than any retransmission takes; only a connection that is stuck runs into it.
const PATIENCE: Duration = Duration::from_secs(30);
