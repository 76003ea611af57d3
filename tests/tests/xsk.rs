//! `AF_XDP` sockets and the engine on a real kernel: binding, and TCP from a kernel client over veth.
//!
//! Needs root, and for the second test the object that `cargo xtask build-ebpf` built (its path is in
//! `LB_XDP_OBJECT`). The client is the kernel's own TCP, so every byte crosses two independent
//! implementations.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests may panic as tests may"
)]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, ProgramArray, XskMap};
use aya::programs::{Xdp, XdpMode};
use lb_ebpf::abi::{self, Interface, SERVICE_KIND_WORKER, Service, ServiceKey, Settings};
use lb_ebpf::flow::prefilter_bit;
use lb_tests::address::VIP_HTTP;
use lb_tests::lab::{Lab, Size};
use lb_tests::stages;
use lb_transport::Listener as _;
use lb_transport::af_xdp::{
    Counters, Engine, EngineConfig, Handle, PortConfig, RxChecksums, Stream,
};
use lb_xsk::{
    BindMode, DataPath, Error, Flushed, Socket, SocketConfig, Statistics, StatisticsReader,
};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

const FRONT: &str = "lb-front";
const PORT: u16 = 8443;
const CONNECTIONS: usize = 16;
const BYTES: usize = 1 << 20;

/// Only one lab can be up; without this the tests of this file would wait for each other's lock.
static ONE_LAB: Mutex<()> = Mutex::new(());

#[test]
fn binds_to_existing_free_queues_only() {
    let _one = ONE_LAB.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::up(Size {
        servers: 1,
        queues: 2,
    })
    .unwrap();
    lab.edge().run(check_binding).unwrap();
}

fn check_binding() {
    let ifindex = lb_xsk::interface_index(FRONT).unwrap();
    assert_eq!(lb_xsk::queue_count(FRONT).unwrap(), 2);
    let errno_of = |config: SocketConfig| match Socket::bind(&config) {
        Err(Error::Bind { source, .. }) => source.raw_os_error(),
        other => panic!("{config:?}: expected a bind error, got {other:?}"),
    };
    let mut socket = Socket::bind(&SocketConfig::new(ifindex, 1)).unwrap();
    assert_eq!(socket.data_path(), DataPath::Copy, "veth has no zero-copy");
    assert_eq!((socket.ifindex(), socket.queue()), (ifindex, 1));
    assert_eq!(
        errno_of(SocketConfig::new(ifindex, 1)),
        Some(nix::libc::EBUSY)
    );
    assert_eq!(
        errno_of(SocketConfig::new(ifindex, 2)),
        Some(nix::libc::EINVAL)
    );
    let zero_copy = SocketConfig {
        mode: BindMode::ZeroCopy,
        ..SocketConfig::new(ifindex, 0)
    };
    assert_eq!(errno_of(zero_copy), Some(nix::libc::EOPNOTSUPP));
    send_more_than_the_ring_holds(&mut socket);
    check_budgets(&mut socket);
    let reader = socket.statistics();
    let statistics = reader.read().unwrap().unwrap();
    let expected = Statistics {
        tx_ring_empty: statistics.tx_ring_empty,
        ..Statistics::default()
    };
    assert_eq!(statistics, expected);
    drop(socket);
    assert_eq!(
        reader.read().unwrap(),
        None,
        "a reader does not keep the socket open"
    );
}

/// Three times as many frames as exist: they only suffice if all of them come back.
fn send_more_than_the_ring_holds(socket: &mut Socket) {
    let total = socket.split().1.available();
    for burst in 0..3 {
        for _ in 0..total {
            let mut slot = socket.split().1.reserve(60).unwrap();
            // To nobody, by an experimental EtherType (IEEE 802, 0x88b5): the client's host drops it.
            slot.copy_from_slice(&[[2; 12].as_slice(), &[0x88, 0xb5], &[0; 46]].concat());
            slot.send();
        }
        assert!(
            socket.split().1.reserve(60).is_none(),
            "burst {burst}: all frames are on their way"
        );
        while socket.flush().unwrap() == Flushed::Later || socket.split().1.available() < total {
            thread::yield_now();
        }
    }
    drop(socket.split().1.reserve(60).unwrap());
    assert_eq!(
        socket.split().1.available(),
        total,
        "an unsent frame is free again"
    );
    assert!(socket.split().1.reserve(lb_xsk::FRAME_SIZE + 1).is_none());
}

/// Packets that the front interface has sent, and dropped on the way out.
fn front_sent() -> u64 {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = table
        .lines()
        .find_map(|line| line.trim().strip_prefix(FRONT));
    let words: Vec<_> = line.unwrap().split_whitespace().collect();
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    // Behind "name:" are eight numbers of what was received, then bytes, packets, errors and drops of what was sent.
    number(10) + number(12)
}

/// One call sends the ring if the kernel lets us ask for that; else it says `EAGAIN` after 32, and is called again. Either
/// way all that was queued leaves by one flush.
fn check_budgets(socket: &mut Socket) {
    let asked = socket.tx_budget();
    let all = u32::try_from(socket.split().1.available()).unwrap();
    assert!(asked == all || asked == 32, "{asked}");
    check_budget(socket, asked);
    if asked != 32 {
        set_budget(socket, 32);
        check_budget(socket, 32);
    }
}

fn check_budget(socket: &mut Socket, budget: u32) {
    let total = socket.split().1.available();
    let (sent, calls) = (front_sent(), socket.tx_calls());
    for _ in 0..total {
        let mut slot = socket.split().1.reserve(60).unwrap();
        slot.copy_from_slice(&[[2; 12].as_slice(), &[0x88, 0xb5], &[0; 46]].concat());
        slot.send();
    }
    assert_eq!(socket.flush().unwrap(), Flushed::Done);
    let calls = socket.tx_calls() - calls;
    assert_eq!(calls, total.div_ceil(budget as usize) as u64, "{budget}");
    assert_eq!(front_sent() - sent, total as u64, "{budget}");
    assert_eq!(socket.split().1.available(), total);
}

/// `XDP_MAX_TX_SKB_BUDGET`, which the package sets at bind and never again.
#[expect(unsafe_code, reason = "an option that no package has a safe form of")]
fn set_budget(socket: &Socket, budget: u32) {
    const XDP_MAX_TX_SKB_BUDGET: i32 = 9;
    // SAFETY: the kernel reads four bytes from a valid reference.
    let result = unsafe {
        nix::libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            nix::libc::SOL_XDP,
            XDP_MAX_TX_SKB_BUDGET,
            (&raw const budget).cast(),
            4,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn kernel_clients_talk_to_the_engine() {
    let _one = ONE_LAB.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::up(Size {
        servers: 1,
        queues: 2,
    })
    .unwrap();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let (edge, client) = (lab.edge(), lab.client());
    let (counters, statistics) = thread::scope(|scope| {
        let engine = scope.spawn(|| edge.run(move || serve(&ready, stopped)).unwrap());
        if is_ready.recv().is_ok() {
            client.run(check_clients).unwrap();
            stop.send(()).unwrap();
        }
        engine.join().unwrap()
    });
    assert_eq!(counters.len(), 2, "a queue without a socket");
    let established = counters.iter().map(|counters| counters.tcp.passive_opens);
    assert_eq!(established.clone().sum::<u64>(), CONNECTIONS as u64);
    // The kernel spreads connections by a hash with a random key: that all take one queue happens once in 32768 runs.
    assert!(established.clone().all(|count| count > 0), "{counters:?}");
    for counters in counters {
        let lost = (counters.lost_output, counters.flush_errors);
        assert_eq!(lost, (0, 0), "{counters:?}");
        // A segment that is late for its connection gets RST as well, and that is no fault.
        assert_eq!(counters.tcp.estab_resets, 0, "{counters:?}");
    }
    for statistics in statistics {
        assert_eq!(
            (statistics.rx_dropped, statistics.tx_invalid),
            (0, 0),
            "{statistics:?}"
        );
    }
}

/// The edge host's side: program, a socket and an engine for each queue, and a task per connection that echoes.
fn serve(
    ready: &std::sync::mpsc::Sender<()>,
    stopped: oneshot::Receiver<()>,
) -> (Vec<Counters>, Vec<Statistics>) {
    let ifindex = lb_xsk::interface_index(FRONT).unwrap();
    let bind = |queue| Socket::bind(&SocketConfig::new(ifindex, queue)).unwrap();
    let sockets: Vec<Socket> = (0..lb_xsk::queue_count(FRONT).unwrap()).map(bind).collect();
    let _program = attach(ifindex, &sockets);
    let port = PortConfig {
        mtu: 1500,
        rx_checksums: RxChecksums::Trust,
    };
    let statistics: Vec<_> = sockets.iter().map(Socket::statistics).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let sockets = sockets.into_iter().map(|socket| (socket, port));
        let engines: Vec<_> = sockets.map(echo_by).collect();
        ready.send(()).unwrap();
        stopped.await.unwrap();
        let read = |reader: &StatisticsReader| reader.read().unwrap().unwrap();
        let counters = engines.iter().map(Handle::counters).collect();
        (counters, statistics.iter().map(read).collect())
    })
}

/// An engine that echoes to the clients of one queue.
fn echo_by(port: (Socket, PortConfig)) -> Handle {
    let engine = Engine::new(vec![port], EngineConfig::default()).unwrap();
    let handle = engine.handle();
    let mut listener = handle
        .listen(SocketAddr::new(VIP_HTTP.into(), PORT))
        .unwrap();
    tokio::task::spawn_local(engine.run());
    tokio::task::spawn_local(async move {
        loop {
            tokio::task::spawn_local(echo(listener.accept().await.unwrap().stream));
        }
    });
    handle
}

async fn echo(stream: Stream) {
    let (mut read, mut write) = tokio::io::split(stream);
    tokio::io::copy(&mut read, &mut write).await.unwrap();
    write.shutdown().await.unwrap();
}

/// Tells the XDP program to hand the service to the sockets.
fn attach(ifindex: u32, sockets: &[Socket]) -> (Ebpf, ProgramArray<MapData>) {
    let object = std::env::var_os("LB_XDP_OBJECT")
        .expect("LB_XDP_OBJECT is not set: run `cargo xtask test`, or set it to the built object");
    let mut ebpf = Ebpf::load_file(&object).unwrap();
    let settings = Settings {
        abi_version: abi::ABI_VERSION,
        ..Settings::default()
    };
    array::<Settings>(&mut ebpf, "SETTINGS")
        .set(0, settings, 0)
        .unwrap();
    let (word, bit) = prefilter_bit(VIP_HTTP.octets());
    array::<u32>(&mut ebpf, "PREFILTER")
        .set(word, bit, 0)
        .unwrap();
    let key = ServiceKey {
        address: VIP_HTTP.octets(),
        port: PORT.to_be_bytes(),
        protocol: 6,
        zero: 0,
    };
    let service = Service {
        kind: SERVICE_KIND_WORKER,
        ..Service::default()
    };
    let mut services = HashMap::try_from(ebpf.map_mut("SERVICES").unwrap()).unwrap();
    services.insert(key, service, 0).unwrap();
    let queues = u32::try_from(sockets.len()).unwrap();
    let mut interfaces = HashMap::try_from(ebpf.map_mut("INTERFACES").unwrap()).unwrap();
    interfaces
        .insert(
            ifindex,
            Interface {
                xsk_base: 0,
                queues,
            },
            0,
        )
        .unwrap();
    let mut xsks = XskMap::try_from(ebpf.map_mut("XSKS").unwrap()).unwrap();
    for (slot, socket) in (0..).zip(sockets) {
        xsks.set(slot, socket.as_fd(), 0).unwrap();
    }
    let programs = stages::enter(&mut ebpf).unwrap();
    let program: &mut Xdp = ebpf.program_mut("lb_xdp").unwrap().try_into().unwrap();
    program.attach(FRONT, XdpMode::Driver).unwrap();
    (ebpf, programs)
}

fn array<'a, T: aya::Pod>(ebpf: &'a mut Ebpf, name: &str) -> Array<&'a mut MapData, T> {
    Array::try_from(ebpf.map_mut(name).unwrap()).unwrap()
}

/// The client's side: several connections at once, each echoes a megabyte of its own.
fn check_clients() {
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|number| thread::spawn(move || check_client(u8::try_from(number).unwrap())))
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

fn check_client(number: u8) {
    let pattern = move |at: usize| number.wrapping_add(u8::try_from(at % 251).unwrap());
    let mut stream = TcpStream::connect((VIP_HTTP, PORT)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_mins(1)))
        .unwrap();
    let mut sender = stream.try_clone().unwrap();
    let sending = thread::spawn(move || {
        let bytes: Vec<u8> = (0..BYTES).map(pattern).collect();
        sender.write_all(&bytes).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    sending.join().unwrap();
    assert_eq!(got.len(), BYTES, "client {number}");
    let wrong = (0..BYTES).find(|&at| got[at] != pattern(at));
    assert_eq!(wrong, None, "client {number}");
}
