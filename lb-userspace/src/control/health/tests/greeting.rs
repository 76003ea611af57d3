//! Mail servers' greetings, plain and over TLS, and how a probe takes its leave.

use lb_config::{Greeting, Mail};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::*;

fn greeting(protocol: Mail, expect: &str) -> Greeting {
    Greeting {
        protocol,
        expect: expect.to_owned(),
    }
}

/// Says `pieces` and gives what the probe says to that.
async fn greet(mut stream: impl AsyncRead + AsyncWrite + Unpin, pieces: &[&str]) -> String {
    for piece in pieces {
        stream.write_all(piece.as_bytes()).await.expect("written");
        stream.flush().await.expect("flushed");
        tokio::task::yield_now().await;
    }
    stream.shutdown().await.expect("our half is closed");
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.ok();
    String::from_utf8(heard).expect("ASCII")
}

/// What a probe finds, and what it says.
async fn check(
    greeting: Greeting,
    tls: Option<UpstreamTls>,
    server: Option<Arc<ServerConfig>>,
    pieces: &[&str],
) -> (String, String) {
    let (listener, address) = listen().await;
    let serve = async {
        let (stream, _) = listener.accept().await.expect("accept");
        match server {
            None => greet(stream, pieces).await,
            Some(server) => match TlsAcceptor::from(server).accept(stream).await {
                Ok(stream) => greet(stream, pieces).await,
                Err(_) => "no TLS".to_owned(),
            },
        }
    };
    let probe = Probe::Greeting(greeting, tls);
    let (result, heard) = tokio::join!(probe::probe(&probe, address, soon()), serve);
    let found = match result {
        Ok(said) => format!("up: {said}"),
        Err(failure) => format!("down: {failure}"),
    };
    (found, heard)
}

#[tokio::test]
async fn servers_that_speak_first_are_heard_and_thanked() {
    let smtp = || greeting(Mail::Smtp, "220");
    let exchange = "220 EX1.LAB.TEST Microsoft ESMTP MAIL Service ready";
    let line = format!("{exchange}\r\n");
    let cases: &[(Greeting, &[&str], &str, &str)] = &[
        (smtp(), &[&line], &format!("up: {exchange}"), "QUIT\r\n"),
        (smtp(), &["22", "0 EX1\r", "\n"], "up: 220 EX1", "QUIT\r\n"),
        (
            smtp(),
            &["220-EX1\r\n", "220 more\r\n"],
            "up: 220-EX1",
            "QUIT\r\n",
        ),
        (
            smtp(),
            &["421 4.3.2 Service not available\r\n"],
            "down: greeting: `421 4.3.2 Service not available`, expected `220`",
            "",
        ),
        (
            greeting(Mail::Imap, "* OK"),
            &["* OK The Microsoft Exchange IMAP4 service is ready.\r\n"],
            "up: * OK The Microsoft Exchange IMAP4 service is ready.",
            "a LOGOUT\r\n",
        ),
        (
            greeting(Mail::Imap, "* OK"),
            &["* BYE busy\r\n"],
            "down: greeting: `* BYE busy`, expected `* OK`",
            "",
        ),
        (
            greeting(Mail::Pop, "+OK"),
            &["+OK ready\r\n"],
            "up: +OK ready",
            "QUIT\r\n",
        ),
        (
            greeting(Mail::Pop, "+OK"),
            &["-ERR no\r\n"],
            "down: greeting: `-ERR no`, expected `+OK`",
            "",
        ),
        // No line, or no end of it.
        (smtp(), &[], "down: greeting: unexpected end of file", ""),
        (
            smtp(),
            &["220 EX1"],
            "down: greeting: unexpected end of file",
            "",
        ),
    ];
    for (greeting, pieces, found, said) in cases {
        let checked = check(greeting.clone(), None, None, pieces).await;
        let expected = ((*found).to_owned(), (*said).to_owned());
        assert_eq!(checked, expected, "{pieces:?}");
    }
}

#[tokio::test]
async fn a_line_without_end_is_not_waited_for() {
    let long = "x".repeat(600);
    let (found, _) = check(greeting(Mail::Smtp, "xxx"), None, None, &[&long]).await;
    assert_eq!(found, format!("up: {}", "x".repeat(512)));
}

#[tokio::test]
async fn a_greeting_may_be_wrapped_in_tls() {
    let (server, roots) = certified();
    let imap = || greeting(Mail::Imap, "* OK");
    let pieces: &[&str] = &["* OK ready\r\n"];
    let tls = client(&roots, "mail.lab.test");
    let (found, said) = check(imap(), Some(tls), Some(Arc::clone(&server)), pieces).await;
    assert_eq!((&found[..], &said[..]), ("up: * OK ready", "a LOGOUT\r\n"));
    let tls = client(&roots, "other.lab.test");
    let (found, _) = check(imap(), Some(tls), Some(server), pieces).await;
    assert!(
        found.starts_with("down: TLS: invalid peer certificate"),
        "{found}"
    );
}
