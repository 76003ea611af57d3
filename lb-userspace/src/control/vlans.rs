//! Which element of map `VLANS` stands for which VLAN.
//!
//! Flows hold that index, and may live longer than the daemon: so a VLAN keeps its element as long as the kernel has the
//! device, also across a restart, and an element that becomes free is the last to be used again. Pure.

use std::collections::HashMap;

use lb_ebpf::abi::{LINK_VLAN, MAX_VLANS, Vlan, VlanKey};

use crate::dataplane::VlanDevice;

/// All elements.
#[derive(Debug, Default)]
pub(super) struct Vlans {
    places: Vec<Vlan>,
    /// Element of each device.
    devices: HashMap<u32, u32>,
}

/// One change of the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The VLAN is there.
    Set(u32, Vlan),
    /// It is gone, and was known by this key.
    Clear(u32, VlanKey),
}

impl Vlans {
    /// As an earlier daemon has left them.
    pub(super) fn inherited(before: impl Iterator<Item = (u32, Vlan)>) -> Self {
        let mut vlans = Self::default();
        for (index, vlan) in before {
            let index = index as usize;
            if index >= vlans.places.len() {
                vlans.places.resize(index + 1, Vlan::default());
            }
            if let Some(place) = vlans.places.get_mut(index) {
                *place = vlan;
            }
        }
        vlans
    }

    /// All that are there, as changes.
    pub(super) fn all(&self) -> impl Iterator<Item = Change> {
        let places = (0..).zip(&self.places);
        let used = places.filter(|(_, vlan)| vlan.count > 0);
        used.map(|(index, vlan)| Change::Set(index, *vlan))
    }

    /// Takes what the kernel has now; what must be written, and the devices there was no element for.
    pub(super) fn update(&mut self, found: &[VlanDevice]) -> (Vec<Change>, usize) {
        let mut changes = Vec::new();
        for (index, place) in (0..).zip(&mut self.places) {
            if place.count > 0 && !found.iter().any(|device| device.vlan == *place) {
                changes.push(Change::Clear(index, place.key()));
                *place = Vlan::default();
            }
        }
        self.devices.clear();
        let mut left_out = 0;
        for device in found {
            match self.place(device.vlan, &mut changes) {
                Some(index) => {
                    self.devices.insert(device.ifindex, index);
                }
                None => left_out += 1,
            }
        }
        (changes, left_out)
    }

    fn place(&mut self, vlan: Vlan, changes: &mut Vec<Change>) -> Option<u32> {
        if let Some(known) = self.places.iter().position(|place| *place == vlan) {
            return u32::try_from(known).ok();
        }
        let index = if self.places.len() < MAX_VLANS as usize {
            self.places.push(vlan);
            self.places.len() - 1
        } else {
            let free = self.places.iter().position(|place| place.count == 0)?;
            *self.places.get_mut(free)? = vlan;
            free
        };
        let index = u32::try_from(index).ok()?;
        changes.push(Change::Set(index, vlan));
        Some(index)
    }

    /// What the program must be told instead of a device's kernel index.
    pub(super) fn link(&self, ifindex: u32) -> u32 {
        self.devices
            .get(&ifindex)
            .map_or(ifindex, |index| LINK_VLAN | index)
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Vlans};
    use crate::dataplane::VlanDevice;
    use lb_ebpf::abi::{LINK_VLAN, MAX_VLANS, Vlan};

    fn device(ifindex: u32, id: u8) -> VlanDevice {
        VlanDevice {
            ifindex,
            vlan: Vlan {
                ifindex: 2,
                count: 1,
                tags: u64::from_le_bytes([0x81, 0, 0, id, 0, 0, 0, 0]),
            },
        }
    }

    #[test]
    fn a_vlan_keeps_its_element_and_a_new_one_gets_another() {
        let mut vlans = Vlans::default();
        let (ten, twenty, thirty) = (device(10, 1), device(20, 2), device(30, 3));
        assert_eq!(
            vlans.update(&[ten, twenty]),
            (
                vec![Change::Set(0, ten.vlan), Change::Set(1, twenty.vlan)],
                0
            )
        );
        assert_eq!(vlans.update(&[twenty, ten]), (vec![], 0));
        assert_eq!(
            vlans.update(&[twenty, thirty]),
            (
                vec![
                    Change::Clear(0, ten.vlan.key()),
                    Change::Set(2, thirty.vlan)
                ],
                0
            )
        );
        assert_eq!(vlans.link(30), LINK_VLAN | 2);
        assert_eq!(vlans.link(20), LINK_VLAN | 1);
        assert_eq!(vlans.link(10), 10, "no VLAN any more");
    }

    #[test]
    fn what_was_inherited_stays_where_it_was() {
        let (ten, twenty) = (device(10, 1), device(20, 2));
        let mut vlans = Vlans::inherited([(3, ten.vlan)].into_iter());
        assert_eq!(vlans.all().collect::<Vec<_>>(), [Change::Set(3, ten.vlan)]);
        assert_eq!(
            vlans.update(&[ten, twenty]),
            (vec![Change::Set(4, twenty.vlan)], 0)
        );
        assert_eq!(vlans.link(10), LINK_VLAN | 3);
    }

    #[test]
    fn a_full_map_leaves_the_rest_out() {
        let mut vlans = Vlans::default();
        let many: Vec<_> = (0..=MAX_VLANS)
            .map(|number| VlanDevice {
                ifindex: 100 + number,
                vlan: Vlan {
                    ifindex: 2,
                    count: 1,
                    tags: u64::from(number),
                },
            })
            .collect();
        let (changes, left_out) = vlans.update(&many);
        assert_eq!((changes.len(), left_out), (MAX_VLANS as usize, 1));
        let last = 100 + MAX_VLANS;
        assert_eq!(vlans.link(last), last);
    }
}
