//! `transport = "auto"`: big connections move from the workers' TCP to the kernel's in the middle, and their clients don't notice.
//!
//! Where a connection lives is what `lb flows` says of it while it is open. Every byte that comes through is looked at.
//! Needs root, curl, the Python of `cargo xtask setup`, and an `lb` with the XDP program inside (`cargo xtask test` builds it).

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

#[path = "auto/again.rs"]
mod again;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, SocketAddrV4, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use lb_tests::{
    address::{VIP_HTTP, ipv6, server},
    binaries, certs, client,
    client::Connection,
    lab::Namespace,
    pool::{USERS, User},
    world::{Balancer, World},
};
use serde_json::Value;

const ALICE: User = USERS[0];
const HTTP: SocketAddrV4 = SocketAddrV4::new(VIP_HTTP, 80);
const HTTPS: SocketAddrV4 = SocketAddrV4::new(VIP_HTTP, 443);
const SMALL: &str = "/bench/1000";
const BIG: &str = "/bench/1000000";
/// Asked for only to see whether somebody watches.
const KNOCK: &str = "/bench/10";
/// Between two such.
const SHORT: Duration = Duration::from_millis(50);

/// A service on both addresses of the lab and with TLS; `more` are lines for each.
fn services(world: &World, more: &str) -> String {
    let files = world.certs();
    let (certificate, key) = (files.certificate.display(), files.key.display());
    let tls = format!("tls = {{ certificate = \"{certificate}\", key = \"{key}\" }}\n");
    let listen = |address: SocketAddr| address.to_string();
    let all = [
        ("plain", listen(HTTP.into()), ""),
        ("plain6", listen((ipv6(VIP_HTTP), 80).into()), ""),
        ("secure", listen(HTTPS.into()), tls.as_str()),
        (
            "secure6",
            listen((ipv6(VIP_HTTP), 443).into()),
            tls.as_str(),
        ),
    ];
    let service = |(name, listen, tls): (&str, String, &str)| {
        format!(
            "[[service]]\nname = \"{name}\"\nlisten = \"{listen}\"\nmode = \"http\"\ntransport = \"auto\"\n{tls}{more}\
             servers = [\"{}:80\"]\n\
             health = {{ kind = \"tcp\", interval = \"1s\", timeout = \"1s\", rise = 1, fall = 2 }}\n\n",
            server(1)
        )
    };
    all.into_iter().map(service).collect()
}

fn world() -> World {
    let world = World::start(1).unwrap();
    world.lab().speak_ipv6().unwrap();
    world
}

fn start(world: &World, more: &str) -> Balancer {
    let mut balancer = world.balance(&services(world, more)).unwrap();
    balancer
        .until_served("http://10.203.1.100/owa/healthcheck.htm")
        .unwrap();
    balancer
        .until_served("http://[fd00:203:1::64]/owa/healthcheck.htm")
        .unwrap();
    balancer
}

/// What `lb` says of the daemon behind this socket.
fn ask(admin: &Path, arguments: &[&str]) -> Value {
    try_ask(admin, arguments).unwrap()
}

/// The same, before it is known to be there.
fn try_ask(admin: &Path, arguments: &[&str]) -> Option<Value> {
    let output = Command::new(binaries::lb().unwrap())
        .args(arguments)
        .args(["--json", "--admin"])
        .arg(admin)
        .output()
        .unwrap();
    let is_answered = output.status.success();
    is_answered.then(|| serde_json::from_slice(&output.stdout).unwrap())
}

/// Where the open connections of a service live: `af_xdp`, `kernel`, or `kernel` and why they moved.
fn places(admin: &Path, service: &str) -> Vec<String> {
    let filter = ["flows", "--service", service, "--state", "established"];
    let listed = ask(admin, &filter);
    let place = |flow: &Value| {
        let forward = flow["forward"].as_str().unwrap();
        match flow["moved"]["why"].as_str() {
            Some(why) => format!("{forward} {why}"),
            None => forward.to_owned(),
        }
    };
    let mut places: Vec<_> = listed["flows"]
        .as_array()
        .unwrap()
        .iter()
        .map(place)
        .collect();
    places.sort();
    places
}

/// What `lb status` says of the moves of a service.
fn handover(admin: &Path, service: &str) -> Value {
    let status = ask(admin, &["status"]);
    let services = status["services"].as_array().unwrap();
    let service = services.iter().find(|one| one["name"] == service).unwrap();
    service["handover"].clone()
}

/// How many connections of a service have moved for a reason.
fn moved(admin: &Path, service: &str, why: &str) -> u64 {
    let handover = handover(admin, service);
    let moved = handover["moved"].as_array().unwrap();
    let counter = moved.iter().find(|one| one["name"] == why).unwrap();
    counter["value"].as_u64().unwrap()
}

/// Gets a page of so many bytes and looks at each.
fn fetch(connection: &mut Connection, path: &str) {
    let length = path.rsplit('/').next().unwrap().parse().unwrap();
    let (status, body) = connection.page(path, &[]).unwrap();
    assert_eq!((status, body.len()), (200, length), "{path}");
    assert!(body.iter().all(|&byte| byte == body[0]), "{path}");
}

fn open(world: &World, is_tls: bool) -> Connection {
    if is_tls {
        Connection::open_tls(HTTPS, &world.certs().ca).unwrap()
    } else {
        Connection::open(HTTP).unwrap()
    }
}

#[test]
fn a_big_response_moves_its_connection_and_a_small_one_does_not() {
    let world = world();
    let balancer = start(&world, "");
    let open = |is_tls: bool| open(&world, is_tls);
    for (service, is_tls) in [("plain", false), ("secure", true)] {
        let (mut small, mut big) = (open(is_tls), open(is_tls));
        for connection in [&mut small, &mut big] {
            fetch(connection, SMALL);
        }
        assert_eq!(places(balancer.admin(), service), ["af_xdp", "af_xdp"]);
        for _ in 0..3 {
            fetch(&mut big, BIG);
            fetch(&mut big, SMALL);
            fetch(&mut small, SMALL);
            assert_eq!(
                places(balancer.admin(), service),
                ["af_xdp", "kernel response"]
            );
        }
        assert_eq!(moved(balancer.admin(), service, "response"), 1);
    }
    // Nothing that the kernel had no socket for, and nobody reset.
    assert_eq!(balancer.tcp("TcpOutRsts").unwrap(), 0);
}

/// `lb trace`, read line by line.
struct Trace {
    process: Child,
    requests: mpsc::Receiver<Value>,
}

impl Trace {
    /// Of requests of the service `plain`, from now on.
    fn start(admin: &Path) -> Self {
        let mut process = Command::new(binaries::lb().unwrap())
            .args(["trace", "--json", "--service", "plain", "--admin"])
            .arg(admin)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (told, requests) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).unwrap();
                if told.send(line["request"].clone()).is_err() {
                    break;
                }
            }
        });
        let trace = Self { process, requests };
        // It says nothing before the first request, so requests are made until it does.
        let knock = || fetch(&mut Connection::open(HTTP).unwrap(), KNOCK);
        knock();
        while trace.requests.recv_timeout(SHORT).is_err() {
            knock();
        }
        trace
    }

    /// The next request that is none of its own.
    fn next(&self) -> Value {
        let mut requests = self.requests.iter();
        requests.find(|request| request["path"] != KNOCK).unwrap()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_trace_of_a_request_says_that_its_connection_moved_and_why() {
    let world = world();
    let balancer = start(&world, "");
    let trace = Trace::start(balancer.admin());
    let mut connection = open(&world, false);
    let expected = [
        (SMALL, "af_xdp", "af_xdp", Value::Null),
        (BIG, "af_xdp", "kernel", "response".into()),
        (SMALL, "kernel", "kernel", "response".into()),
    ];
    for (path, began, ended, bulk) in expected {
        fetch(&mut connection, path);
        let request = trace.next();
        let found = ["path", "began_on", "ended_on", "bulk"].map(|key| request[key].clone());
        let expected = [path.into(), began.into(), ended.into(), bulk];
        assert_eq!(found, expected, "{request}");
    }
    drop(trace);
    // For people, as many as wanted, and nothing that its filter refuses.
    let lines = thread::scope(|scope| {
        let lb = || {
            let arguments = ["trace", "--count", "1", "--path", SMALL, "--admin"];
            let mut lb = Command::new(binaries::lb().unwrap());
            lb.args(arguments).arg(balancer.admin()).output().unwrap()
        };
        let watching = scope.spawn(lb);
        while !watching.is_finished() {
            fetch(&mut connection, KNOCK);
            fetch(&mut connection, SMALL);
            thread::sleep(SHORT);
        }
        String::from_utf8(watching.join().unwrap().stdout).unwrap()
    });
    let told = format!(" plain GET {SMALL} 200 1000 B ");
    assert!(
        lines.contains(&told) && lines.contains(" on=kernel bulk=response"),
        "{lines}"
    );
    assert_eq!(lines.lines().count(), 1, "{lines}");
}

#[test]
fn clients_of_ipv6_move_too() {
    let world = world();
    let balancer = start(&world, "");
    let ca = world.certs().ca.to_str().unwrap();
    let name = format!("{}:443:[{}]", certs::NAME, ipv6(VIP_HTTP));
    let secure = ["--cacert", ca, "--resolve", &name];
    let plain = format!("http://[{}]", ipv6(VIP_HTTP));
    let cases = [
        ("plain6", &[][..], plain),
        ("secure6", &secure[..], format!("https://{}", certs::NAME)),
    ];
    for (service, options, origin) in cases {
        // One connection for all of them.
        let urls = [SMALL, BIG, SMALL, BIG].map(|path| format!("{origin}{path}"));
        let fetched = client::curl(options, &urls).unwrap();
        let found: Vec<_> = fetched
            .iter()
            .map(|one| (one.status, one.connects))
            .collect();
        assert_eq!(found, [(200, 1), (200, 0), (200, 0), (200, 0)], "{service}");
        let (_, body) = client::fetch(options, &format!("{origin}{BIG}")).unwrap();
        assert_eq!(body.len(), 1_000_000, "{service}");
        assert_eq!(moved(balancer.admin(), service, "response"), 2, "{service}");
        let (_, body) = client::fetch(options, &format!("{origin}{SMALL}")).unwrap();
        assert_eq!(body.len(), 1000, "{service}");
        assert_eq!(moved(balancer.admin(), service, "response"), 2, "{service}");
    }
}

#[test]
fn an_upload_moves_its_connection_before_it_is_read() {
    let world = world();
    let balancer = start(&world, "");
    let login = client::basic(&ALICE);
    for (service, is_tls) in [("plain", false), ("secure", true)] {
        let mut connection = open(&world, is_tls);
        let mut put = |length: usize, expected: &str| {
            let announced = format!("Content-Length: {length}");
            let fields = [login.as_str(), &announced];
            connection.send_head("POST", "/whoami", &fields).unwrap();
            connection.send(&vec![b'x'; length]).unwrap();
            let head = connection.head().unwrap();
            let page = connection.body(&head).unwrap();
            let page: Value = serde_json::from_slice(&page).unwrap();
            assert_eq!((head.status, &page["body_bytes"]), (200, &length.into()));
            assert_eq!(places(balancer.admin(), service), [expected]);
        };
        put(10_000, "af_xdp");
        put(3_000_000, "kernel upload");
        put(10_000, "kernel upload");
    }
}

/// The login is the connection's, and must stay what it was.
#[test]
fn a_login_survives_the_move() {
    let world = world();
    let balancer = start(&world, "profile = \"exchange\"\nheaders = \"none\"\n");
    let urls =
        ["/whoami", BIG, "/whoami", BIG, "/whoami"].map(|path| format!("http://{VIP_HTTP}{path}"));
    let fetched = client::curl_ntlm(&ALICE, ALICE.password, &urls).unwrap();
    let found: Vec<_> = fetched
        .iter()
        .map(|one| (one.status, one.connects))
        .collect();
    assert_eq!(
        found,
        [(200, 1), (200, 0), (200, 0), (200, 0), (200, 0)],
        "one connection, logged in once"
    );
    assert_eq!(moved(balancer.admin(), "plain", "response"), 1);
    // All three asked one connection of one server, which was logged in to once.
    let seen = world.seen().unwrap();
    assert_eq!(seen.connections("/whoami"), 1);
}

#[test]
fn a_connection_that_leaves_http_moves_when_it_does() {
    let world = world();
    let address = SocketAddr::from((server(1), 8090));
    let listener = Namespace::pool(1)
        .run(|| TcpListener::bind(address))
        .unwrap()
        .unwrap();
    let echo = thread::spawn(move || {
        // The first one is the health check's.
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                match stream.read(&mut byte) {
                    Ok(1) => head.push(byte[0]),
                    _ => break,
                }
            }
            if head.is_empty() {
                continue;
            }
            stream
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
                .unwrap();
            let mut echoed = [0; 4];
            while stream.read_exact(&mut echoed).is_ok() {
                stream.write_all(&echoed).unwrap();
            }
            return;
        }
    });
    let service = format!(
        "[[service]]\nname = \"chat\"\nlisten = \"{HTTP}\"\nmode = \"http\"\nupgrade = [\"websocket\"]\n\
         servers = [\"{address}\"]\n\
         health = {{ kind = \"tcp\", interval = \"1s\", timeout = \"1s\", rise = 1, fall = 2 }}\n"
    );
    let mut balancer = world.balance(&service).unwrap();
    let admin = balancer.admin().to_owned();
    balancer
        .eventually("the server is up", || {
            let status = try_ask(&admin, &["status"]).unwrap_or_default();
            Ok(status["services"][0]["servers"][0]["up"] == true)
        })
        .unwrap();
    let mut connection = Connection::open(HTTP).unwrap();
    let fields = ["Connection: Upgrade", "Upgrade: websocket"];
    connection.send_head("GET", "/chat", &fields).unwrap();
    assert_eq!(connection.head().unwrap().status, 101);
    for word in [b"ping", b"pong"] {
        connection.send(word).unwrap();
        assert_eq!(connection.exactly(4).unwrap(), word);
        assert_eq!(places(balancer.admin(), "chat"), ["kernel tunnel"]);
    }
    drop(connection);
    echo.join().unwrap();
}

#[test]
fn where_connections_begin_can_be_said() {
    let world = world();
    for (begin, before, after) in [
        ("kernel", "kernel", "kernel"),
        ("af_xdp", "af_xdp", "kernel response"),
    ] {
        let balancer = start(&world, &format!("handover = {{ begin = \"{begin}\" }}\n"));
        let mut connection = Connection::open(HTTP).unwrap();
        fetch(&mut connection, SMALL);
        assert_eq!(places(balancer.admin(), "plain"), [before]);
        fetch(&mut connection, BIG);
        assert_eq!(places(balancer.admin(), "plain"), [after]);
        assert_eq!(handover(balancer.admin(), "plain")["begins_on"], begin);
        balancer.stop().unwrap();
    }
    let balancer = start(&world, "handover = \"off\"\n");
    let mut connection = Connection::open(HTTP).unwrap();
    fetch(&mut connection, BIG);
    assert_eq!(places(balancer.admin(), "plain"), ["af_xdp"]);
    assert!(handover(balancer.admin(), "plain").is_null());
}

#[test]
fn connections_begin_where_most_of_those_before_ended() {
    let world = world();
    let mut balancer = start(&world, "");
    let run = |path: &str| {
        let urls = vec![format!("http://{VIP_HTTP}{path}"); 80];
        let fetched = client::curl(&["--header", "Connection: close"], &urls).unwrap();
        assert!(fetched.iter().all(|one| one.status == 200), "{fetched:?}");
    };
    let admin = balancer.admin().to_owned();
    let begins_on = |place: &str| handover(&admin, "plain")["begins_on"] == place;
    assert!(begins_on("af_xdp"));
    run(BIG);
    balancer
        .eventually("connections begin on the kernel", || {
            Ok(begins_on("kernel"))
        })
        .unwrap();
    let mut connection = Connection::open(HTTP).unwrap();
    fetch(&mut connection, SMALL);
    assert_eq!(places(balancer.admin(), "plain"), ["kernel"]);
    run(SMALL);
    balancer
        .eventually("connections begin on AF_XDP again", || {
            Ok(begins_on("af_xdp"))
        })
        .unwrap();
    let mut another = Connection::open(HTTP).unwrap();
    fetch(&mut another, SMALL);
    fetch(&mut connection, SMALL);
    assert_eq!(places(balancer.admin(), "plain"), ["af_xdp", "kernel"]);
}
