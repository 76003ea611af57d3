//! What can be told of a connection.

use super::{Connection, State};
use crate::Env;

/// What can be told of a connection, named like Linux' `tcp_info`.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// State.
    pub state: State,
}

impl Connection {
    /// What can be told of it now.
    pub fn info(&self, _env: &Env<'_>) -> Info {
        Info { state: self.state }
    }
}
