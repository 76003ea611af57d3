//! Servers that are drained, and servers that fail: whose connections go on, whose end, and where new ones go.
//!
//! Needs root and an `lb` with the XDP program inside (`cargo xtask test` builds it).

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

use std::{
    collections::BTreeSet,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    time::Duration,
};

use lb_tests::{
    address::{SNAT, VIP_SMTP, server},
    binaries,
    lab::Namespace,
    witness,
    world::{Balancer, World},
};
use serde_json::Value;

/// What a service does with the flows of a failed server, and its port.
const LEAVE: (&str, u16) = ("leave", 7100);
const CUT: (&str, u16) = ("cut", 7200);

/// One service's listeners, by the number of the server. What they have accepted outlives them.
struct Listeners(Vec<(u8, TcpListener)>);

/// One connection, both of its ends.
struct Connection {
    client: TcpStream,
    server: TcpStream,
}

impl Listeners {
    fn new(port: u16) -> Self {
        let listen = |number: u8| {
            let address = SocketAddr::from((server(number), port));
            let listener = Namespace::pool(number).run(|| TcpListener::bind(address));
            let listener = listener.unwrap().unwrap();
            listener.set_nonblocking(true).unwrap();
            (number, listener)
        };
        Self((1..=2).map(listen).collect())
    }

    /// Opens a connection; the number of its server as well.
    fn open(&self, port: u16) -> (u8, Connection) {
        let mut client = witness::connect((VIP_SMTP, port).into()).unwrap();
        // Health checks say nothing.
        client.write_all(b"!").unwrap();
        let mut accepted = None;
        lb_tests::world::eventually("a server accepts", || {
            accepted = self.0.iter().find_map(|(number, listener)| {
                let (stream, _) = listener.accept().ok()?;
                Some((*number, spoken(stream)?))
            });
            Ok(accepted.is_some())
        })
        .unwrap();
        let (number, server) = accepted.unwrap();
        (number, Connection { client, server })
    }

    /// One connection to each server.
    fn one_each(&self, port: u16) -> [Connection; 2] {
        let (mut first, mut second) = (None, None);
        while first.is_none() || second.is_none() {
            let (number, connection) = self.open(port);
            match number {
                1 => first = Some(connection),
                _ => second = Some(connection),
            }
        }
        [first.unwrap(), second.unwrap()]
    }

    /// Servers of twenty new connections.
    fn chosen(&self, port: u16) -> BTreeSet<u8> {
        (0..20).map(|_| self.open(port).0).collect()
    }
}

/// The stream, if its client says something.
fn spoken(mut stream: TcpStream) -> Option<TcpStream> {
    stream.set_nonblocking(false).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.read_exact(&mut [0]).ok().map(|()| stream)
}

impl Connection {
    /// A few bytes there and back.
    fn works(&mut self) -> io::Result<()> {
        let mut heard = [0; 4];
        self.client.write_all(b"ping")?;
        self.server.read_exact(&mut heard)?;
        self.server.write_all(b"pong")?;
        self.client.read_exact(&mut heard)
    }
}

fn configuration() -> String {
    let service = |(word, port): (&str, u16)| {
        format!(
            "[[service]]\nname = \"{word}\"\nlisten = \"{VIP_SMTP}:{port}\"\nmode = \"l4\"\n\
             servers = [\"{}:{port}\", \"{}:{port}\"]\nwhen_server_fails = \"{word}\"\n\
             health = {{ kind = \"tcp\", interval = \"200ms\", rise = 1, fall = 1 }}\n\n",
            server(1),
            server(2)
        )
    };
    let nat = format!("[nat]\naddresses = [\"{SNAT}\"]\nports = \"1024-65535\"\n\n");
    nat + &service(LEAVE) + &service(CUT)
}

/// Runs `lb` against the daemon's admin socket.
fn lb(balancer: &Balancer, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(binaries::lb().unwrap());
    command.args(arguments).arg("--admin").arg(balancer.admin());
    let output = command.output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(told).unwrap())
}

fn start(world: &World) -> Balancer {
    let mut balancer = world.balance(&configuration()).unwrap();
    for service in ["leave", "cut"] {
        for number in 1..=2 {
            becomes(&mut balancer, service, number, true);
        }
    }
    balancer
}

/// Waits until `lb status` says that a server of a service is up, or not.
fn becomes(balancer: &mut Balancer, service: &str, number: u8, up: bool) {
    let admin = balancer.admin().to_owned();
    let what = format!("server {number} of {service}: up is {up}");
    let seen = || {
        let mut command = Command::new(binaries::lb()?);
        command.args(["status", "--json", "--admin"]).arg(&admin);
        let status: Value = serde_json::from_slice(&command.output()?.stdout).unwrap_or_default();
        let mut services = status["services"].as_array().into_iter().flatten();
        let found = services.find(|found| found["name"] == service);
        let server = found.map(|found| &found["servers"][usize::from(number) - 1]);
        Ok(server.is_some_and(|server| server["up"] == up))
    };
    balancer.eventually(&what, seen).unwrap();
}

#[test]
fn a_drained_server_keeps_its_connections_and_gets_no_new_ones() {
    let world = World::start(2).unwrap();
    let (name, port) = CUT;
    let (listeners, _others) = (Listeners::new(port), Listeners::new(LEAVE.1));
    let balancer = start(&world);
    let mut old = listeners.one_each(port);
    let server = format!("{}:{port}", server(1));

    let (done, told) = lb(&balancer, &["drain", name, &server]);
    assert!(
        done && told.contains("gets no new connections: drained"),
        "{told}"
    );
    assert_eq!(listeners.chosen(port), BTreeSet::from([2]));
    for connection in &mut old {
        connection.works().unwrap();
    }

    let (done, told) = lb(&balancer, &["undrain", name, &server]);
    assert!(done && told.contains("takes new connections"), "{told}");
    assert_eq!(listeners.chosen(port), BTreeSet::from([1, 2]));
    for connection in &mut old {
        connection.works().unwrap();
    }

    let (done, told) = lb(&balancer, &["drain", name, "10.203.2.99:1"]);
    assert!(
        !done && told.contains("has no server \"10.203.2.99:1\""),
        "{told}"
    );
    let (done, told) = lb(&balancer, &["drain", "nobody", &server]);
    assert!(
        !done && told.contains("no service is called \"nobody\""),
        "{told}"
    );
}

/// Server 1 stops listening, and goes on with what it has accepted.
#[test]
fn connections_of_a_failed_server_are_left_or_cut_and_others_stay() {
    let world = World::start(2).unwrap();
    let mut services = [LEAVE, CUT].map(|(_, port)| (port, Listeners::new(port)));
    let mut balancer = start(&world);
    let [[mut left, mut stays], [mut cut, mut stays_too]] = services
        .each_ref()
        .map(|(port, listeners)| listeners.one_each(*port));
    for (name, (port, listeners)) in ["leave", "cut"].into_iter().zip(&mut services) {
        listeners.0.remove(0);
        becomes(&mut balancer, name, 1, false);
        assert_eq!(listeners.chosen(*port), BTreeSet::from([2]));
    }

    // The table is swept bit by bit.
    cut.client
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    balancer
        .eventually("the flow is cut", || {
            let ended = cut
                .client
                .write_all(b"?")
                .and_then(|()| cut.client.read(&mut [0]));
            Ok(ended.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset))
        })
        .unwrap();
    left.works().unwrap();
    stays.works().unwrap();
    stays_too.works().unwrap();
}

#[test]
fn a_weight_of_zero_is_a_server_without_new_connections() {
    let world = World::start(2).unwrap();
    let (name, port) = LEAVE;
    let (listeners, _others) = (Listeners::new(port), Listeners::new(CUT.1));
    let address = format!("\"{}:{port}\"", server(1));
    let drained = format!("{{ address = {address}, weight = 0 }}");
    let configuration = configuration().replacen(&address, &drained, 1);
    let mut balancer = world.balance(&configuration).unwrap();
    for number in 1..=2 {
        becomes(&mut balancer, name, number, true);
    }
    assert_eq!(listeners.chosen(port), BTreeSet::from([2]));
}
