//! The way out to another engine, and in again.

use super::Connection;
use crate::Env;

/// Everything of a connection that another engine, or a kernel socket, needs to go on with it.
#[derive(Clone, Debug)]
pub struct Snapshot {}

impl Connection {
    /// Takes the connection out, whole. `None` if it is not ESTABLISHED, and nothing is changed then.
    pub fn export(&mut self, _env: &mut Env<'_>) -> Option<Snapshot> {
        unimplemented!()
    }
    /// Goes on with a connection.
    pub fn import(_snapshot: Snapshot, _env: &mut Env<'_>) -> Self {
        unimplemented!()
    }
}
