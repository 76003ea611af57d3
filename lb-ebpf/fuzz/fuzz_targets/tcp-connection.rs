//! Any bytes as what happens to one TCP connection: segments, time, its user.
#![no_main]

#[path = "../../../lb-userspace/tcp/tests/hostile/connection.rs"]
mod connection;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| connection::run(bytes));
