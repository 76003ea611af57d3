//! HTTP/2 towards clients, over TLS with ALPN: what a server gets of it in HTTP/1.1, and what may not be on a stream. The
//! client is the `h2` crate, or frames written by hand where that refuses to send them (`malformed`).

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod malformed;
#[path = "../support/mod.rs"]
mod support;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::{ResponseFuture, SendRequest};
use http::{Request, Response};
use lb_proxy::tls::{self, Alpn, ServerOptions, ServerTls, Verify};
use lb_proxy::{Bulk, BulkThresholds, Kind, Service};
use rustls_pki_types::ServerName;
use support::{Edge, Message, forwarding, origin, run, service, until};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio_rustls::client::TlsStream;

const NAME: &str = "mail.example";

/// A proxy that speaks HTTP/2, and the root that its clients trust.
struct Front {
    edge: Edge,
    files: TempDir,
}

impl Front {
    async fn start(mut service: Service) -> Self {
        let files = TempDir::new().unwrap();
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let (certificate, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let mut options = ServerOptions::new(certificate, key);
        options.alpn = Alpn::Http2;
        service.tls = Some(ServerTls::load(options).unwrap());
        let edge = Edge::start(service).await;
        Self { edge, files }
    }

    async fn connect(&self, alpn: &[u8]) -> TlsStream<TcpStream> {
        let verify = Verify::Roots(self.files.path().join("cert.pem"));
        let name = ServerName::try_from(NAME).unwrap();
        let settings = tls::upstream(&verify, name.clone()).unwrap();
        let mut config = rustls::ClientConfig::clone(&settings.config());
        config.alpn_protocols = vec![alpn.to_vec()];
        let tcp = TcpStream::connect(self.edge.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector.connect(name, tcp).await.unwrap()
    }

    async fn client(&self) -> SendRequest<Bytes> {
        let (client, connection) = h2::client::handshake(self.connect(b"h2").await)
            .await
            .unwrap();
        spawn_local(async move {
            let _ = connection.await;
        });
        client
    }
}

fn get(path: &str) -> Request<()> {
    let uri = format!("https://{NAME}{path}");
    Request::get(uri).body(()).unwrap()
}

/// Sends a request without body.
async fn send(client: &SendRequest<Bytes>, request: Request<()>) -> ResponseFuture {
    let mut client = client.clone().ready().await.unwrap();
    client.send_request(request, true).unwrap().0
}

/// A response with its whole body.
async fn whole(response: ResponseFuture) -> Result<Response<Vec<u8>>, h2::Error> {
    let (head, mut stream) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    Ok(Response::from_parts(head, body))
}

/// What servers got, with the number of the connection that it came on.
type Seen = Rc<RefCell<Vec<(usize, Message)>>>;

/// A server that answers with `answer`, and keeps its connections.
async fn server(answer: &'static str) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let keep = Rc::clone(&seen);
    let address = origin(move |mut wire, number| {
        let seen = Rc::clone(&keep);
        async move {
            loop {
                let message = wire.message().await?;
                seen.borrow_mut().push((number, message));
                wire.send(answer).await?;
            }
        }
    })
    .await;
    (address, seen)
}

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: keep-alive\r\n\r\nfine";

#[test]
fn a_request_reads_like_one_of_http_1_1_and_its_response_like_one_of_http_2() {
    run(async {
        let (address, seen) = server(FINE).await;
        let front = Front::start(service(&[address])).await;
        let client = front.client().await;
        let mut request = get("/owa/?a=b");
        let headers = request.headers_mut();
        headers.append("cookie", "a=1".parse().unwrap());
        headers.append("x-one", "1".parse().unwrap());
        headers.append("cookie", "b=2".parse().unwrap());
        headers.append("te", "trailers".parse().unwrap());
        let response = whole(send(&client, request).await).await.unwrap();
        assert_eq!(response.body(), b"fine");
        let cookies = response.headers().get_all("set-cookie").iter();
        assert_eq!(cookies.collect::<Vec<_>>(), ["a=1", "b=2"]);
        assert!(!response.headers().contains_key("connection"));

        let seen = seen.borrow();
        let (_, message) = &seen[0];
        assert_eq!(message.start, "GET /owa/?a=b HTTP/1.1");
        let lines = ["Host: mail.example", "Cookie: a=1; b=2", "X-One: 1"];
        assert_eq!(message.lines, lines);
    });
}

#[test]
fn streams_do_not_wait_for_one_another() {
    run(async {
        let first_is_held = Rc::new(Cell::new(true));
        let held = Rc::clone(&first_is_held);
        let address = origin(move |mut wire, _| {
            let held = Rc::clone(&held);
            async move {
                loop {
                    let message = wire.message().await?;
                    if message.path() == "/first" {
                        until(|| !held.get()).await;
                    }
                    wire.send(FINE).await?;
                }
            }
        })
        .await;
        let front = Front::start(service(&[address])).await;
        let client = front.client().await;
        let first = send(&client, get("/first")).await;
        let second = send(&client, get("/second")).await;
        assert_eq!(whole(second).await.unwrap().status(), 200);
        first_is_held.set(false);
        assert_eq!(whole(first).await.unwrap().status(), 200);
        assert_eq!(front.edge.counters().client_connections.get(), 1);
    });
}

/// The streams have one carrier, which can do what it does once.
#[test]
fn what_one_stream_carries_is_told_of_the_connection() {
    run(async {
        let address = origin(|mut wire, _| async move {
            loop {
                let length: usize = wire.message().await?.path()[1..].parse().unwrap();
                wire.send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
                ))
                .await?;
                wire.send(vec![b'x'; length]).await?;
            }
        })
        .await;
        let mut service = service(&[address]);
        service.bulk = Some(BulkThresholds {
            response: 20_000,
            upload: 20_000,
            streamed: 20_000,
            repeated: 20_000,
        });
        let front = Front::start(service).await;
        let client = front.client().await;
        whole(send(&client, get("/19999")).await).await.unwrap();
        assert_eq!(*front.edge.told.borrow(), []);
        let (large, larger) = (
            send(&client, get("/20000")).await,
            send(&client, get("/30000")).await,
        );
        whole(large).await.unwrap();
        whole(larger).await.unwrap();
        let told = front.edge.told.borrow();
        assert!(
            matches!(told[..], [(0, Bulk::Response(20_000 | 30_000))]),
            "{told:?}"
        );
    });
}

#[test]
fn a_credential_of_a_connection_is_refused_on_a_stream_alone() {
    run(async {
        let (address, seen) = server(FINE).await;
        let front = Front::start(service(&[address])).await;
        let client = front.client().await;
        for credential in [
            "NTLM TlRMTVNTUAAB",
            "negotiate YIIabc",
            "Basic x, Kerberos y",
        ] {
            let mut request = get("/");
            let value = credential.parse().unwrap();
            request.headers_mut().insert("authorization", value);
            let refused = whole(send(&client, request).await).await.unwrap_err();
            assert_eq!(
                refused.reason(),
                Some(Reason::HTTP_1_1_REQUIRED),
                "{credential}"
            );
        }
        assert_eq!(seen.borrow().len(), 0, "no server got one");
        assert_eq!(front.edge.counters().errors(Kind::NeedsHttp1), 3);
        // Its neighbours go on, a credential of the request alone included.
        let mut request = get("/");
        let basic = "Basic dXNlcjpwdw==".parse().unwrap();
        request.headers_mut().insert("authorization", basic);
        let response = whole(send(&client, request).await).await.unwrap();
        assert_eq!(response.status(), 200);
    });
}

#[test]
fn a_connection_on_which_a_login_is_offered_or_confirmed_is_not_used_again() {
    const OFFER: &str =
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nWWW-Authenticate: Negotiate\r\n\r\n";
    const CONFIRMED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nPersistent-Auth: true\r\n\r\n";
    for (answer, connections) in [(FINE, [0, 0]), (OFFER, [0, 1]), (CONFIRMED, [0, 1])] {
        run(async move {
            let (address, seen) = server(answer).await;
            let front = Front::start(service(&[address])).await;
            let client = front.client().await;
            for _ in 0..2 {
                whole(send(&client, get("/")).await).await.unwrap();
            }
            let seen = seen.borrow();
            let numbers: Vec<_> = seen.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers, connections, "{answer}");
            assert_eq!(front.edge.counters().upstream_pinned.get(), 0);
        });
    }
}

#[test]
fn bodies_are_framed_as_they_were_declared() {
    run(async {
        let (address, seen) = server(FINE).await;
        let front = Front::start(service(&[address])).await;
        let client = front.client().await;
        let cases = [
            (None, "", ("content-length", "0")),
            (Some("4"), "data", ("content-length", "4")),
            (None, "data", ("transfer-encoding", "chunked")),
        ];
        for (length, body, (name, value)) in cases {
            let mut request = get("/");
            *request.method_mut() = http::Method::POST;
            if let Some(length) = length {
                let length = length.parse().unwrap();
                request.headers_mut().insert("content-length", length);
            }
            let mut client = client.clone().ready().await.unwrap();
            let (response, mut stream) = client.send_request(request, body.is_empty()).unwrap();
            if !body.is_empty() {
                stream.send_data(body.into(), true).unwrap();
            }
            whole(response).await.unwrap();
            let (_, message) = seen.borrow_mut().pop().unwrap();
            assert_eq!(message.all(name), [value]);
            assert_eq!(message.text(), body);
        }
    });
}

#[test]
fn large_bodies_arrive_whole_both_ways() {
    const SIZE: usize = 3 << 20;
    run(async {
        let address = origin(|mut wire, _| async move {
            let message = wire.message().await?;
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                message.body.len()
            );
            wire.send(head).await?;
            wire.send(message.body).await
        })
        .await;
        let front = Front::start(service(&[address])).await;
        let mut client = front.client().await.ready().await.unwrap();
        let mut request = get("/");
        *request.method_mut() = http::Method::POST;
        let (response, mut stream) = client.send_request(request, false).unwrap();
        let body: Vec<u8> = (0..=250).cycle().take(SIZE).collect();
        stream.send_data(body.clone().into(), true).unwrap();
        let response = whole(response).await.unwrap();
        assert!(response.body() == &body, "{} bytes", response.body().len());
    });
}

#[test]
fn a_request_that_is_given_up_is_given_up_at_the_server() {
    run(async {
        let state = Rc::new(Cell::new("nothing"));
        let told = Rc::clone(&state);
        let address = origin(move |mut wire, _| {
            let told = Rc::clone(&told);
            async move {
                wire.message().await?;
                told.set("asked");
                assert!(wire.at_end().await);
                told.set("given up");
                Some(())
            }
        })
        .await;
        let front = Front::start(service(&[address])).await;
        let client = front.client().await;
        let response = send(&client, get("/")).await;
        until(|| state.get() == "asked").await;
        drop(response);
        until(|| state.get() == "given up").await;
    });
}

#[test]
fn a_drain_finishes_what_is_under_way() {
    run(async {
        let (held, asked) = (Rc::new(Cell::new(true)), Rc::new(Cell::new(false)));
        let its = (Rc::clone(&held), Rc::clone(&asked));
        let address = origin(move |mut wire, _| {
            let (held, asked) = its.clone();
            async move {
                wire.message().await?;
                asked.set(true);
                until(|| !held.get()).await;
                wire.send(FINE).await
            }
        })
        .await;
        let front = Front::start(service(&[address])).await;
        let response = send(&front.client().await, get("/")).await;
        until(|| asked.get()).await;
        front.edge.proxy.drain();
        held.set(false);
        assert_eq!(whole(response).await.unwrap().body(), b"fine");
        until(|| front.edge.ended.borrow().len() == 1).await;
        assert!(front.edge.ended.borrow()[0].is_ok());
    });
}

#[test]
fn a_stream_that_comes_to_nothing_ends() {
    run(async {
        let (address, _) = server(FINE).await;
        let mut settings = service(&[address]);
        let short = Duration::from_millis(300);
        settings.timeouts.idle = short;
        forwarding(&mut settings).timeouts.idle = short;
        let front = Front::start(settings).await;
        let mut client = front.client().await.ready().await.unwrap();
        let mut request = get("/");
        *request.method_mut() = http::Method::POST;
        // Its body never ends.
        let (response, _stream) = client.send_request(request, false).unwrap();
        assert!(whole(response).await.is_err());
        until(|| front.edge.counters().errors(Kind::Idle) == 1).await;
    });
}

#[test]
fn clients_of_http_1_1_are_served_as_ever() {
    run(async {
        let (address, _) = server(FINE).await;
        let front = Front::start(service(&[address])).await;
        let mut stream = front.connect(b"http/1.1").await;
        let request = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("fine"));
    });
}
