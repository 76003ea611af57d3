//! The listeners of a pool server, and the life of a connection from accept to close.
//!
//! Invariant: everything runs on one thread, so state is shared without locks. Called by the binary `lb-pool`.

use std::{
    cell::Cell,
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
};
use tokio_rustls::TlsAcceptor;

use super::{
    acceptor::Acceptor,
    admin::{self, Connections, Switches},
    content::{ews, owa, rpc},
    http::{Channel, Connection, Shared},
    http1::Wire,
    journal::{Event, Journal},
    smtp,
};

/// What a pool server listens on and how it calls itself.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Name of the server: X-FEServer, health page, SMTP banner.
    #[arg(long, default_value = "EX1")]
    name: String,
    /// Address for plain HTTP.
    #[arg(long)]
    http: Option<SocketAddr>,
    /// Address for HTTPS.
    #[arg(long, requires_all = ["certificate", "key"])]
    https: Option<SocketAddr>,
    /// Certificate chain, PEM.
    #[arg(long)]
    certificate: Option<PathBuf>,
    /// Private key, PEM.
    #[arg(long)]
    key: Option<PathBuf>,
    /// Address for SMTP.
    #[arg(long)]
    smtp: Option<SocketAddr>,
    /// Address for the failure switches.
    #[arg(long)]
    admin: Option<SocketAddr>,
    /// File that every connection and request is appended to.
    #[arg(long)]
    journal: Option<PathBuf>,
    /// Check which TLS channel a login came by, in the directories where Microsoft recommends it.
    #[arg(long, requires = "certificate")]
    extended_protection: bool,
    /// A Python with pyspnego, which checks NTLM.
    #[arg(long)]
    python: PathBuf,
}

/// Listens and serves until the process is ended; calls `ready` once every address is open.
pub async fn serve(options: Options, ready: impl FnOnce() -> Result<()>) -> Result<()> {
    raise_descriptor_limit()?;
    let switches = Rc::new(Switches::default());
    let shared = Rc::new(Shared {
        name: options.name,
        journal: Journal::open(options.journal.as_deref())?,
        acceptor: Acceptor::start(&options.python, options.certificate.as_deref())?,
        switches: Rc::clone(&switches),
        cookies: owa::Cookies::new(options.key.as_deref())?,
        channels: rpc::Channels::default(),
        mailboxes: ews::Mailboxes::default(),
        extended_protection: options.extended_protection,
    });
    let connections = Rc::new(Cell::new(0));
    let local = LocalSet::new();

    if let Some(address) = options.http {
        let listener = listen(address).await?;
        local.spawn_local(accept(listener, Rc::clone(&switches), {
            let (shared, connections) = (Rc::clone(&shared), Rc::clone(&connections));
            move |stream, peer| {
                let connection =
                    Connection::new(Rc::clone(&shared), next(&connections), Channel::Plain);
                let shared = Rc::clone(&shared);
                async move { http(Wire::new(Box::new(stream)), peer, &shared, connection).await }
            }
        }));
    }
    if let Some(address) = options.https {
        let (certificate, key) = options
            .certificate
            .zip(options.key)
            .context("no certificate")?;
        let tls = TlsAcceptor::from(Arc::new(server_config(&certificate, &key)?));
        let listener = listen(address).await?;
        local.spawn_local(accept(listener, Rc::clone(&switches), {
            let shared = Rc::clone(&shared);
            move |stream, peer| {
                let connection =
                    Connection::new(Rc::clone(&shared), next(&connections), Channel::Tls);
                let (tls, shared) = (tls.clone(), Rc::clone(&shared));
                async move {
                    let stream = tls.accept(stream).await?;
                    http(Wire::new(Box::new(stream)), peer, &shared, connection).await
                }
            }
        }));
    }
    if let Some(address) = options.smtp {
        let listener = listen(address).await?;
        local.spawn_local(accept(
            listener,
            Rc::clone(&switches),
            move |stream, peer| {
                let shared = Rc::clone(&shared);
                async move { Ok(smtp::serve(stream, peer, &shared.name).await?) }
            },
        ));
    }
    if let Some(address) = options.admin {
        let listener = listen(address).await?;
        // Its own switches, never turned: the switchboard must answer while the server is switched off.
        local.spawn_local(accept(listener, Rc::default(), move |stream, _| {
            let switches = Rc::clone(&switches);
            async move { Ok(admin::serve(&switches, Wire::new(Box::new(stream))).await?) }
        }));
    }
    ready()?;
    local.await;
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listening on {address}"))
}

fn next(counter: &Cell<u64>) -> u64 {
    counter.set(counter.get() + 1);
    counter.get()
}

/// Accepts for ever; each connection runs as a task of its own.
async fn accept<F>(
    listener: TcpListener,
    switches: Rc<Switches>,
    mut serve: impl FnMut(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = Result<()>> + 'static,
{
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: others must close first, so don't spin.
                eprintln!("lb-pool: accepting: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if switches.connections() == Connections::Reset {
            // Closing with a linger time of zero makes the kernel send RST.
            drop(SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
            continue;
        }
        drop(stream.set_nodelay(true));
        let connection = serve(stream, peer);
        // A connection that breaks is the client's business; the journal has its end.
        spawn_local(async move { drop(connection.await) });
    }
}

async fn http(
    mut wire: Wire,
    peer: SocketAddr,
    shared: &Shared,
    connection: Connection,
) -> Result<()> {
    let id = connection.id();
    shared.journal.record(id, || Event::Open { peer })?;
    let served = connection.serve(&mut wire).await;
    connection.close().await?;
    shared.journal.record(id, || Event::Close)?;
    served
}

fn server_config(certificate: &Path, key: &Path) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .with_context(|| format!("reading {}", certificate.display()))?;
    let key =
        PrivateKeyDer::from_pem_file(key).with_context(|| format!("reading {}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // HTTP/1.1 alone: Windows authentication doesn't exist on HTTP/2.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A benchmark opens more connections than the usual soft limit of 1024.
fn raise_descriptor_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of open files")
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
