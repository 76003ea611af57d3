//! Real clients, run inside the client's namespace: curl, Python programs, and plain TCP for SMTP.
//!
//! Invariant: a client that can't be started or doesn't end well is an error; what servers answer is data.
//! Used by the tests and by the demo.

mod expect;
mod long;
mod smtp;
mod tls;
mod wire;

pub use self::{
    expect::{Exchange, expect_continue},
    long::{Endpoint, PING_EXPIRED, Rpc, basic, one_leg, rpc_echo, send_mapi, send_ping},
    smtp::Smtp,
    tls::{TlsConnection, tls},
    wire::{Connection, Head},
};

use std::{
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, de::DeserializeOwned};
use socket2::{Domain, Socket, Type};

use crate::{binaries, lab::Namespace, pool::User};

/// What curl reports about one URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Status of the last answer; 0 when there was none.
    pub status: u16,
    /// Connections that curl had to open for it.
    pub connects: u32,
}

/// Fetches `urls` one after the other with one curl, NTLM and `user`'s name; `password` may be wrong.
pub fn curl_ntlm(user: &User, password: &str, urls: &[String]) -> Result<Vec<Fetched>> {
    let credentials = format!("{}:{password}", user.qualified());
    curl(&["--ntlm", "--user", &credentials], urls)
}

/// Fetches `urls` one after the other with one curl; the bodies are thrown away.
pub fn curl(options: &[&str], urls: &[String]) -> Result<Vec<Fetched>> {
    let mut command = Namespace::client().command("curl");
    command.args([
        "--silent",
        "--max-time",
        "60",
        "--write-out",
        "%{http_code} %{num_connects}\\n",
    ]);
    command.args(options);
    for url in urls {
        command.args(["--output", "/dev/null", url]);
    }
    let output = command.output().context("starting curl")?;
    let text = String::from_utf8(output.stdout).context("curl's output")?;
    let fetched = text.lines().map(|line| {
        let (status, connects) = line
            .split_once(' ')
            .context("curl's output has no second word")?;
        Ok(Fetched {
            status: status.parse()?,
            connects: connects.parse()?,
        })
    });
    let fetched = fetched.collect::<Result<Vec<_>>>()?;
    ensure!(
        fetched.len() == urls.len(),
        "curl ended early ({}): {text}",
        output.status
    );
    Ok(fetched)
}

/// Fetches one page without credentials: its status (0 when nothing answers) and its text.
pub fn get(url: &str) -> Result<(u16, String)> {
    let (status, body) = fetch(&[], url)?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Fetches one page with curl's `options`: its status (0 when nothing answers) and its body.
pub fn fetch(options: &[&str], url: &str) -> Result<(u16, Vec<u8>)> {
    let output = Namespace::client()
        .command("curl")
        .args([
            "--silent",
            "--max-time",
            "60",
            "--write-out",
            "%{http_code}",
        ])
        .args(options)
        .arg(url)
        .output()
        .context("starting curl")?;
    let mut body = output.stdout;
    let status = body.split_off(body.len().saturating_sub("200".len()));
    let status = String::from_utf8_lossy(&status)
        .parse()
        .context("curl printed no status")?;
    Ok((status, body))
}

/// Runs `tests/python/<script>` and reads the JSON that it prints.
pub fn python<T: DeserializeOwned>(script: &str, arguments: &[&str]) -> Result<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("python")
        .join(script);
    let mut command = Namespace::client().command(binaries::python()?);
    let output = command
        // Its cache files would be left in the source tree.
        .arg("-B")
        .arg(path)
        .args(arguments)
        .output()
        .with_context(|| format!("starting {script}"))?;
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        output.status.success(),
        "{script} failed ({}):\n{out}{err}",
        output.status
    );
    serde_json::from_str(&out).with_context(|| format!("{script} printed {out:?}"))
}

/// The status codes of a client that trusts NTLM persistence, request by request.
pub fn mac_mail(address: SocketAddrV4, user: &User) -> Result<Vec<Vec<u16>>> {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    python("mac_mail.py", &[&host, &port, user.name, user.password])
}

/// What `identities.py` found.
#[derive(Debug, Deserialize)]
pub struct Identities {
    /// Requests made by users.
    pub requests: u32,
    /// Logins among them.
    pub logins: u32,
    /// Requests for a protected page without credentials, besides.
    pub strangers: u32,
    /// Users' requests that were served as someone else, described.
    pub wrong: Vec<String>,
    /// Users' requests that were refused although the connection was logged in, described.
    pub refused: Vec<String>,
    /// Strangers' requests that were not answered by 401, described.
    pub stranger_served: Vec<String>,
}

/// Makes `requests` requests as `users`, interleaved, each by NTLM, by SPNEGO and with one leg, among strangers.
pub fn identities(address: SocketAddrV4, requests: u32, users: &[User]) -> Result<Identities> {
    let mut arguments = vec![
        address.ip().to_string(),
        address.port().to_string(),
        requests.to_string(),
    ];
    arguments.extend(
        users
            .iter()
            .map(|user| format!("{}:{}", user.name, user.password)),
    );
    python(
        "identities.py",
        &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
    )
}

/// What exchangelib saw.
#[derive(Debug, Deserialize)]
pub struct ExchangeSession {
    /// Name of the root folder.
    pub root: String,
    /// Number of items that the inbox says it has.
    pub inbox: u32,
    /// Items found in the inbox.
    pub items: u32,
}

/// Opens a session with exchangelib over TLS, trusting `ca`, on the server `name` that is at `address`.
pub fn exchangelib(
    address: Ipv4Addr,
    name: &str,
    ca: &Path,
    user: &User,
) -> Result<ExchangeSession> {
    let (address, ca) = (address.to_string(), ca.display().to_string());
    python("ews.py", &[&address, name, &ca, user.name, user.password])
}

/// What exchangelib saw of a mailbox that gets mail.
#[derive(Debug, Deserialize)]
pub struct ExchangeNews {
    /// Subjects of the items in the inbox, after one was created.
    pub subjects: Vec<String>,
    /// Kinds of the events that were streamed.
    pub events: Vec<String>,
}

/// Creates an item with exchangelib, and then waits for this number of notifications on a stream.
pub fn exchangelib_news(
    address: SocketAddrV4,
    name: &str,
    ca: &Path,
    user: &User,
    notifications: u32,
) -> Result<ExchangeNews> {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let (ca, count) = (ca.display().to_string(), notifications.to_string());
    let arguments = [&host, &port, name, &ca, user.name, user.password, &count];
    python("ews_news.py", &arguments)
}

/// Connects from any port of `source`, an address of the client's namespace; the standard library can't choose it.
fn connect(source: Ipv4Addr, server: SocketAddrV4) -> Result<TcpStream> {
    connect_from(SocketAddrV4::new(source, 0), server)
}

fn connect_from(source: SocketAddrV4, server: SocketAddrV4) -> Result<TcpStream> {
    let stream = Namespace::client().run(|| -> Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&source.into())?;
        socket
            .connect_timeout(&server.into(), TIMEOUT)
            .with_context(|| format!("connecting from {source} to {server}"))?;
        Ok(socket.into())
    })??;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Long enough for any machine: it only turns a hang into a failure.
const TIMEOUT: Duration = Duration::from_secs(30);
