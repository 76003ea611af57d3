//! L4 connections while the daemon is killed, stopped, started again and replaced: on a real kernel, with real sockets.
//!
//! Needs root and an `lb` with the XDP program inside (`cargo xtask test` builds it).

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    net::{IpAddr, SocketAddr, SocketAddrV4, TcpStream},
    path::{Path, PathBuf},
    process::Output,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::Duration,
};

use aya::maps::{Array, Map, MapData};
use lb_ebpf::abi::Settings;
use lb_tests::{
    address::{SNAT, VIP_HTTP, VIP_SMTP, server},
    binaries,
    client::Connection,
    lab::Namespace,
    witness::{self, PORT, Testimony, Witness},
    world::{Balancer, World, http},
};
use serde_json::Value;

#[path = "survive/on_the_stack.rs"]
mod on_the_stack;
#[path = "survive/other_program.rs"]
mod other_program;

const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(VIP_SMTP), PORT);
const IDLE: usize = 40;

/// A directory of pins that is empty before and after.
struct PinDirectory(PathBuf);

impl PinDirectory {
    fn new(name: &str) -> Self {
        let directory = Self(PathBuf::from(format!("/sys/fs/bpf/lb-tests-{name}")));
        directory.clear();
        directory
    }

    fn clear(&self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
        let _ = fs::remove_dir(&self.0);
    }

    /// Makes the data plane one of another `lb`, whose tables this one does not know.
    fn change_version(&self) {
        let map = Map::Array(MapData::from_pin(self.0.join("settings")).unwrap());
        let mut map = Array::<_, Settings>::try_from(map).unwrap();
        let mut settings = map.get(&0, 0).unwrap();
        settings.abi_version += 1;
        map.set(0, settings, 0).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for PinDirectory {
    fn drop(&mut self) {
        self.clear();
    }
}

fn configuration(servers: &[u8], flows: u32) -> String {
    format!(
        "[flows]\nmax = {flows}\n\n[nat]\naddresses = [\"{SNAT}\"]\nports = \"1024-65535\"\n\n{}",
        service("echo", PORT, servers, "health = { kind = \"none\" }")
    )
}

/// A service on the virtual address, with servers by their numbers and more keys.
fn service(name: &str, port: u16, servers: &[u8], more: &str) -> String {
    let servers = servers.iter().map(|number| server(*number));
    let servers: Vec<_> = servers.map(|server| format!("{server}:{PORT}")).collect();
    format!(
        "[[service]]\nname = \"{name}\"\nlisten = \"{VIP_SMTP}:{port}\"\nmode = \"l4\"\nservers = {servers:?}\n\
         {more}\n\n"
    )
}

fn start(world: &World, servers: &[u8], pins: &PinDirectory) -> Balancer {
    start_as(world, &configuration(servers, 10_000), pins)
}

fn start_as(world: &World, configuration: &str, pins: &PinDirectory) -> Balancer {
    start_by(world, &binaries::lb().unwrap(), configuration, pins)
}

fn start_by(world: &World, lb: &Path, configuration: &str, pins: &PinDirectory) -> Balancer {
    let mut balancer = world.balance_pinned_by(lb, configuration, &pins.0).unwrap();
    balancer
        .eventually("lb is ready and knows the ways to its servers", || {
            let admin = world.directory().join("lb.sock");
            let status = run(world, &binaries::lb()?, &["status", "--admin"], admin);
            Ok(status.status.success() && witness::ask(SERVICE, b"x").is_ok())
        })
        .unwrap();
    balancer
}

fn run(world: &World, program: &Path, arguments: &[&str], path: PathBuf) -> Output {
    let mut command = world.lab().edge().command(program);
    command.args(arguments).arg(path).output().unwrap()
}

/// A connection with something already on its way.
fn idle() -> TcpStream {
    let mut stream = witness::connect(SERVICE).unwrap();
    stream.write_all(b"half of it, ").unwrap();
    stream
}

fn finish(mut stream: TcpStream) -> Testimony {
    stream.write_all(b"and the rest").unwrap();
    witness::finish(stream).unwrap()
}

/// Ends and restarts the daemon six times, by SIGKILL and SIGTERM in turn, with a server more and another order from the
/// third time on, each time with another program in the place of the one before. Forty connections are idle meanwhile,
/// and others send all the time. Nobody is reset.
#[test]
fn connections_outlive_the_daemon_and_its_program() {
    let world = World::start(3).unwrap();
    let addresses: Vec<_> = (1..=3).map(|number| IpAddr::from(server(number))).collect();
    let _witnesses: Vec<_> = (1..=3)
        .map(|number| Witness::start(number, &[addresses[usize::from(number) - 1]]).unwrap())
        .collect();
    let pins = PinDirectory::new("survive");
    let lb = binaries::lb().unwrap();
    let other = world.directory().join("other-lb");
    other_program::write(&lb, &other);
    let balancer = start(&world, &[1, 2], &pins);
    let idle: Vec<_> = (0..IDLE).map(|_| idle()).collect();
    let (resets, mut tag) = (resets(3), tag(&world));
    let load = Load::default();
    let balancer = thread::scope(|scope| {
        let _ends = EndsLoad(&load);
        for _ in 0..2 {
            scope.spawn(|| load.send());
        }
        let mut balancer = balancer;
        for round in 0..6 {
            load.goes_on();
            if round % 2 == 0 {
                balancer.kill().unwrap();
            } else {
                assert!(balancer.stop().unwrap().success());
            }
            // Nobody is there now, and connections go on all the same, old and new.
            load.goes_on();
            let servers: &[u8] = if round < 2 { &[1, 2] } else { &[3, 2, 1] };
            let lb = if round % 2 == 0 { &other } else { &lb };
            balancer = start_by(&world, lb, &configuration(servers, 10_000), &pins);
            let before = std::mem::replace(&mut tag, self::tag(&world));
            assert_ne!(tag, before, "the program is the same as before");
        }
        balancer
    });
    for stream in idle {
        let seen = finish(stream);
        assert_eq!((seen.bytes, seen.peer.ip()), (24, IpAddr::from(SNAT)));
        assert_eq!(seen.sum, witness::sum(b"half of it, and the rest"));
        assert!(seen.server < 3, "a connection changed its server");
    }
    assert_eq!(self::resets(3), resets, "somebody was reset");
    balancer.stop().unwrap();
    assert!(pins.names().contains(&"flows".to_owned()));
}

/// Restarts with a service and a server in front of those that have flows, and then loses one of their servers.
#[test]
fn flows_keep_their_service_and_server_when_the_configuration_changes() {
    let world = World::start(3).unwrap();
    let mut witnesses: Vec<_> = (1..=3)
        .map(|number| Witness::start(number, &[IpAddr::from(server(number))]).unwrap())
        .collect();
    let pins = PinDirectory::new("numbers");
    let cut = "when_server_fails = \"cut\"\nhealth = { kind = \"tcp\", interval = \"200ms\", rise = 1, fall = 1 }";
    let nat = format!("[nat]\naddresses = [\"{SNAT}\"]\nports = \"1024-65535\"\n\n");
    let before = nat.clone() + &service("echo", PORT, &[1, 2], cut);
    let balancer = start_as(&world, &before, &pins);
    let streams: Vec<_> = (0..IDLE).map(|_| idle()).collect();
    let admin = balancer.admin().to_owned();
    let flows = || listed(&world, &admin, &streams);
    let opened = flows();
    assert_eq!(opened.len(), IDLE);
    assert!(balancer.stop().unwrap().success());

    let after = nat
        + &service("first", PORT + 1, &[1, 2, 3], cut)
        + &service("echo", PORT, &[3, 1, 2], cut);
    let mut balancer = start_as(&world, &after, &pins);
    assert_eq!(flows(), opened, "flows changed their names");

    // Server 1 fails. Of those 40, its own are cut, and no other.
    drop(witnesses.remove(0));
    let failed = format!("echo {}:{PORT}", server(1));
    balancer
        .eventually("the flows of the failed server are cut", || {
            Ok(flows().values().all(|of| *of != failed))
        })
        .unwrap();
    let mut others = opened;
    others.retain(|_, of| *of != failed);
    assert_eq!(flows(), others);
    for stream in streams {
        if others.contains_key(&stream.local_addr().unwrap()) {
            assert_eq!(finish(stream).server, 2);
        }
    }
}

/// Service and server of each connection, by its client's address, as `lb flows` has it.
fn listed(world: &World, admin: &Path, streams: &[TcpStream]) -> BTreeMap<SocketAddr, String> {
    let lb = binaries::lb().unwrap();
    let arguments = ["flows", "--json", "--admin"];
    let answer = run(world, &lb, &arguments, admin.to_owned());
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let flows = answer["flows"].as_array().unwrap().iter();
    let text = |flow: &Value, key| flow[key].as_str().unwrap().to_owned();
    let mut listed: BTreeMap<SocketAddr, _> = flows
        .map(|flow| {
            let of = text(flow, "service") + " " + &text(flow, "server");
            (text(flow, "client").parse().unwrap(), of)
        })
        .collect();
    let ours: Vec<_> = streams
        .iter()
        .map(|stream| stream.local_addr().unwrap())
        .collect();
    listed.retain(|client, _| ours.contains(client));
    listed
}

/// What the kernel calls the code of the attached program: a hash over its instructions.
fn tag(world: &World) -> String {
    let link = ["-json", "link", "show"];
    let output = run(world, Path::new("ip"), &link, "lb-front".into());
    let links: Value = serde_json::from_slice(&output.stdout).unwrap();
    links[0]["xdp"]["prog"]["tag"].as_str().unwrap().to_owned()
}

/// Connections of each host that were reset or refused (RFC 4022, `tcpEstabResets` and `tcpAttemptFails`). Not
/// `tcpOutRsts`: a FIN that is sent twice because its ACK was late is acknowledged twice, and the second ACK finds nobody.
fn resets(servers: u8) -> Vec<(String, u64)> {
    let places = (1..=servers).map(Namespace::pool);
    let places = places.chain([Namespace::client(), Namespace::edge()]);
    places
        .map(|place| (place.name().to_owned(), resets_of(&place)))
        .collect()
}

fn resets_of(place: &Namespace) -> u64 {
    let counters = place.run(|| fs::read_to_string("/proc/thread-self/net/snmp"));
    let counters = counters.unwrap().unwrap();
    let mut lines = counters.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let pairs = names.split(' ').zip(values.split(' '));
    let resets = pairs.filter(|(name, _)| ["EstabResets", "AttemptFails"].contains(name));
    resets.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
}

/// Connections without end.
#[derive(Default)]
struct Load {
    ended: AtomicBool,
    transfers: AtomicUsize,
}

impl Load {
    /// Sends half a megabyte at a time, in pieces, so that every moment has packets under way.
    fn send(&self) {
        let piece: Vec<u8> = (0..16_384_u32).map(|place| (place % 251) as u8).collect();
        while !self.ended.load(Relaxed) {
            let mut stream = witness::connect(SERVICE).unwrap();
            for _ in 0..32 {
                stream.write_all(&piece).unwrap();
                thread::sleep(Duration::from_millis(2));
            }
            let seen = witness::finish(stream).unwrap();
            assert_eq!(seen.bytes, 32 * piece.len());
            assert_eq!(seen.sum, witness::sum(&piece.repeat(32)));
            self.transfers.fetch_add(1, Relaxed);
        }
    }

    /// Waits for three more transfers.
    fn goes_on(&self) {
        let enough = self.transfers.load(Relaxed) + 3;
        let reached = || Ok(self.transfers.load(Relaxed) >= enough);
        lb_tests::world::eventually("transfers go on", reached).unwrap();
    }
}

/// Ends the load when the test ends, or fails: its threads would keep a failed one waiting.
struct EndsLoad<'a>(&'a Load);

impl Drop for EndsLoad<'_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Relaxed);
    }
}

/// The daemon is killed. One service goes on without it; the other one is left to a listener of the edge host itself after
/// two seconds, connections that it has included, until a daemon is there again.
#[test]
fn a_service_is_left_to_the_host_when_the_daemon_is_gone_for_long() {
    let world = World::start(1).unwrap();
    let _witness = Witness::start(1, &[IpAddr::from(server(1))]).unwrap();
    let (up, substitute) = (SocketAddr::new(VIP_SMTP.into(), PORT + 1), 99);
    let _listener = Witness::on_edge(substitute, up).unwrap();
    let pins = PinDirectory::new("orphan");
    let unchecked = "health = { kind = \"none\" }";
    let pass = format!("{unchecked}\nwhen_daemon_gone = \"pass\"");
    let configuration = format!(
        "[flows]\norphaned_after = \"2s\"\n\n[nat]\naddresses = [\"{SNAT}\"]\nports = \"1024-65535\"\n\n{}{}",
        service("goes-on", PORT, &[1], unchecked),
        service("left", PORT + 1, &[1], &pass)
    );
    let mut balancer = start_as(&world, &configuration, &pins);
    // A connection that is under way when its packets change their way is reset.
    let answers =
        |number| move || Ok(witness::ask(up, b"who?").is_ok_and(|seen| seen.server == number));
    balancer
        .eventually("the service is forwarded", answers(1))
        .unwrap();
    let going_on = idle();
    let mut left = witness::connect(up).unwrap();
    left.write_all(b"half of it, ").unwrap();
    balancer.kill().unwrap();

    lb_tests::world::eventually("the host answers by itself", answers(substitute)).unwrap();
    assert_eq!(witness::ask(SERVICE, b"who?").unwrap().server, 1);
    assert_eq!(finish(going_on).bytes, 24);
    assert!(
        witness::finish(left).is_err(),
        "the host knows no such connection"
    );

    let mut balancer = start_as(&world, &configuration, &pins);
    balancer
        .eventually("the service is forwarded again", answers(1))
        .unwrap();
    // For longer than it takes to find out that nobody is there.
    for _ in 0..100 {
        assert_eq!(witness::ask(up, b"who?").unwrap().server, 1);
    }
}

/// A client that comes while no daemon is there is not refused: its SYN is dropped, and sent again.
#[test]
fn a_client_of_af_xdp_waits_for_the_next_daemon() {
    let world = World::start(1).unwrap();
    let pins = PinDirectory::new("http");
    let web = SocketAddrV4::new(VIP_HTTP, 80);
    let configuration = web_service(web);
    let url = format!("http://{web}/owa/healthcheck.htm");
    let mut balancer = world.balance_pinned(&configuration, &pins.0).unwrap();
    balancer.until_served(&url).unwrap();
    assert!(balancer.stop().unwrap().success());
    thread::scope(|scope| {
        let client = scope.spawn(|| lb_tests::client::get(&url).unwrap().0);
        // It has begun: its connection is waiting for an answer.
        lb_tests::world::eventually("the client has sent its SYN", || {
            let arguments = ["-Htn", "state", "syn-sent"];
            let output = Namespace::client().command("ss").args(arguments).output()?;
            Ok(!output.stdout.is_empty())
        })
        .unwrap();
        let mut balancer = world.balance_pinned(&configuration, &pins.0).unwrap();
        balancer.until_served(&url).unwrap();
        assert_eq!(client.join().unwrap(), 200);
    });
}

/// Its connection is lost with the daemon's memory, and the client learns it with its next segment: it does not wait at a silent port.
#[test]
fn a_client_of_af_xdp_is_reset_when_the_daemon_is_killed() {
    let world = World::start(1).unwrap();
    let pins = PinDirectory::new("http-killed");
    let web = SocketAddrV4::new(VIP_HTTP, 80);
    let configuration = web_service(web);
    let mut balancer = world.balance_pinned(&configuration, &pins.0).unwrap();
    balancer
        .until_served(&format!("http://{web}/owa/healthcheck.htm"))
        .unwrap();
    let mut connection = Connection::open(web).unwrap();
    assert_eq!(connection.get("/owa/healthcheck.htm", &[]).unwrap(), 200);
    balancer.kill().unwrap();
    let error = connection.get("/owa/healthcheck.htm", &[]).unwrap_err();
    let error = error.downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
}

fn web_service(web: SocketAddrV4) -> String {
    format!(
        "[[service]]\nname = \"web\"\nlisten = \"{web}\"\nmode = \"http\"\ntransport = \"af_xdp\"\n\
         servers = [\"{}\"]\nhealth = {{ kind = \"none\" }}\n",
        http(1)
    )
}

/// A daemon with this configuration does not start, and says why and what to do.
fn refused(world: &World, configuration: &str, pins: &PinDirectory, why: &str) {
    let mut daemon = world.balance_pinned(configuration, &pins.0).unwrap();
    assert!(!daemon.wait().unwrap().success());
    let log = daemon.log();
    assert!(
        log.contains(why) && log.contains("lb detach --pin"),
        "{log}"
    );
}

#[test]
fn what_does_not_fit_is_refused_and_can_be_detached() {
    let world = World::start(1).unwrap();
    let _witness = Witness::start(1, &[IpAddr::from(server(1))]).unwrap();
    let pins = PinDirectory::new("refuse");
    let mut balancer = start(&world, &[1], &pins);
    balancer.kill().unwrap();

    refused(&world, &configuration(&[1], 1_000_000), &pins, "flows.max");
    let keyed = "[flows]\nhash_key = \"correct horse battery staple\"\n";
    let keyed = configuration(&[1], 10_000).replace("[flows]\n", keyed);
    refused(&world, &keyed, &pins, "another flows.hash_key");
    // What was there is as it was.
    let seen = witness::ask(SERVICE, b"still").unwrap();
    assert_eq!(seen.bytes, 5);
    pins.change_version();
    let same = configuration(&[1], 10_000);
    refused(&world, &same, &pins, "laid out differently");

    let lb = binaries::lb().unwrap();
    let detached = run(&world, &lb, &["detach", "--pin"], pins.0.clone());
    assert!(detached.status.success(), "{detached:?}");
    assert_eq!(pins.names(), [""; 0]);
    assert!(!pins.0.exists());
    let links = world
        .lab()
        .edge()
        .command("ip")
        .args(["link", "show", "lb-front"])
        .output();
    let links = String::from_utf8(links.unwrap().stdout).unwrap();
    assert!(!links.contains("xdp"), "{links}");
}
