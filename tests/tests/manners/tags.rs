//! VLANs: clients and servers in different ones, with different numbers of tags.

use lb_tests::{
    forwarding::{self, Family, Forward},
    lab,
};

/// Connections and datagrams from a client behind one tag to servers behind two, and back. Where the kernel has no VLAN
/// devices there are no VLANs for `lb` either; `cargo xtask vm` has kernels that have.
#[test]
fn clients_and_servers_in_vlans_of_their_own() {
    if !lab::has_vlans() {
        eprintln!("this kernel has no VLAN devices (8021q): only `cargo xtask vm` shows this");
        return;
    }
    for family in Family::ALL {
        for forward in Forward::ALL {
            let done = forwarding::through_vlans(family, forward);
            done.unwrap_or_else(|error| panic!("{family:?} {forward:?}: {error:#}"));
        }
    }
}
