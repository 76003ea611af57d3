//! The first tenth of a second after a move, beside a connection that didn't move, over a wire of 20 ms: a table of what the kernel
//! tells every 5 ms.
//!
//! No figure is judged, but that the move is not felt where the past is told: the window doesn't shrink. The client is pool server 1, whose
//! link to the switch is replaced by `slow_wire.py`.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use lb_handover::{Options, Released};
use lb_tests::{address::EDGE_BACK, lab::Namespace};
use socket2::SockRef;

use crate::{
    dump::{self, Info, dump},
    repaired,
    start::with_history,
    world::{World, nft},
};

/// How the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As it was.
    Native,
    /// Moved to a socket that knows nothing of the past.
    Moved,
    /// Moved to one that does.
    Told,
}

#[test]
fn the_window_of_a_moved_connection_is_the_one_it_had() {
    let world = World::new();
    let _wire = Wire::new();
    let [native, moved, told] = [Way::Native, Way::Moved, Way::Told].map(|way| go_on(&world, way));
    eprintln!(
        "  ms: cwnd, srtt in us, rto in us, KiB acknowledged: as it was | moved | moved and told of the past"
    );
    for (number, native) in native.samples.iter().enumerate() {
        let row = [native, &moved.samples[number], &told.samples[number]].map(cell);
        eprintln!(
            "{:4}: {}",
            PAUSE * u32::try_from(number).unwrap(),
            row.join(" | ")
        );
    }
    assert_eq!(moved.first(), 10);
    assert_eq!(told.first(), told.cwnd.clamp(10, MOST_TOLD));
    assert!(told.cwnd > 10, "there was nothing to tell");
}

fn cell(info: &Info) -> String {
    format!(
        "{:4} {:6} {:7} {:4}",
        info.tcpi_snd_cwnd,
        info.tcpi_rtt,
        info.tcpi_rto,
        info.tcpi_bytes_acked >> 10,
    )
}

/// How a connection went on.
struct Course {
    /// Segments before.
    cwnd: u32,
    /// One every [`PAUSE`] milliseconds.
    samples: Vec<Info>,
}

impl Course {
    fn first(&self) -> u32 {
        self.samples[0].tcpi_snd_cwnd
    }
}

/// A first answer, the way, and samples of a second one.
fn go_on(world: &World, way: Way) -> Course {
    let (mut socket, mut client) = connect(world);
    socket.write_all(&vec![1; FIRST]).unwrap();
    client.read_exact(&mut vec![0; FIRST]).unwrap();
    // Until the last acknowledgement is here.
    while dump::info(&socket).tcpi_unacked > 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let cwnd = dump::info(&socket).tcpi_snd_cwnd;
    let socket = match way {
        Way::Native => socket,
        _ => moved(world, way, socket, &client),
    };
    let reader = thread::spawn(move || client.read_exact(&mut vec![0; SECOND]).unwrap());
    let mut writer = socket.try_clone().unwrap();
    let begin = Instant::now();
    let mut samples = vec![dump::info(&socket)];
    let writer = thread::spawn(move || writer.write_all(&vec![2; SECOND]).unwrap());
    for number in 1..=SAMPLES {
        let at = begin + Duration::from_millis((PAUSE * number).into());
        thread::sleep(at.saturating_duration_since(Instant::now()));
        samples.push(dump::info(&socket));
    }
    writer.join().unwrap();
    reader.join().unwrap();
    Course { cwnd, samples }
}

/// The server's end and the client's.
fn connect(world: &World) -> (TcpStream, TcpStream) {
    let listener = world.in_edge(|| TcpListener::bind((EDGE_BACK, PORT)).unwrap());
    SockRef::from(&listener)
        .set_tcp_congestion(b"cubic")
        .unwrap();
    let client = Namespace::pool(1).run(|| TcpStream::connect((EDGE_BACK, PORT)).unwrap());
    let client = client.unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let (socket, _) = listener.accept().unwrap();
    socket.set_nodelay(true).unwrap();
    (socket, client)
}

fn moved(world: &World, way: Way, socket: TcpStream, client: &TcpStream) -> TcpStream {
    nft(
        &world.lab,
        &format!("add rule inet repair wire iifname lb-back tcp dport {PORT} drop"),
    );
    let mut dumped = dump(socket);
    dumped.snapshot.timestamps = Some((dump::clock(client), 0));
    let repaired = match way {
        Way::Told => with_history(world, &dumped, &Options::default()),
        _ => repaired(world, &dumped),
    };
    world.unblock();
    let Released { socket, .. } = world.in_edge(|| repaired.release().unwrap());
    socket.set_nonblocking(false).unwrap();
    socket
}

/// The slow link of pool server 1.
struct Wire {
    process: Child,
}

impl Wire {
    fn new() -> Self {
        let switch = Namespace::switch();
        for port in ["lb-up", "lb-port1"] {
            run(switch.command("ip").args(["link", "set", port, "nomaster"]));
            run(switch.command("ethtool").args(["-K", port, "gro", "off"]));
        }
        // Frames as they would be on a wire.
        let cuts = ["tx", "off", "tso", "off", "gso", "off"];
        run(Namespace::edge()
            .command("ethtool")
            .args(["-K", "lb-back"])
            .args(cuts));
        let python = env::var_os("LB_PYTHON").unwrap_or_else(|| "python3".into());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/slow_wire.py");
        let mut process = switch
            .command(python)
            .args([script, "lb-up", "lb-port1", "10"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let output = process.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        Self { process }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

const PORT: u16 = 7200;
/// Between samples, in milliseconds.
const PAUSE: u32 = 5;
const SAMPLES: u32 = 20;
/// An answer whose end finds the window open, and one that takes several round trips.
const FIRST: usize = 64 << 10;
const SECOND: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);
/// Segments that a socket can be told.
const MOST_TOLD: u32 = 138;
