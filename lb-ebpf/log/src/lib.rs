//! Logging from BPF: the macros and the wire format of aya-log, with a map of another kind.
//!
//! `aya-log-ebpf` 0.2 declares `AYA_LOGS` as a legacy map, which libbpf 1 and so stock `bpftool` refuse
//! to load. This package stands in for it under its name (the macros expand to paths in
//! `::aya_log_ebpf`) and declares the same map by BTF. Everything else is theirs, and their userspace
//! half reads it. It can go when theirs does the same.
#![no_std]

pub use aya_log_ebpf_macros::{debug, error, info, log, trace, warn};

/// What the macros expand to.
#[doc(hidden)]
pub mod macro_support {
    use aya_ebpf::Global;
    use aya_ebpf::btf_maps::RingBuf;
    use aya_ebpf::macros::btf_map;
    pub use aya_log_common::{
        Argument, DefaultFormatter, DisplayHint, Field, Header, IpFormatter, Level, LogValueLength,
        LowerHexFormatter, LowerMacFormatter, PointerFormatter, UpperHexFormatter,
        UpperMacFormatter,
    };

    /// Records on their way to userspace: 128 KiB.
    #[btf_map]
    pub static AYA_LOGS: RingBuf<(), { 1 << 17 }> = RingBuf::new();

    /// The least important level that is logged; userspace may set it before it loads.
    #[expect(
        unsafe_code,
        reason = "aya-log finds the level by the name of this symbol"
    )]
    // SAFETY: no other symbol has this name: the package that defines it is not linked.
    #[unsafe(no_mangle)]
    pub static AYA_LOG_LEVEL: Global<u8> = Global::new(0xff);

    /// Whether records of `level` are wanted.
    #[inline]
    pub fn level_enabled(level: Level) -> bool {
        level as u8 <= AYA_LOG_LEVEL.load()
    }
}
