//! Which packets go to the kernel's stack although an engine listens where they are sent to.
//!
//! Deliberately not here: the maps in which that stands, and the program that looks into them.

use std::io;

use lb_tcp::FlowKey;

/// Sends the packets of single connections to the kernel's stack, or no longer.
///
/// Only a matter of speed: a packet that comes to an engine which doesn't know its connection is given back to the stack. So an entry
/// may be late, get lost or be removed early.
pub trait Steering {
    /// From now on packets of this connection, SYNs between its ends too, go to the stack. Once more is no error.
    ///
    /// # Errors
    /// Of the map.
    fn to_stack(&self, flow: &FlowKey) -> io::Result<()>;

    /// Packets between these ends go to the engine again. Of what isn't there nothing is said.
    fn forget(&self, flow: &FlowKey);
}
