//! What a large body costs in memory. A file of its own, because it looks at the whole process.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::cell::Cell;
use std::fs;
use std::rc::Rc;

use support::{Edge, Wire, origin, run, service};

const MIB: usize = 1 << 20;
/// How much of a body passes between two looks at the memory.
const STEP: usize = 4 * MIB;

/// Memory of the process in bytes (`proc_pid_statm(5)`).
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// As fast as it goes, from a client that has one block to a server that has one block.
async fn upload(client: &mut Wire, size: usize) {
    let head = format!("POST /ews HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n");
    client.send(head).await.unwrap();
    let block = vec![7; 64 << 10];
    for _ in 0..size / block.len() {
        client.send(&block).await.unwrap();
    }
    assert_eq!(client.message().await.unwrap().status(), 200);
}

async fn read(wire: &mut Wire, size: usize, most: &Cell<usize>) -> Option<()> {
    let mut block = vec![0; 64 << 10];
    for at in (0..size).step_by(block.len()) {
        tokio::io::AsyncReadExt::read_exact(&mut wire.0, &mut block)
            .await
            .ok()?;
        if at % STEP == 0 {
            most.set(most.get().max(resident()));
        }
    }
    Some(())
}

/// The process is the proxy, the client and the server. A small body first, so that code is paged in and the allocator has
/// its arena; what 256 MiB need beyond that is the proxy's buffers.
#[test]
fn an_upload_of_256_mib_needs_less_than_one() {
    run(async {
        let most = Rc::new(Cell::new(0));
        let seen = Rc::clone(&most);
        let server = origin(move |mut wire, _| {
            let most = Rc::clone(&seen);
            async move {
                loop {
                    let request = wire.head().await?;
                    let size = request.get("content-length")?.parse().ok()?;
                    read(&mut wire, size, &most).await?;
                    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                        .await?;
                }
            }
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        upload(&mut client, 64 << 10).await;
        let before = resident();
        upload(&mut client, 256 * MIB).await;
        let grown = most.get().saturating_sub(before);
        assert!(grown < MIB, "{grown} bytes more than before");
    });
}
