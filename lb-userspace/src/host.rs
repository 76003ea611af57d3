//! What this host must provide before anything is changed: a kernel that is new enough, and the
//! addresses that the configuration names have to be its own.
//!
//! `lb` does not add addresses to interfaces: ARP, source address choice and failover tools
//! (keepalived, BGP speakers) all hang on them, and so they stay with whoever configures the host.

use std::net::{IpAddr, SocketAddr};
use std::{fs, io};

/// The oldest kernel that `lb` runs on, and the oldest that `cargo xtask vm` proves it on.
///
/// The program itself needs 5.12 (atomic compare-and-exchange in BPF); nothing before 6.1, the
/// kernel of Debian 12, has ever been tried.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// Where the kernel says its release: the text of `uname -r`.
const RELEASE: &str = "/proc/sys/kernel/osrelease";

/// This host's kernel is too old, or its release cannot be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnfitKernel {
    /// Older than [`OLDEST_KERNEL`].
    #[error(
        "this host runs Linux {release}, but lb needs {}.{} or newer: boot a newer kernel \
         (Debian 12 and later have one)",
        OLDEST_KERNEL.0,
        OLDEST_KERNEL.1
    )]
    TooOld { release: String },
    /// The release doesn't begin with two numbers.
    #[error("{RELEASE} says {release:?}, expected a kernel release such as \"6.1.0\"")]
    Unreadable { release: String },
    /// Linux always has the file where `/proc` is mounted.
    #[error("reading {RELEASE}: {0}; is /proc mounted?")]
    NoRelease(#[from] io::Error),
}

/// Checks that this host's kernel is not older than the oldest supported one.
pub(crate) fn require_kernel() -> Result<(), UnfitKernel> {
    check_release(fs::read_to_string(RELEASE)?.trim_end())
}

fn check_release(release: &str) -> Result<(), UnfitKernel> {
    let own = || release.to_owned();
    match parse_release(release) {
        Some(version) if version >= OLDEST_KERNEL => Ok(()),
        Some(_) => Err(UnfitKernel::TooOld { release: own() }),
        None => Err(UnfitKernel::Unreadable { release: own() }),
    }
}

/// Major and minor version: `6.1.0-28-amd64` is (6, 1). What follows belongs to the distributor.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit());
    let minor = &rest[..digits.unwrap_or(rest.len())];
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// An address of the configuration isn't an address of this host.
#[derive(Debug, thiserror::Error)]
#[error(
    "{owner}: {address} is not an address of this host, so nobody would answer for it; \
     add it first, for example `ip address add {address}/{} dev {interface}`",
    if address.is_ipv4() { 32 } else { 128 }
)]
pub(crate) struct NotLocal {
    owner: String,
    address: IpAddr,
    interface: String,
}

/// Checks that `address` is local. `owner` says who wants it, `interface` where it might belong.
pub(crate) fn require_local(owner: &str, address: IpAddr, interface: &str) -> Result<(), NotLocal> {
    // The kernel's own test: binding succeeds exactly for local addresses, whichever interface or
    // route table makes them so. Port 0 takes nothing that a listener could want.
    let bound = std::net::UdpSocket::bind(SocketAddr::new(address, 0));
    match bound {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Err(NotLocal {
            owner: owner.to_owned(),
            address,
            interface: interface.to_owned(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn kernel_releases_are_read_as_numbers() {
        let check = |release, expected| assert_eq!(parse_release(release), expected, "{release}");
        check("6.1.0-56-cloud-amd64", Some((6, 1)));
        check("6.12.117+deb12-cloud-amd64", Some((6, 12)));
        check("6.1", Some((6, 1)));
        check("7.0-rc1", Some((7, 0)));
        check("6", None);
        check("six.one", None);
        check("6.", None);
        check("", None);
    }

    #[test]
    fn a_kernel_older_than_supported_is_refused_in_one_sentence() {
        // 6.12 is newer than 6.1 and 10.0 newer than 6.1, although not as text.
        for release in ["6.1.0", "6.12.1", "10.0.0"] {
            assert!(check_release(release).is_ok(), "{release}");
        }
        for release in ["6.0.19", "5.15.0-generic", "4.19.0"] {
            let error = check_release(release).unwrap_err().to_string();
            let expected = format!("this host runs Linux {release}, but lb needs 6.1 or newer");
            assert!(error.starts_with(&expected), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        assert!(matches!(
            check_release("unknown"),
            Err(UnfitKernel::Unreadable { .. })
        ));
        assert!(require_kernel().is_ok());
    }

    #[test]
    fn loopback_is_local_and_a_documentation_address_is_not() {
        assert!(require_local("service a", Ipv4Addr::LOCALHOST.into(), "lo").is_ok());
        let error =
            require_local("service a", Ipv4Addr::new(192, 0, 2, 1).into(), "eth0").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("ip address add 192.0.2.1/32 dev eth0"),
            "{error}"
        );
    }
}
