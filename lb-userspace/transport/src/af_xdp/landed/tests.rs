//! A socket with something before and behind it, and a peer, over the loopback.

use std::future::poll_fn;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use super::*;

/// More than twice what both ends' buffers hold.
const MUCH: usize = 32 << 20;

impl Landed {
    async fn read(&mut self, room: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; room];
        let count = poll_fn(|context| {
            let mut buffer = ReadBuf::new(&mut bytes);
            self.poll_read(context, &mut buffer)
                .map_ok(|()| buffer.filled().len())
        })
        .await?;
        bytes.truncate(count);
        Ok(bytes)
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|context| self.poll_write(context, &[IoSlice::new(bytes)])).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_shutdown(context)).await
    }

    fn is_writing(&self) -> bool {
        self.backlog.is_some()
    }
}

async fn landed(unread: &[u8], unsent: Vec<u8>) -> (Landed, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    (Landed::new(socket, unread.to_vec(), unsent), peer)
}

fn run(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    LocalSet::new().block_on(&runtime.unwrap(), test());
}

#[test]
fn what_the_engine_had_received_comes_first() {
    run(async || {
        let (mut landed, mut peer) = landed(b"before", Vec::new()).await;
        peer.write_all(b"behind").await.unwrap();
        peer.shutdown().await.unwrap();
        let mut got = Vec::new();
        loop {
            match landed.read(4).await.unwrap() {
                end if end.is_empty() => break,
                piece => got.extend(piece),
            }
        }
        assert_eq!(got, b"beforebehind");
    });
}

#[test]
fn what_the_engine_had_taken_leaves_first_and_the_fin_last() {
    run(async || {
        let (mut landed, mut peer) = landed(b"", vec![7; MUCH]).await;
        let reader = tokio::task::spawn_local(async move {
            let mut got = Vec::new();
            peer.read_to_end(&mut got).await.unwrap();
            got
        });
        assert!(landed.is_writing());
        assert_eq!(landed.write(b"behind").await.unwrap(), 6);
        assert!(!landed.is_writing());
        landed.finish().await.unwrap();
        let got = reader.await.unwrap();
        assert_eq!(got.len(), MUCH + 6);
        assert!(got.ends_with(b"\x07behind"));
    });
}

#[test]
fn reads_go_on_beside_what_waits_to_be_sent() {
    run(async || {
        let (mut landed, mut peer) = landed(b"", vec![7; MUCH]).await;
        peer.write_all(b"question").await.unwrap();
        assert_eq!(landed.read(100).await.unwrap(), b"question");
        assert!(landed.is_writing(), "nobody has read it");
    });
}

/// Whoever wrote it may have gone.
#[test]
fn what_waits_to_be_sent_is_sent_after_the_stream_is_dropped() {
    run(async || {
        let (landed, mut peer) = landed(b"", vec![7; MUCH]).await;
        drop(landed);
        let mut got = Vec::new();
        peer.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), MUCH);
    });
}

#[test]
fn unread_bytes_reset_the_peer_even_if_something_waits_to_be_sent() {
    run(async || {
        for unsent in [Vec::new(), vec![7; MUCH]] {
            let (landed, mut peer) = landed(b"unread", unsent).await;
            drop(landed);
            let mut got = Vec::new();
            let read = peer.read_to_end(&mut got).await;
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            assert!(got.len() < MUCH / 2, "went on sending: {}", got.len());
        }
    });
}

/// The task that sends hears of the reset, and the socket says it but once.
#[test]
fn a_reset_that_another_task_has_heard_of_is_no_end() {
    run(async || {
        let (mut landed, peer) = landed(b"", vec![7; MUCH]).await;
        let socket = SockRef::from(&peer).set_linger(Some(Duration::ZERO));
        socket.unwrap();
        drop(peer);
        while !landed.backlog.as_ref().is_some_and(JoinHandle::is_finished) {
            tokio::task::yield_now().await;
        }
        for _ in 0..2 {
            let error = landed.read(1).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        assert!(landed.write(b"x").await.is_err());
    });
}
