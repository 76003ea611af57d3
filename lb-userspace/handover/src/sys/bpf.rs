//! The two calls of bpf(2) by which a frame is received that nobody has sent.
//!
//! JUSTIFICATION, of each block in here: bpf(2) has no safe form, and what loads programs elsewhere in lb takes object files, of which
//! this program of two instructions would be the only one that userspace makes itself.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// Loads an XDP program that passes every frame on.
pub(crate) fn load_pass() -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: i32 = 5;
    const BPF_PROG_TYPE_XDP: u32 = 6;
    const LICENSE: &CStr = c"Dual MIT/GPL";
    // `r0 = XDP_PASS; exit`: opcode, registers, offset, immediate value.
    const PROGRAM: [u64; 2] = [
        u64::from_ne_bytes([0xb7, 0, 0, 0, 2, 0, 0, 0]),
        u64::from_ne_bytes([0x95, 0, 0, 0, 0, 0, 0, 0]),
    ];
    let mut load = Load {
        program_type: BPF_PROG_TYPE_XDP,
        instruction_count: 2,
        instructions: address(PROGRAM.as_ptr()),
        license: address(LICENSE.as_ptr()),
        ..Load::default()
    };
    let fd = call(BPF_PROG_LOAD, &mut load)?;
    // JUSTIFICATION: as this module says.
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs the program once on a frame that counts as received by the first queue of the interface, and does what it says
/// (`BPF_F_TEST_XDP_LIVE_FRAMES`, Linux 5.18).
pub(crate) fn receive(program: BorrowedFd<'_>, interface: u32, frame: &[u8]) -> io::Result<()> {
    const BPF_PROG_TEST_RUN: i32 = 10;
    const LIVE_FRAMES: u32 = 1 << 1;
    let len = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let context = Context {
        data_end: len,
        ingress_interface: interface,
        ..Context::default()
    };
    let mut run = TestRun {
        // A descriptor is not negative.
        program: program.as_raw_fd().cast_unsigned(),
        data_size_in: len,
        data_in: address(frame.as_ptr()),
        repeat: 1,
        context_size_in: u32::try_from(size_of::<Context>()).unwrap_or(0),
        context_in: address(&raw const context),
        flags: LIVE_FRAMES,
        batch_size: 1,
        ..TestRun::default()
    };
    call(BPF_PROG_TEST_RUN, &mut run).map(drop)
}

/// `struct xdp_md`.
#[repr(C)]
#[derive(Default)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_interface: u32,
    rx_queue: u32,
    egress_interface: u32,
}

/// `union bpf_attr` of `BPF_PROG_LOAD`, as far as it is used.
#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// `union bpf_attr` of `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    // So that there is no padding.
    reserved: u32,
}

/// Arguments of a command: integers, some of which are addresses of memory that the kernel only reads, and only during the call.
trait Attributes {}
impl Attributes for Load {}
impl Attributes for TestRun {}

fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

fn call<T: Attributes>(command: i32, attributes: &mut T) -> io::Result<i32> {
    let attributes: *mut T = attributes;
    // JUSTIFICATION: as this module says.
    // SAFETY: the kernel reads and writes at most `size_of::<T>()` bytes of a structure of integers, and reads the memory behind the
    // addresses among them, which lives in the caller.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(|_| io::ErrorKind::InvalidData.into())
}
