//! A TLS connection in the client's namespace that holds still: for measuring what an idle one costs.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddrV4, TcpStream},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};

use super::connect;
use crate::{
    address::CLIENT,
    certs::{self, Files},
};

/// Settings of a client that trusts the lab's certificates.
pub fn tls(files: &Files) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.ca).context("reading the lab's CA")?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// An open connection.
#[derive(Debug)]
pub struct TlsConnection {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl TlsConnection {
    /// Connects from the client's usual address; the handshake is made with the first request.
    pub fn open(server: SocketAddrV4, config: &Arc<ClientConfig>) -> Result<Self> {
        let name = ServerName::try_from(certs::NAME).context("the lab's name")?;
        let connection = ClientConnection::new(Arc::clone(config), name)?;
        let stream = StreamOwned::new(connection, connect(CLIENT, server)?);
        Ok(Self {
            stream: BufReader::with_capacity(4096, stream),
        })
    }

    /// Sends a GET and reads all of its answer, which must have a `Content-Length`; the status.
    pub fn get(&mut self, path: &str) -> Result<u16> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", certs::NAME);
        self.stream
            .get_mut()
            .write_all(request.as_bytes())
            .context("sending")?;
        let mut start = String::new();
        self.stream
            .read_line(&mut start)
            .context("reading a status line")?;
        let status = start.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).context("reading a head")?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().context("Content-Length")?;
            }
        }
        self.stream
            .read_exact(&mut vec![0; length])
            .context("reading a body")?;
        status.with_context(|| format!("no status in {start:?}"))
    }
}
