//! Connections of a worker's service that live on the host's stack: those that moved there, and those that begin there.
//!
//! Userspace notes the tuple of a connection when its kernel socket stands, and from then on its packets are the stack's,
//! whatever their headers look like: the stack takes fragments and options, which a worker's TCP doesn't. A SYN is no
//! exception, for it is the kernel that knows what became of the connection before it. But it is noted that a new connection may have
//! begun there: userspace, which takes a tuple off some seconds after the end of the one that moved, must leave it for that one.
//!
//! Nothing breaks if a tuple is missing, because the map has forgotten it or userspace is late: the worker has no such
//! connection and gives the packet back to the stack. So nothing is held back here, and nobody is asked twice.
//!
//! A service none of whose connections can move pays for one bit of an entry that is at hand.
//! Deliberately not here: who moves, when, and when a tuple is free again, which is userspace's.

use super::Tables;
use super::parse::Segment;
use crate::abi::{SERVICE_FLAG_BEGINS_ON_STACK, SERVICE_FLAG_MOVES, Service};
use crate::family::Family;
use crate::flow::Key;

/// Whether the stack has the connection whose client sends packets of this tuple.
#[inline(always)]
pub(super) fn is_on_stack<F: Family, T: Tables<F>>(
    tables: &T,
    service: Service,
    key: &Key<F>,
) -> bool {
    service.flags & SERVICE_FLAG_MOVES != 0
        && tables.is_stack_flow(&F::stack_flow_key(key.addresses, key.ports))
}

/// Whether a segment is for the stack; one that asks for a connection may be the first of it there.
#[inline(always)]
pub(super) fn goes_to_stack<F: Family, T: Tables<F>>(
    tables: &T,
    service: Service,
    segment: &Segment<F>,
) -> bool {
    if service.flags & SERVICE_FLAG_MOVES == 0 {
        return false;
    }
    let key = F::stack_flow_key(segment.key.addresses, segment.key.ports);
    if !segment.opens() {
        return tables.is_stack_flow(&key);
    }
    let begins = service.flags & SERVICE_FLAG_BEGINS_ON_STACK != 0;
    tables.reuse_stack_flow(&key) || (begins && tables.begin_stack_flow(&key))
}
