//! Who may open a flow of a service, or a connection to it: the lists of networks that userspace wrote.
//!
//! Asked where a packet may be the first of something, and only of services that have a list: established flows
//! never get here, and a service without lists pays for one bit. The longest prefix that holds the client's address decides,
//! first in the list for all services, then in the service's own; either can keep a client out.

use super::parse::Segment;
use super::{Shared, Tables, counters_of};
use crate::abi::{
    ACCESS_DENY, ACCESS_GLOBAL, AccessKey, SERVICE_FLAG_LISTED, SERVICE_FLAG_LISTED_GLOBALLY,
    Service,
};
use crate::family::Family;
use crate::verdict::Reason::Denied;
use crate::verdict::Verdict::{self, Drop};

/// Lets the first packet of something in; the error is the verdict about a client that is kept out.
#[inline(always)]
pub(super) fn admit<F: Family, T: Tables<F>>(
    tables: &T,
    service: Service,
    segment: &Segment<F>,
) -> Result<(), Verdict> {
    if is_denied::<F, T>(tables, service, segment.key.addresses) {
        tables.count(counters_of(service), segment.counters());
        return Err(Drop(Denied));
    }
    Ok(())
}

/// Whether the source of these addresses is kept out.
#[inline(always)]
fn is_denied<F: Family, T: Shared>(tables: &T, service: Service, addresses: F::Addresses) -> bool {
    if service.flags & (SERVICE_FLAG_LISTED | SERVICE_FLAG_LISTED_GLOBALLY) == 0 {
        return false;
    }
    let address = F::wide_source(addresses);
    let denies = |scope: u32| tables.access(&AccessKey { scope, address }) == Some(ACCESS_DENY);
    (service.flags & SERVICE_FLAG_LISTED_GLOBALLY != 0 && denies(ACCESS_GLOBAL))
        || (service.flags & SERVICE_FLAG_LISTED != 0 && denies(u32::from(service.id)))
}
