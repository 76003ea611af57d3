//! Copying between streams of which a test holds the other ends.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

const LONG: Duration = Duration::from_hours(1);

/// Runs `test` with the other ends of client and server, and gives what copying came to.
fn copy<F, T>(
    idle: Duration,
    test: impl FnOnce(DuplexStream, DuplexStream) -> F,
) -> (Result<(), Broken>, T)
where
    F: Future<Output = T>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    // Smaller than the buffer, so that much is kept.
    let ((client, outer), (server, inner)) = (duplex(1000), duplex(1000));
    let scratch = Scratch::default();
    let counters = [Counter::default(), Counter::default()];
    let copying = async {
        let (mut outer, mut inner) = (pin!(outer), pin!(inner));
        both_ways(
            outer.as_mut(),
            inner.as_mut(),
            &scratch,
            idle,
            [&counters[0], &counters[1]],
            Meter::default(),
        )
        .await
    };
    runtime.block_on(async { tokio::join!(copying, test(client, server)) })
}

fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

#[test]
fn bytes_cross_in_both_directions_at_once_and_ends_follow_them() {
    let (outcome, ()) = copy(LONG, async |client, server| {
        let speak = async |stream: DuplexStream, length: usize, wanted: usize| {
            let (mut read, mut write) = tokio::io::split(stream);
            let data = pattern(length);
            let sending = async {
                write.write_all(&data).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let (sent, received) = tokio::join!(sending, read.read_to_end(&mut got));
            (sent, assert_eq!(received.unwrap(), wanted));
            assert!(got == pattern(wanted));
        };
        tokio::join!(
            speak(client, 500_000, 300_000),
            speak(server, 300_000, 500_000)
        );
    });
    assert!(outcome.is_ok());
}

#[test]
fn a_side_that_has_ended_still_gets_its_answer() {
    let (outcome, ()) = copy(LONG, async |mut client, mut server| {
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = Vec::new();
        server.read_to_end(&mut question).await.unwrap();
        assert_eq!(question, b"question");
        server.write_all(b"answer").await.unwrap();
        server.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
    });
    assert!(outcome.is_ok());
}

#[test]
fn nobody_reads_ahead_of_a_slow_reader() {
    let (_, taken) = copy(LONG, async |mut client, server| {
        let data = pattern(10_000_000);
        let sending = client.write_all(&data);
        // Nobody reads at the server.
        let stuck = tokio::time::timeout(Duration::from_millis(50), sending).await;
        assert!(stuck.is_err());
        drop(client);
        let mut server = server;
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        // What was kept for the reader comes in its order, and whole.
        assert!(data.starts_with(&rest));
        rest.len()
    });
    assert!(taken <= BUFFER + 2 * 1000, "{taken}");
}

#[test]
fn silence_in_both_directions_ends_it_and_in_one_does_not() {
    let idle = Duration::from_millis(60);
    let (outcome, ()) = copy(idle, async |mut client, mut server| {
        let started = Instant::now();
        let mut byte = [0];
        // Only the server speaks, for much longer than the idle time.
        while started.elapsed() < 4 * idle {
            server.write_all(b"x").await.unwrap();
            client.read_exact(&mut byte).await.unwrap();
            tokio::time::sleep(idle / 10).await;
        }
        // Held open, without a word.
        assert_eq!(client.read(&mut byte).await.unwrap(), 0);
    });
    assert!(matches!(outcome, Err(Broken::Idle)), "{outcome:?}");
}

#[test]
fn who_is_gone_ends_it_for_the_other() {
    let (outcome, ()) = copy(LONG, async |client, mut server| {
        drop(client);
        let mut byte = [0];
        assert_eq!(server.read(&mut byte).await.unwrap(), 0);
        let _ = server.write_all(&pattern(100_000)).await;
    });
    assert!(matches!(outcome, Err(Broken::Client(_))), "{outcome:?}");
}
