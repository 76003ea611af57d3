//! Certificates of a running daemon: changed under it, compared with those of its servers, and reported.
//!
//! Needs root, curl, openssl, and an `lb` with the XDP program inside (`cargo xtask test` builds it).

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use lb_tests::{
    address::{VIP_HTTP, server},
    binaries, certs, client,
    lab::Namespace,
    world::{Balancer, World},
};

const TRANSPORTS: [&str; 2] = ["af_xdp", "kernel"];
const PAGE: &str = "https://10.203.1.100/owa/healthcheck.htm";

/// What `lb` shows and trusts, apart from what the servers show.
struct Front {
    certificate: PathBuf,
    key: PathBuf,
    /// The authorities of both certificates.
    ca: PathBuf,
    /// The certificate that comes next.
    next: certs::Files,
}

impl Front {
    /// Starts with the servers' certificate.
    fn of(world: &World) -> Self {
        let (now, path) = (world.certs(), |name| world.directory().join(name));
        let next = certs::write(&path("next")).unwrap();
        let authorities = [&now.ca, &next.ca].map(|file| fs::read_to_string(file).unwrap());
        let front = Self {
            certificate: path("front.pem"),
            key: path("front.key"),
            ca: path("both.pem"),
            next,
        };
        fs::write(&front.ca, authorities.concat()).unwrap();
        front.show(now);
        front
    }

    /// Renames these files over those in use.
    fn show(&self, files: &certs::Files) {
        for (from, to) in [
            (&files.certificate, &self.certificate),
            (&files.key, &self.key),
        ] {
            let moving = to.with_extension("moving");
            fs::copy(from, &moving).unwrap();
            fs::rename(&moving, to).unwrap();
        }
    }

    fn service(&self, transport: &str, protection: bool) -> String {
        let servers = [1, 2].map(|number| {
            let address = server(number);
            format!("{{ name = \"ex{number}\", address = \"{address}:443\" }}")
        });
        format!(
            "[[service]]\nname = \"exchange\"\nlisten = \"{VIP_HTTP}:443\"\nmode = \"http\"\n\
             profile = \"exchange\"\ntransport = \"{transport}\"\n\
             tls = {{ certificate = \"{}\", key = \"{}\" }}\n\
             upstream_tls = {{ ca = \"{}\", server_name = \"{}\" }}\n\
             extended_protection = {protection}\nservers = [{}]\n\
             health = {{ kind = \"https\", path = \"/owa/healthcheck.htm\", interval = \"1s\", timeout = \"1s\", rise = 1 }}\n",
            self.certificate.display(),
            self.key.display(),
            self.ca.display(),
            certs::NAME,
            servers.join(", "),
        )
    }
}

/// Gives server `number` the certificate in `files`.
fn rebind(world: &mut World, number: u8, files: &certs::Files) {
    let (certificate, key) = (world.certs().certificate.clone(), world.certs().key.clone());
    fs::copy(&files.certificate, certificate).unwrap();
    fs::copy(&files.key, key).unwrap();
    world.kill_server(number);
    world.revive_server(number).unwrap();
}

/// SHA-256 of the first certificate in a PEM text, as `lb` prints it.
fn fingerprint(pem: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), pem).unwrap();
    let output = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(file.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim().rsplit('=').next().unwrap().replace(':', "")
}

fn fingerprint_of(file: &Path) -> String {
    fingerprint(&fs::read(file).unwrap())
}

/// What a client is shown that asks for the pool's name.
fn shown() -> String {
    let output = Namespace::client()
        .command("openssl")
        .args(["s_client", "-servername", certs::NAME, "-connect"])
        .arg(format!("{VIP_HTTP}:443"))
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    fingerprint(&output.stdout)
}

fn ask(balancer: &Balancer, command: &str) -> Output {
    Namespace::edge()
        .command(binaries::lb().unwrap())
        .args([command, "--json", "--admin"])
        .arg(balancer.admin())
        .output()
        .unwrap()
}

/// What `lb doctor` finds wrong, and its exit code.
fn doctor(balancer: &Balancer) -> (Vec<String>, Option<i32>) {
    let output = ask(balancer, "doctor");
    let diagnosis: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = diagnosis["findings"].as_array().unwrap();
    let wrong = findings.iter().filter(|one| one["verdict"] == "wrong");
    let named = wrong.map(|one| {
        let word = |key: &str| one[key].as_str().unwrap().to_owned();
        format!("{} {}", word("check"), word("subject"))
    });
    (named.collect(), output.status.code())
}

fn until(balancer: &mut Balancer, what: &str, condition: impl Fn(&Balancer) -> bool) {
    // The admin socket is asked from outside, so the daemon is watched by what it answers.
    let admin = balancer.admin().to_owned();
    lb_tests::world::eventually(what, || Ok(admin.exists() && condition(balancer))).unwrap();
}

#[test]
fn a_certificate_is_changed_on_servers_and_here_without_a_restart() {
    for transport in TRANSPORTS {
        let mut world = World::start(2).unwrap();
        let front = Front::of(&world);
        let (old, new) = (
            fingerprint_of(&front.certificate),
            fingerprint_of(&front.next.certificate),
        );
        let mut balancer = world.balance(&front.service(transport, true)).unwrap();
        let served = || {
            let options = ["--cacert", front.ca.to_str().unwrap()];
            client::fetch(&options, PAGE).unwrap().0 == 200
        };
        balancer.eventually("it serves", || Ok(served())).unwrap();
        until(&mut balancer, "all is well", |balancer| {
            doctor(balancer) == (Vec::new(), Some(0))
        });
        assert_eq!(shown(), old, "{transport}");

        // One server is ahead.
        rebind(&mut world, 2, &front.next);
        let second = "certificate-drift exchange/ex2".to_owned();
        until(&mut balancer, "the drift is found", |balancer| {
            doctor(balancer) == (vec![second.clone()], Some(1))
        });
        let log = balancer.log();
        let told: Vec<_> = log
            .lines()
            .filter(|line| line.contains("certificate drift"))
            .collect();
        assert_eq!(told.len(), 1, "{log}");
        assert!(told[0].contains(&old) && told[0].contains(&new), "{log}");

        // We follow; the first server is behind.
        front.show(&front.next);
        balancer
            .eventually("clients see the next one", || Ok(shown() == new))
            .unwrap();
        let first = "certificate-drift exchange/ex1".to_owned();
        until(&mut balancer, "the other server differs", |balancer| {
            doctor(balancer) == (vec![first.clone()], Some(1))
        });
        rebind(&mut world, 1, &front.next);
        until(&mut balancer, "all is well again", |balancer| {
            doctor(balancer) == (Vec::new(), Some(0))
        });
        assert!(served(), "{transport}");

        let status: serde_json::Value =
            serde_json::from_slice(&ask(&balancer, "status").stdout).unwrap();
        let service = &status["services"][0];
        assert_eq!(service["certificates"][0]["sha256"], *new);
        for server in service["servers"].as_array().unwrap() {
            assert_eq!(server["certificate"]["state"], "same");
        }
        let counters = service["http"].as_array().unwrap();
        let drifts = counters
            .iter()
            .find(|one| one["name"] == "certificate_drifts");
        assert_eq!(drifts.unwrap()["value"], 2);
    }
}

#[test]
fn broken_files_change_nothing_and_are_reported() {
    let world = World::start(2).unwrap();
    let front = Front::of(&world);
    let old = fingerprint_of(&front.certificate);
    let mut balancer = world.balance(&front.service("kernel", false)).unwrap();
    until(&mut balancer, "all is well", |balancer| {
        doctor(balancer) == (Vec::new(), Some(0))
    });
    fs::write(&front.certificate, "not a certificate").unwrap();
    let files = "certificate-files exchange".to_owned();
    until(&mut balancer, "the files are reported", |balancer| {
        doctor(balancer) == (vec![files.clone()], Some(1))
    });
    assert_eq!(shown(), old);
    let log = balancer.log();
    assert_eq!(log.matches("can't be used").count(), 1, "{log}");
    front.show(world.certs());
    until(&mut balancer, "all is well again", |balancer| {
        doctor(balancer) == (Vec::new(), Some(0))
    });
}

#[test]
fn a_start_that_would_end_every_login_is_refused() {
    let mut world = World::start(2).unwrap();
    let front = Front::of(&world);
    front.show(&front.next);
    let mut balancer = world.balance(&front.service("auto", true)).unwrap();
    assert!(!balancer.wait().unwrap().success());
    let log = balancer.log();
    let fingerprints = [
        fingerprint_of(&front.certificate),
        fingerprint_of(&world.certs().certificate),
    ];
    for part in [
        "exchange/ex1",
        "exchange/ex2",
        &fingerprints[0],
        &fingerprints[1],
    ] {
        assert!(log.contains(part), "no {part} in {log}");
    }

    // Nobody there to compare with: it starts, and says so.
    world.kill_server(1);
    world.kill_server(2);
    let mut balancer = world.balance(&front.service("auto", true)).unwrap();
    until(&mut balancer, "it is ready", |balancer| {
        balancer.log().contains("ready")
    });
    assert!(balancer.log().contains("could not be compared"));
}
