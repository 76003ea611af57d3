//! What becomes of connections that can't be given away, and of daemons that are killed in the middle of it.

use std::{
    os::unix::net::UnixDatagram,
    thread,
    time::{Duration, Instant},
};

use lb_tests::{
    upgrade::PinDirectory,
    world::{Balancer, World, eventually},
};

use super::ends::{Clients, Far, configuration, newcomers_are_served};

/// A world with a daemon that serves clients of all kinds.
struct Stage {
    clients: Clients,
    old: Balancer,
    configuration: String,
    far: Far,
    pins: PinDirectory,
    world: World,
}

impl Stage {
    fn set(transport: &str, first: &str) -> Self {
        let world = World::start(1).unwrap();
        world.lab().speak_ipv6().unwrap();
        let far = Far::start();
        let pins = PinDirectory::new("fates");
        let configuration = configuration(&world, transport, first);
        let mut old = world.balance_pinned(&configuration, pins.path()).unwrap();
        old.until_ready().unwrap();
        Self {
            clients: Clients::open(&world),
            old,
            configuration,
            far,
            pins,
            world,
        }
    }

    fn heir(&self) -> Balancer {
        let pins = self.pins.path();
        self.world
            .balance_pinned(&self.configuration, pins)
            .unwrap()
    }

    /// An heir that has taken over.
    fn successor(&self) -> Balancer {
        let mut heir = self.heir();
        heir.until_ready().unwrap();
        heir
    }

    /// All are served to their ends by a daemon that has handed over, which then ends itself.
    fn play_to_the_end(&mut self) {
        let heir = self.successor();
        self.clients.go_on();
        self.clients.are_told_to_go();
        newcomers_are_served();
        self.far.release();
        self.clients.get_the_rest();
        assert!(self.old.ended().unwrap().is_none());
        self.clients.leave();
        let status = self.old.wait().unwrap();
        assert!(status.success(), "{}", self.old.log());
        // These were given away, and have only the heir now.
        self.clients.ask_again();
        assert!(heir.stop().unwrap().success());
    }
}

fn everyone_goes_on(transport: &str, moved: impl Fn(usize) -> usize) {
    let mut stage = Stage::set(transport, "");
    let expected = format!("moved={} reset=0", moved(stage.clients.count()));
    stage.play_to_the_end();
    let log = stage.old.log();
    assert!(log.contains(&expected), "{expected}: {log}");
}

#[test]
fn what_has_no_request_to_end_with_goes_on_on_the_kernel() {
    everyone_goes_on("kernel", |_| 0);
}

/// All of them were in the workers' TCP until then.
#[test]
fn what_has_no_request_to_end_with_goes_on_on_af_xdp() {
    everyone_goes_on("af_xdp", |all| all);
}

/// One second, and the ten of every stop.
#[test]
fn drain_timeout_ends_what_is_left() {
    let mut stage = Stage::set("af_xdp", "drain_timeout = \"1s\"\n");
    let heir = stage.successor();
    let status = stage.old.wait().unwrap();
    let log = stage.old.log();
    assert!(
        status.success() && log.contains("drain_timeout is over"),
        "{log}"
    );
    stage.clients.are_cut_off();
    stage.clients.ask_again();
    newcomers_are_served();
    assert!(heir.stop().unwrap().success());
}

const MADE_ROOM: &str = "connections moved to the kernel";
const TAKING_OVER: &str = "taking over from the lb that runs";
const GOES_ON: &str = "a successor failed, and this lb goes on";
const HAS_LEFT: &str = "another lb has taken over";

/// Waits for a word in a log, and looks more often than what is to be caught takes.
fn catch(daemon: &Balancer, word: &str) {
    let started = Instant::now();
    while !daemon.log().contains(word) {
        assert!(
            started.elapsed() < Duration::from_mins(1),
            "{word}: {}",
            daemon.log()
        );
        thread::sleep(Duration::from_millis(1));
    }
}

/// Between "vacate" and "ready": the old daemon takes all of it back.
#[test]
fn an_heir_that_is_killed_is_not_noticed() {
    // The machine may be so slow that an heir gets through before it is killed. Then nothing has been tried.
    let caught = (0..5).any(|_| {
        let mut stage = Stage::set("af_xdp", "");
        let mut heir = stage.heir();
        catch(&stage.old, MADE_ROOM);
        heir.kill().unwrap();
        eventually("the old daemon knows", || {
            let log = stage.old.log();
            Ok(log.contains(GOES_ON) || log.contains(HAS_LEFT))
        })
        .unwrap();
        if stage.old.log().contains(HAS_LEFT) {
            return false;
        }
        stage.clients.go_on();
        stage.clients.ask_again();
        eventually("connections begin on AF_XDP again", || {
            // It answers nothing until it is back.
            let opens = || stage.old.tcp("TcpPassiveOpens").ok();
            let before = opens();
            newcomers_are_served();
            Ok(before.is_some() && opens() > before)
        })
        .unwrap();
        stage.play_to_the_end();
        true
    });
    assert!(caught, "every heir was faster");
}

/// Its clients are lost with it. The heir becomes the daemon, or ends and says why; then the next start finds no obstacle.
#[test]
fn a_daemon_that_is_killed_while_it_hands_over_is_in_nobodys_way() {
    for moment in [TAKING_OVER, MADE_ROOM] {
        let mut stage = Stage::set("af_xdp", "");
        let mut heir = stage.heir();
        let of = if moment == TAKING_OVER {
            &heir
        } else {
            &stage.old
        };
        catch(of, moment);
        stage.old.kill().unwrap();
        let mut failed = None;
        eventually("the heir is the daemon, or ends", || {
            failed = heir.ended()?;
            Ok(failed.is_some() || heir.log().lines().any(|line| line.ends_with(" ready")))
        })
        .unwrap();
        println!("killed at {moment:?}: {failed:?}");
        if let Some(status) = failed {
            let log = heir.log();
            assert!(
                !status.success() && log.contains("before the hand-over was done"),
                "{log}"
            );
            heir = stage.successor();
        }
        newcomers_are_served();
        assert!(heir.stop().unwrap().success());
    }
}

/// What a service manager of type `notify` hears of both (`sd_notify(3)`): each speaks for itself, since they are two services.
#[test]
fn the_service_manager_hears_of_both() {
    let world = World::start(1).unwrap();
    world.lab().speak_ipv6().unwrap();
    let _far = Far::start();
    let pins = PinDirectory::new("fates");
    let configuration = configuration(&world, "af_xdp", "");
    let manager = |name: &str| {
        let path = world.directory().join(name);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_mins(1)))
            .unwrap();
        (socket, path)
    };
    let told = |socket: &UnixDatagram| {
        let mut bytes = [0; 1000];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let (a, path) = manager("a");
    let mut old = world
        .balance_notifying(&configuration, pins.path(), &path)
        .unwrap();
    assert_eq!(told(&a), "READY=1");
    newcomers_are_served();
    let (b, path) = manager("b");
    let heir = world
        .balance_notifying(&configuration, pins.path(), &path)
        .unwrap();
    // Not before it serves: whoever waits for this may stop looking after the other one.
    assert_eq!(told(&b), "READY=1");
    newcomers_are_served();
    assert!(told(&a).starts_with("STATUS=another lb has taken over"));
    assert!(old.wait().unwrap().success());
    assert!(heir.stop().unwrap().success());
    // No "STOPPING=1", which would start the clock of `TimeoutStopSec`.
    for socket in [a, b] {
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 100]).is_err());
    }
}
