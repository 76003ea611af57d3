//! Any bytes as the frame of a packet.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lb_ebpf::fixtures::hostile::frame(bytes));
