//! `lb`: the composition of the load balancer.
//!
//! Who runs where, and who stops whom:
//!
//! * **main thread**, one tokio runtime: `control` (health, neighbours, coarse clock, sweep), `admin`, the XDP
//!   program's log, signals. It owns the `dataplane`: dropping that detaches the program.
//! * **`lb-worker-q`** threads, one for each rx queue, one tokio runtime each: see `worker`. The main thread
//!   stops and joins them; one that ends by itself ends the daemon.
//!
//! `compose` turns a configuration into what runs, `carrier` chooses transports, `run` orders start and
//! stop. Protocols are elsewhere: packets in `lb-ebpf`, TCP in `lb-transport`, HTTP in `lb-proxy`.

mod admin;
mod budget;
mod carrier;
pub mod cli;
mod compose;
mod control;
mod dataplane;
mod doctor;
mod explain;
mod flows;
mod host;
mod keys;
mod report;
mod run;
mod succession;
mod template;
mod trace;
mod worker;
