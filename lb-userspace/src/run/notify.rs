//! Tells the service manager what the daemon does (`sd_notify(3)`), if it wants to know.
//!
//! Never `STOPPING=1`: systemd would then end a daemon that leaves after `TimeoutStopSec`, with the clients that it still has.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells it, and says in the log what went wrong with that.
pub(super) fn service_manager(state: &str) {
    if let Err(error) = tell(state) {
        tracing::warn!(%error, "the service manager can't be told: {state}");
    }
}

fn tell(state: &str) -> io::Result<()> {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}
