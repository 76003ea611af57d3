//! What the proxy's tests share: the proxy on a real socket, clients and servers that speak HTTP/1.1 byte by byte, and
//! a server that binds identity to the TCP connection as IIS does.
//!
//! Clients and servers are written without an HTTP library, so that what is asserted is what was on the wire.

#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod iis;

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lb_proxy::{
    Action, Balancing, Bulk, Carriage, ClientAddr, ClientTimeouts, Counters, Error, ErrorPages,
    ExpectMode, Feed, Forwarding, HeaderPolicy, Proxy, Route, RouteCounters, Server, Service,
    Timeouts, Tunnels, When,
};
use lb_proxy::{BodyLimits, Entrance};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

/// Runs a test as a worker would run; no test is meant to get anywhere near the limit.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // Inside the runtime, which has the clock.
    let limited = async { timeout(Duration::from_mins(1), test).await };
    let outcome = LocalSet::new().block_on(&runtime, limited);
    outcome.expect("the test hangs");
}

/// A service over servers at `addresses`, with the policy of Exchange and default timeouts.
pub(crate) fn service(addresses: &[SocketAddr]) -> Service {
    let one = NonZeroU16::MIN;
    let server = |(i, &address): (usize, &SocketAddr)| {
        Arc::new(Server::new(format!("server-{i}"), address, one))
    };
    let forwarding = Forwarding {
        servers: addresses.iter().enumerate().map(server).collect(),
        upstream_tls: None,
        headers: HeaderPolicy::exchange(),
        timeouts: Timeouts::default(),
        requests: None,
        body: BodyLimits::default(),
        proxy_protocol: None,
        balancing: Balancing::default(),
        rules: None,
        error_pages: ErrorPages::default(),
        expect: ExpectMode::default(),
        tunnels: Tunnels::default(),
    };
    Service {
        name: "test".to_owned(),
        routes: vec![Route {
            name: "all".to_owned(),
            when: When::default(),
            action: Action::Forward(Box::new(forwarding)),
            counters: RouteCounters::default(),
        }],
        tls: None,
        timeouts: ClientTimeouts::default(),
        counters: Arc::new(Counters::default()),
        entrance: Entrance::default(),
        max_headers: None,
        max_header_bytes: None,
        requests: None,
        hsts: None,
        error_pages: ErrorPages::default(),
        bulk: None,
        feed: Feed::default(),
    }
}

/// How the first route of a service forwards.
pub(crate) fn forwarding(service: &mut Service) -> &mut Forwarding {
    match &mut service.routes[0].action {
        Action::Forward(forwarding) => forwarding,
        other => panic!("{other:?}"),
    }
}

/// The server at `index` of the first route.
pub(crate) fn server(service: &Service, index: usize) -> Arc<Server> {
    match &service.routes[0].action {
        Action::Forward(forwarding) => Arc::clone(&forwarding.servers[index]),
        other => panic!("{other:?}"),
    }
}

/// A proxy that accepts connections.
pub(crate) struct Edge {
    pub(crate) address: SocketAddr,
    pub(crate) proxy: Rc<Proxy>,
    /// How the client connections that have ended did.
    pub(crate) ended: Rc<RefCell<Vec<Result<(), Error>>>>,
    /// What was said of them to who carries them.
    pub(crate) told: Told,
}

/// What was told, and the number of the connection that it was told of, from 0.
pub(crate) type Told = Rc<RefCell<Vec<(usize, Bulk)>>>;

/// Who carries a connection, and writes down what is told of it.
pub(crate) struct Carrier {
    pub(crate) number: usize,
    pub(crate) told: Told,
}

impl Carriage for Carrier {
    fn bulk(&self, what: Bulk) {
        self.told.borrow_mut().push((self.number, what));
    }

    /// Away as soon as it was told: what moves a connection in earnest may take a moment.
    fn place(&self) -> &'static str {
        let told = self.told.borrow();
        if told.iter().any(|(number, _)| *number == self.number) {
            "away"
        } else {
            "here"
        }
    }
}

impl Edge {
    pub(crate) async fn start(service: Service) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Proxy::new(Arc::new(service));
        let ended = Rc::new(RefCell::new(Vec::new()));
        let told = Told::default();
        let (accepting, ends) = (Rc::clone(&proxy), Rc::clone(&ended));
        let tell = Rc::clone(&told);
        spawn_local(async move {
            for number in 0.. {
                let Ok((stream, peer)) = listener.accept().await else {
                    return;
                };
                let told = Rc::clone(&tell);
                let carrier: Rc<dyn Carriage> = Rc::new(Carrier { number, told });
                let client = ClientAddr {
                    peer,
                    local: address,
                };
                stream.set_nodelay(true).unwrap();
                let (proxy, ends) = (Rc::clone(&accepting), Rc::clone(&ends));
                spawn_local(async move {
                    let outcome = proxy.serve_on(Some(carrier), stream, client).await;
                    ends.borrow_mut().push(outcome);
                });
            }
        });
        Self {
            address,
            proxy,
            ended,
            told,
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.proxy.service().counters
    }

    pub(crate) async fn client(&self) -> Wire {
        Wire::new(TcpStream::connect(self.address).await.unwrap())
    }
}

/// A server that repeats the path.
pub(crate) async fn echo() -> SocketAddr {
    origin(|mut wire, _| async move {
        loop {
            let request = wire.message().await?;
            let path = request.path();
            let length = path.len();
            wire.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{path}"
            ))
            .await?;
        }
    })
    .await
}

/// Serves each connection to a port of its own with `serve`, which gets the connection and its number from 0.
pub(crate) async fn origin<F>(serve: impl Fn(Wire, usize) -> F + 'static) -> SocketAddr
where
    F: Future<Output = Option<()>> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            spawn_local(serve(Wire::new(stream), number));
        }
    });
    address
}

/// A port on which nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// Waits until `condition` holds.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A message as it was on the wire: the lines of its head, and its body without framing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) start: String,
    pub(crate) lines: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// The values of all lines called `name`, in any case.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.lines.iter().filter_map(|line| line.split_once(':'));
        fields
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn path(&self) -> &str {
        self.start.split(' ').nth(1).unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A byte stream that HTTP is read from by hand.
pub(crate) struct Wire(pub(crate) BufReader<TcpStream>);

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    /// Writes; `None` if the peer is gone.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Option<()> {
        self.0.write_all(bytes.as_ref()).await.ok()
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).await.ok()?;
        line.strip_suffix("\r\n").map(str::to_owned)
    }

    /// Reads a head; `None` if the peer closes first.
    pub(crate) async fn head(&mut self) -> Option<Message> {
        let start = self.line().await?;
        let mut message = Message {
            start,
            ..Message::default()
        };
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Some(message);
            }
            message.lines.push(line);
        }
    }

    /// Reads one chunk of a chunked body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(&self.line().await?, 16).unwrap();
        let data = self.exactly(size).await?;
        self.line().await?;
        (size > 0).then_some(data)
    }

    pub(crate) async fn exactly(&mut self, size: usize) -> Option<Vec<u8>> {
        let mut data = vec![0; size];
        self.0.read_exact(&mut data).await.ok()?;
        Some(data)
    }

    /// Reads the body that belongs to `message`'s head.
    pub(crate) async fn body(&mut self, message: &mut Message) -> Option<()> {
        if message.get("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                message.body.extend(chunk);
            }
        } else if let Some(length) = message.get("content-length") {
            message.body = self.exactly(length.parse().unwrap()).await?;
        }
        Some(())
    }

    /// Reads a whole message; `None` if the peer closes first.
    pub(crate) async fn message(&mut self) -> Option<Message> {
        let mut message = self.head().await?;
        self.body(&mut message).await?;
        Some(message)
    }

    /// Sends a GET with further header lines and reads the response; `None` if the peer closes instead.
    pub(crate) async fn get(&mut self, path: &str, lines: &str) -> Option<Message> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{lines}\r\n"))
            .await?;
        self.message().await
    }

    /// Whether the peer has closed, with nothing left to read.
    pub(crate) async fn at_end(&mut self) -> bool {
        matches!(self.0.fill_buf().await, Ok([]) | Err(_))
    }

    /// Whether nothing comes for a while. Only for what must never come: late is no failure.
    pub(crate) async fn silent(&mut self) -> bool {
        let some = timeout(Duration::from_millis(100), self.0.fill_buf());
        some.await.is_err()
    }
}
