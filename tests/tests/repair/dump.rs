//! A socket of the kernel's as a snapshot, as if it had been a flow of ours: what the peer knows of a connection is the same.
//!
//! What no option tells of the kernel's (TS.Recent, the round trip) is left empty or made up; the tests don't judge it.
#![expect(unsafe_code, reason = "options that no package has a safe form of")]

use std::{
    io::{self, ErrorKind, Read as _},
    mem::MaybeUninit,
    net::TcpStream,
    os::fd::AsRawFd as _,
    time::Duration,
};

use lb_tcp::{FlowKey, Seq, Snapshot};
use nix::libc;

/// Takes a connection out of its socket, which is closed without a word.
pub(crate) fn dump(mut socket: TcpStream) -> Dumped {
    let key = FlowKey {
        local: socket.local_addr().unwrap(),
        remote: socket.peer_addr().unwrap(),
    };
    let unread = drain(&mut socket);
    set(&socket, libc::TCP_REPAIR, 1);
    let info = info(&socket);
    let windows: Windows = get(&socket, libc::TCP_REPAIR_WINDOW);
    let clock = get(&socket, libc::TCP_TIMESTAMP);
    set(&socket, libc::TCP_REPAIR_QUEUE, RECEIVE);
    let rcv_nxt = Seq(get(&socket, libc::TCP_QUEUE_SEQ));
    set(&socket, libc::TCP_REPAIR_QUEUE, SEND);
    let end = Seq(get(&socket, libc::TCP_QUEUE_SEQ));
    let send_queue = peek(&socket);
    let unsent = info.tcpi_notsent_bytes;
    let options = info.tcpi_options;
    let shifts = (info.tcpi_wscale & 0x0f, info.tcpi_wscale >> 4);
    let snapshot = Snapshot {
        una: end - u32::try_from(send_queue.len()).unwrap(),
        nxt: end - unsent,
        wnd: windows.snd_wnd,
        max_wnd: windows.max_window,
        wl1: Seq(windows.snd_wl1),
        wl2: end - u32::try_from(send_queue.len()).unwrap(),
        send_queue,
        mss: get::<u32>(&socket, libc::TCP_MAXSEG).try_into().unwrap(),
        srtt: Some(Duration::from_micros(info.tcpi_rtt.into())),
        rttvar: Duration::from_micros(info.tcpi_rttvar.into()),
        cwnd: info.tcpi_snd_cwnd * info.tcpi_snd_mss,
        ssthresh: None,
        rcv_nxt,
        last_ack_sent: Seq(windows.rcv_wup),
        rcv_edge: Seq(windows.rcv_wup) + windows.rcv_wnd,
        unread,
        out_of_order: Vec::new(),
        fin: None,
        shifts: (options & WSCALE != 0).then_some(shifts),
        sack: options & SACK != 0,
        timestamps: (options & TIMESTAMPS != 0).then_some((0, 0)),
        own_mss: 1460,
    };
    Dumped {
        key,
        snapshot,
        clock,
    }
}

/// A connection without a socket.
#[derive(Debug)]
pub(crate) struct Dumped {
    pub(crate) key: FlowKey,
    pub(crate) snapshot: Snapshot,
    /// `TSval` that it would send now.
    pub(crate) clock: u32,
}

/// `TCP_INFO`, as much of it as is read here.
#[derive(Clone, Copy)]
#[repr(C)]
#[expect(clippy::struct_field_names, reason = "named as in linux/tcp.h")]
pub(crate) struct Info {
    pub(crate) tcpi_state: u8,
    pub(crate) tcpi_ca_state: u8,
    pub(crate) tcpi_retransmits: u8,
    pub(crate) tcpi_probes: u8,
    pub(crate) tcpi_backoff: u8,
    pub(crate) tcpi_options: u8,
    /// Two fields of four bits: of the windows that the peer tells, and of those that we tell.
    pub(crate) tcpi_wscale: u8,
    pub(crate) tcpi_flags: u8,
    pub(crate) tcpi_rto: u32,
    pub(crate) tcpi_ato: u32,
    pub(crate) tcpi_snd_mss: u32,
    pub(crate) tcpi_rcv_mss: u32,
    pub(crate) tcpi_unacked: u32,
    pub(crate) tcpi_sacked: u32,
    pub(crate) tcpi_lost: u32,
    pub(crate) tcpi_retrans: u32,
    pub(crate) tcpi_fackets: u32,
    pub(crate) tcpi_last_data_sent: u32,
    pub(crate) tcpi_last_ack_sent: u32,
    pub(crate) tcpi_last_data_recv: u32,
    pub(crate) tcpi_last_ack_recv: u32,
    pub(crate) tcpi_pmtu: u32,
    pub(crate) tcpi_rcv_ssthresh: u32,
    pub(crate) tcpi_rtt: u32,
    pub(crate) tcpi_rttvar: u32,
    pub(crate) tcpi_snd_ssthresh: u32,
    pub(crate) tcpi_snd_cwnd: u32,
    pub(crate) tcpi_advmss: u32,
    pub(crate) tcpi_reordering: u32,
    pub(crate) tcpi_rcv_rtt: u32,
    pub(crate) tcpi_rcv_space: u32,
    pub(crate) tcpi_total_retrans: u32,
    pub(crate) tcpi_pacing_rate: u64,
    pub(crate) tcpi_max_pacing_rate: u64,
    pub(crate) tcpi_bytes_acked: u64,
    pub(crate) tcpi_bytes_received: u64,
    pub(crate) tcpi_segs_out: u32,
    pub(crate) tcpi_segs_in: u32,
    pub(crate) tcpi_notsent_bytes: u32,
    pub(crate) tcpi_min_rtt: u32,
}

/// What the kernel tells of a connection.
pub(crate) fn info(socket: &TcpStream) -> Info {
    get(socket, libc::TCP_INFO)
}

/// What the clock of a socket's timestamps shows.
pub(crate) fn clock(socket: &TcpStream) -> u32 {
    get(socket, libc::TCP_TIMESTAMP)
}

/// Whether the kernel adapts the sizes of a socket's buffers.
pub(crate) fn adapts_buffers(socket: &TcpStream) -> bool {
    const SO_BUF_LOCK: i32 = 72;
    get_at::<u32>(socket, libc::SOL_SOCKET, SO_BUF_LOCK) == 0
}

/// `struct tcp_repair_window`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Windows {
    snd_wl1: u32,
    snd_wnd: u32,
    max_window: u32,
    rcv_wnd: u32,
    rcv_wup: u32,
}

/// What can be read now.
fn drain(socket: &mut TcpStream) -> Vec<u8> {
    let mut unread = Vec::new();
    socket.set_nonblocking(true).unwrap();
    let error = socket.read_to_end(&mut unread).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    unread
}

/// The chosen queue.
fn peek(socket: &TcpStream) -> Vec<u8> {
    let mut queue = vec![0; 8 << 20];
    // SAFETY: the kernel writes no more than the length of `queue` into it.
    let len = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            queue.as_mut_ptr().cast(),
            queue.len(),
            libc::MSG_PEEK,
        )
    };
    queue.truncate(len.try_into().expect("reading the queue"));
    queue
}

fn set(socket: &TcpStream, option: i32, value: i32) {
    let len = size_of::<i32>().try_into().unwrap();
    // SAFETY: the kernel reads an integer of this size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            len,
        )
    };
    assert_eq!(result, 0, "option {option}: {}", io::Error::last_os_error());
}

/// Values that are made of integers.
trait Integers: Copy {}
impl Integers for u32 {}
impl Integers for Windows {}
impl Integers for Info {}

fn get<T: Integers>(socket: &TcpStream, option: i32) -> T {
    get_at(socket, libc::IPPROTO_TCP, option)
}

fn get_at<T: Integers>(socket: &TcpStream, level: i32, option: i32) -> T {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>().try_into().unwrap();
    // SAFETY: the kernel writes no more than `len` bytes, the size of `value`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            value.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    assert_eq!(result, 0, "option {option}: {}", io::Error::last_os_error());
    // SAFETY: zeroed, then written; any bits are integers.
    unsafe { value.assume_init() }
}

const RECEIVE: i32 = 1;
const SEND: i32 = 2;

/// Bits of `tcpi_options`.
const TIMESTAMPS: u8 = 1;
const SACK: u8 = 2;
const WSCALE: u8 = 4;
