//! What a quiet client costs in memory. A file of its own, because it has an allocator of its own.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

#[path = "support/counting.rs"]
mod counting;
mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;

use lb_proxy::tls::{self, ServerOptions, ServerTls, Verify};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use support::{Edge, run, service, until};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A server on threads of its own, so that the proxy's thread has none of its memory.
fn distant_origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let mut lines = BufReader::new(stream?);
                let mut line = String::new();
                while lines.read_line(&mut line)? > 0 {
                    if line == "\r\n" {
                        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                        lines.get_mut().write_all(answer.as_bytes())?;
                    }
                    line.clear();
                }
                std::io::Result::Ok(())
            });
        }
    });
    address
}

type Client = StreamOwned<ClientConnection, TcpStream>;

fn connect(edge: SocketAddr, config: &Arc<ClientConfig>) -> Client {
    let tls = ClientConnection::new(Arc::clone(config), name()).unwrap();
    StreamOwned::new(tls, TcpStream::connect(edge).unwrap())
}

fn fetch(client: &mut Client) {
    let request = b"GET /owa HTTP/1.1\r\nHost: mail.example\r\n\r\n";
    client.write_all(request).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
}

const NAME: &str = "mail.example";

fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).unwrap()
}

/// TLS for [`NAME`], and a client's settings that trust it.
fn certified() -> (Arc<ServerTls>, Arc<ClientConfig>) {
    let directory = TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let path = |name| directory.path().join(name);
    let (certificate, key) = (path("certificate.pem"), path("key.pem"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = ServerTls::load(ServerOptions::new(&certificate, &key)).unwrap();
    let client = tls::upstream(&Verify::Roots(certificate), name()).unwrap();
    (server, client.config())
}

/// Clients in a thread of their own, which takes a step for each word, and answers it.
fn clients(edge: SocketAddr, config: Arc<ClientConfig>) -> (UnboundedReceiver<()>, Sender<()>) {
    let (done, is_done) = unbounded_channel();
    let (go_on, is_to_go_on) = mpsc::channel();
    thread::spawn(move || {
        let mut clients = Vec::new();
        for count in [FIRST, MORE] {
            is_to_go_on.recv().ok()?;
            for _ in 0..count {
                let mut client = connect(edge, &config);
                fetch(&mut client);
                clients.push(client);
            }
            done.send(()).ok()?;
        }
        is_to_go_on.recv().ok()?;
        for client in &mut clients {
            (0..3).for_each(|_| fetch(client));
        }
        done.send(()).ok()?;
        // They stay until the test is over.
        is_to_go_on.recv().ok()
    });
    (is_done, go_on)
}

/// Clients whose memory isn't looked at: what the runtime, the pool and caches take once is taken for them.
const FIRST: usize = 32;
const MORE: usize = 64;

/// Bytes of the heap for one: its task, sockets, TLS. It was 46,832 when hyper was there all the time and TLS not boxed.
const MOST: isize = 11 << 10;

#[test]
fn a_quiet_tls_client_takes_few_bytes_whether_or_not_it_was_busy() {
    run(async {
        let (server, config) = certified();
        let mut settings = service(&[distant_origin()]);
        settings.tls = Some(server);
        let edge = Edge::start(settings).await;
        let (mut step, go_on) = clients(edge.address, config);

        go_on.send(()).unwrap();
        step.recv().await.unwrap();
        let before = counting::live();
        let each = || (counting::live() - before) / MORE.cast_signed();
        go_on.send(()).unwrap();
        step.recv().await.unwrap();
        assert!(each() <= MOST, "{} bytes", each());

        // Several requests in a row: hyper stays for a while, and then leaves as well.
        go_on.send(()).unwrap();
        step.recv().await.unwrap();
        until(|| each() <= MOST).await;
    });
}
