//! Questions about an interface that must be answered before a socket can be bound.
//!
//! Called by the control plane; nothing here keeps state.

use std::ffi::CString;

use crate::error::Error;
use crate::sys;

/// Index of the interface in the caller's network namespace.
pub fn interface_index(name: &str) -> Result<u32, Error> {
    let c_name = checked_name(name)?;
    sys::name_to_index(&c_name).map_err(|source| Error::InterfaceMissing {
        name: name.to_owned(),
        source,
    })
}

/// Rx queues of the interface: dedicated and combined ones. 1 if the driver has no channels to
/// configure (`EOPNOTSUPP`), which is what drivers with a single queue say.
pub fn queue_count(name: &str) -> Result<u32, Error> {
    interface_index(name)?;
    match sys::channels(&checked_name(name)?) {
        Ok(channels) => Ok((channels.rx + channels.combined).max(1)),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(1),
        Err(source) => Err(Error::Option {
            option: "ETHTOOL_GCHANNELS",
            source,
        }),
    }
}

/// Whether the interface takes VLAN tags off before an XDP program sees a frame, and keeps them where it can't look
/// (`ETH_FLAG_RXVLAN`).
pub fn strips_tags(name: &str) -> Result<bool, Error> {
    const ETH_FLAG_RXVLAN: u32 = 1 << 8;
    interface_index(name)?;
    match sys::flags(&checked_name(name)?) {
        Ok(flags) => Ok(flags & ETH_FLAG_RXVLAN != 0),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
        Err(source) => Err(Error::Option {
            option: "ETHTOOL_GFLAGS",
            source,
        }),
    }
}

fn checked_name(name: &str) -> Result<CString, Error> {
    let invalid = || Error::InterfaceName(name.to_owned());
    if name.is_empty() || name.len() >= libc::IF_NAMESIZE {
        return Err(invalid());
    }
    CString::new(name).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_an_index_and_one_queue() {
        assert!(interface_index("lo").unwrap() > 0);
        assert_eq!(queue_count("lo").unwrap(), 1);
        assert!(!strips_tags("lo").unwrap());
    }

    #[test]
    fn bad_names_are_told_apart_from_missing_interfaces() {
        for name in ["", "a-name-of-16-byt", "nul\0"] {
            assert!(
                matches!(interface_index(name), Err(Error::InterfaceName(_))),
                "{name:?}"
            );
        }
        assert!(matches!(
            queue_count("lb-missing"),
            Err(Error::InterfaceMissing { .. })
        ));
    }
}
