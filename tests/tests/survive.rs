//! L4 connections while the daemon is killed, started again and replaced: on a real kernel, with real sockets.
//!
//! Needs root and an `lb` with the XDP program inside (`cargo xtask test` builds it).

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Output,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::Duration,
};

use lb_tests::{
    address::{SNAT, VIP_SMTP, server},
    binaries,
    witness::{self, PORT, Testimony, Witness},
    world::{Balancer, World},
};

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
    let list: Vec<_> = servers
        .iter()
        .map(|number| format!("{}:{PORT}", server(*number)))
        .collect();
    format!(
        "[flows]\nmax = {flows}\n\n[nat]\naddresses = [\"{SNAT}\"]\nports = \"1024-65535\"\n\n\
         [[service]]\nname = \"echo\"\nlisten = \"{SERVICE}\"\nmode = \"l4\"\nservers = {list:?}\n\
         health = {{ kind = \"none\" }}\n"
    )
}

fn start(world: &World, servers: &[u8], pins: &PinDirectory) -> Balancer {
    let text = configuration(servers, 10_000);
    let mut balancer = world.balance_pinned(&text, &pins.0).unwrap();
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

/// Kills and restarts the daemon five times, with a server more and another order from the third time on, each time with
/// a program loaded anew in the place of the one before. Forty connections are idle meanwhile, and others send all the time.
#[test]
fn connections_outlive_the_daemon_and_its_program() {
    let world = World::start(3).unwrap();
    let addresses: Vec<_> = (1..=3).map(|number| IpAddr::from(server(number))).collect();
    let _witnesses: Vec<_> = (1..=3)
        .map(|number| Witness::start(number, &[addresses[usize::from(number) - 1]]).unwrap())
        .collect();
    let pins = PinDirectory::new("survive");
    let mut balancer = start(&world, &[1, 2], &pins);
    let idle: Vec<_> = (0..IDLE).map(|_| idle()).collect();
    let (ended, transfers) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| busy(&ended, &transfers));
        }
        for round in 0..5 {
            let enough = transfers.load(Relaxed) + 3;
            lb_tests::world::eventually(
                "transfers go on",
                || Ok(transfers.load(Relaxed) >= enough),
            )
            .unwrap();
            balancer.kill().unwrap();
            // Nobody is there now, and connections go on all the same, old and new.
            let enough = transfers.load(Relaxed) + 3;
            lb_tests::world::eventually("transfers go on without a daemon", || {
                Ok(transfers.load(Relaxed) >= enough)
            })
            .unwrap();
            let servers: &[u8] = if round < 2 { &[1, 2] } else { &[3, 2, 1] };
            balancer = start(&world, servers, &pins);
        }
        ended.store(true, Relaxed);
    });
    for stream in idle {
        let seen = finish(stream);
        assert_eq!((seen.bytes, seen.peer.ip()), (24, IpAddr::from(SNAT)));
        assert_eq!(seen.sum, witness::sum(b"half of it, and the rest"));
        assert!(seen.server < 3, "a connection changed its server");
    }
    balancer.stop().unwrap();
    assert_eq!(
        pins.names(),
        [""; 0],
        "what is stopped in order leaves nothing"
    );
}

/// Sends half a megabyte at a time, in pieces, so that every moment has packets under way.
fn busy(ended: &AtomicBool, transfers: &AtomicUsize) {
    let piece: Vec<u8> = (0..16_384_u32).map(|place| (place % 251) as u8).collect();
    while !ended.load(Relaxed) {
        let mut stream = witness::connect(SERVICE).unwrap();
        for _ in 0..32 {
            stream.write_all(&piece).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
        let seen = witness::finish(stream).unwrap();
        assert_eq!(seen.bytes, 32 * piece.len());
        assert_eq!(seen.sum, witness::sum(&piece.repeat(32)));
        transfers.fetch_add(1, Relaxed);
    }
}

#[test]
fn what_does_not_fit_is_refused_and_can_be_detached() {
    let world = World::start(1).unwrap();
    let _witness = Witness::start(1, &[IpAddr::from(server(1))]).unwrap();
    let pins = PinDirectory::new("refuse");
    let mut balancer = start(&world, &[1], &pins);
    balancer.kill().unwrap();

    let mut other = world
        .balance_pinned(&configuration(&[1], 1_000_000), &pins.0)
        .unwrap();
    assert!(!other.wait().unwrap().success());
    let log = other.log();
    assert!(
        log.contains("flows.max") && log.contains("lb detach --pin"),
        "{log}"
    );
    // What was there is as it was.
    let seen = witness::ask(SERVICE, b"still").unwrap();
    assert_eq!(seen.bytes, 5);

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
