//! Long and large: nothing is held back, nothing is cut off, nothing is kept.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use lb_tests::{
    client::{self, PING_EXPIRED, Rpc, one_leg},
    edge::{Edge, Front},
    pool::{Switch, journal::Event},
    resident::{Before, Growth},
    stream, world,
};

use super::{ALICE, ntlm, strs};

const UPLOAD: usize = 64_000_000;
const SMALL: usize = 4_000_000;
const CHANNEL: u64 = 64 << 20;

/// What is allocated once and kept is no cost of an upload, and every worker does so at its first ones: small uploads come
/// first. A proxy that kept the body would need 64 MB for each.
#[test]
fn an_upload_takes_no_memory() {
    let edge = Edge::start_measured().unwrap();
    let file = |size: usize| {
        let file = edge.world.directory().join(format!("upload-{size}"));
        fs::write(&file, vec![b'x'; size]).unwrap();
        format!("@{}", file.display())
    };
    let (small, large) = (file(SMALL), file(UPLOAD));
    for front in &edge.fronts {
        let upload = |body: &str, size: usize| {
            let login = ntlm();
            let options = [&strs(&login)[..], &["--data-binary", body]].concat();
            let (status, page) = front.fetch(&options, "/ews/whoami").unwrap();
            assert_eq!(status, 200, "{}: {page}", front.transport);
            let arrived = format!("\"body_bytes\":{size}");
            assert!(page.contains(&arrived), "{}: {page}", front.transport);
        };
        for _ in 0..4 {
            upload(&small, SMALL);
        }
        for _ in 0..2 {
            let before = Before::look(edge.balancer.id()).unwrap();
            upload(&large, UPLOAD);
            cheap(front, before.growth().unwrap());
        }
    }
}

/// Both channels to their ends, which Outlook hardly ever gets to. `cargo xtask soak stream` does it with all of the 1 GiB.
#[test]
fn whole_rpc_channels_take_no_memory() {
    let edge = Edge::start_measured().unwrap();
    for front in &edge.fronts {
        let streamed = stream::through(&edge, front, CHANNEL).unwrap();
        println!("{}: {streamed}", front.transport);
        cheap(front, streamed.growth);
    }
}

/// Less than 1 MB.
fn cheap(front: &Front, growth: Growth) {
    eprintln!("{}: {growth}", front.transport);
    assert!(growth.peak <= 1000, "{}: {growth}", front.transport);
}

/// The server has every message before the client says more: each comes back first.
#[test]
fn rpc_channels_stream_both_ways() {
    let edge = Edge::start(1).unwrap();
    for front in &edge.fronts {
        let mut rpc = Rpc::open(&front.endpoint, &ALICE).unwrap();
        let mut times: Vec<Duration> = (0..50)
            .map(|number| {
                let data: Vec<u8> = (0_u8..250).cycle().take(4 + number * 97).collect();
                let said = Instant::now();
                assert!(rpc.echo(&data).unwrap() == data, "{}", front.transport);
                said.elapsed()
            })
            .collect();
        times.sort();
        let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
        println!(
            "{}: there and back in {median:?}, at most {slowest:?}",
            front.transport
        );
        let echo = client::rpc_echo(&mut front.open().unwrap(), &ALICE).unwrap();
        assert_eq!(echo, (200, 20), "{}", front.transport);
        rpc.end_inward().until_closed().unwrap();
    }
}

/// The first chunk is all there is for an hour: whoever waits for more before passing it on never does. And a client
/// that leaves is not waited for.
#[test]
fn a_chunk_is_passed_on_at_once() {
    let edge = Edge::start(1).unwrap();
    edge.world.servers()[0]
        .switch(Switch::Period(3_600_000))
        .unwrap();
    for front in &edge.fronts {
        edge.world.forget().unwrap();
        let mut outlook = front.open().unwrap();
        client::send_mapi(&mut outlook, "NotificationWait", b"wait", &one_leg(&ALICE)).unwrap();
        assert_eq!(outlook.head().unwrap().status, 200, "{}", front.transport);
        assert_eq!(
            outlook.chunk().unwrap().unwrap(),
            b"PROCESSING\r\n",
            "{}",
            front.transport
        );
        drop(outlook);
        world::eventually("the server learns that the client has gone", || {
            let journal = edge.world.servers()[0].seen()?;
            let used = journal.iter().find(|entry| matches!(&entry.event, Event::Request(request) if request.path.starts_with("/mapi/emsmdb")));
            let closed = |id| journal.iter().any(|entry| entry.connection == id && matches!(entry.event, Event::Close));
            Ok(used.is_some_and(|entry| closed(entry.connection)))
        })
        .unwrap();
    }
}

/// All at once, on both transports: a phone's Ping, Outlook's wait for news, and a silent RPC connection.
#[test]
fn held_requests_are_left_alone() {
    const SECONDS: u32 = 20;
    let edge = Edge::start(1).unwrap();
    edge.world.servers()[0]
        .switch(Switch::Period(SECONDS * 100))
        .unwrap();
    let ping = |front: &Front| {
        let mut phone = front.open().unwrap();
        client::send_ping(&mut phone, &ALICE, SECONDS).unwrap();
        let head = phone.head().unwrap();
        assert_eq!(head.status, 200, "{}", front.transport);
        assert_eq!(
            phone.body(&head).unwrap(),
            PING_EXPIRED,
            "{}",
            front.transport
        );
    };
    let mapi = |front: &Front| {
        let mut outlook = front.open().unwrap();
        client::send_mapi(&mut outlook, "NotificationWait", b"wait", &one_leg(&ALICE)).unwrap();
        assert_eq!(outlook.head().unwrap().status, 200, "{}", front.transport);
        let mut chunks = Vec::new();
        while let Some(chunk) = outlook.chunk().unwrap() {
            chunks.push(String::from_utf8(chunk).unwrap());
        }
        assert_eq!(chunks[0], "PROCESSING\r\n", "{}", front.transport);
        assert_eq!(chunks[1..11], ["PENDING\r\n"; 10], "{}", front.transport);
        assert!(chunks[11].ends_with("wait"), "{}", front.transport);
    };
    // One after the other: what is still unpaired calls itself the same.
    let mut silent: Vec<_> = edge
        .fronts
        .iter()
        .map(|front| Rpc::open(&front.endpoint, &ALICE).unwrap())
        .collect();
    thread::scope(|scope| {
        for front in &edge.fronts {
            scope.spawn(move || ping(front));
            scope.spawn(move || mapi(front));
        }
    });
    for rpc in &mut silent {
        assert_eq!(rpc.echo(b"still there").unwrap(), b"still there");
    }
}
