//! Any bytes as what happens to a TCP endpoint: segments of many peers, time, users.
#![no_main]

#[path = "../../../lb-userspace/tcp/tests/hostile/endpoint.rs"]
mod endpoint;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| endpoint::run(bytes));
