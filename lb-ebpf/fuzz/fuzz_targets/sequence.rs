//! Any bytes as what happens, one after the other: packets, time, sweeps.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lb_ebpf::fixtures::hostile::sequence(bytes));
