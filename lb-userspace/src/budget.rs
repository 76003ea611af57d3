//! How many connections each worker may keep on the kernel's TCP: each of them is an open file.
//!
//! The files of a process are shared by what moves, what begins on the kernel, and connections to servers; so half of them is
//! for the first. Not here: keeping to it, which the engine does (`MoveLimits`).

use std::num::NonZeroU32;

use anyhow::Context as _;
use lb_config::{AfXdp, MAX_MOVED_CONNECTIONS};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How many files the daemon may have open, once it has asked for all that it can get.
pub(crate) fn open_files() -> anyhow::Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("reading RLIMIT_NOFILE")?;
    Ok(most)
}

/// Asks for all of them: the usual 1,024 are there for programs that use `select`, which can't count any further.
pub(crate) fn raise_open_files() -> anyhow::Result<u64> {
    let most = open_files()?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raising RLIMIT_NOFILE")?;
    Ok(most)
}

/// Moved connections of each of so many workers, of which a process with so many files can have.
pub(crate) fn moved_connections(asked: Option<NonZeroU32>, files: u64, workers: u32) -> u32 {
    if let Some(asked) = asked {
        return asked.get();
    }
    let each = |all: u64| all / u64::from(workers.max(1));
    // All workers have one table of tuples, and what has no room in it goes the long way.
    let most = each(files / 2).min(each(MAX_MOVED_CONNECTIONS.into()));
    u32::try_from(most).unwrap_or(MAX_MOVED_CONNECTIONS).max(1)
}

/// What is to be said of a limit that is too low for what the configuration asks.
pub(crate) fn warning(af_xdp: &AfXdp, files: u64, workers: u32) -> Option<String> {
    let ask = "raise it (LimitNOFILE= of systemd, ulimit -n)";
    if let Some(asked) = af_xdp.moved_connections {
        let all = u64::from(asked.get()) * u64::from(workers.max(1));
        return (files / 2 < all).then(|| {
            format!(
                " af_xdp.moved_connections: {asked} for each of {workers} workers are more than half of the {files} files that \
                 this process may have open, and the rest is needed for connections to servers; {ask}, or lower this"
            )
        });
    }
    let each = moved_connections(None, files, workers);
    (each < af_xdp.moves_per_second.get()).then(|| {
        format!(
            " af_xdp: this process may have {files} files open, and so each of {workers} workers keeps no more than {each} \
             big connections on the kernel's TCP, where they are faster; {ask}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_files_are_shared_by_the_workers() {
        let check = |asked, files, workers, expected| {
            let asked = NonZeroU32::new(asked);
            let found = moved_connections(asked, files, workers);
            assert_eq!(found, expected, "{files} files, {workers} workers");
        };
        check(0, 20_000, 1, 10_000);
        check(0, 20_000, 4, 2_500);
        check(0, 1 << 20, 1, 65_536);
        check(0, 1 << 20, 4, 16_384);
        check(0, u64::MAX, 1, 65_536);
        check(0, 1, 64, 1);
        check(5, 20_000, 4, 5);
    }

    #[test]
    fn a_limit_that_is_too_low_is_told() {
        let check = |moved, files, workers, expected| {
            let af_xdp = AfXdp {
                moved_connections: NonZeroU32::new(moved),
                ..AfXdp::default()
            };
            let warning = warning(&af_xdp, files, workers);
            assert_eq!(warning.is_some(), expected, "{warning:?}");
        };
        check(0, 1024, 1, true);
        check(0, 2000, 1, false);
        check(0, 2000, 2, true);
        check(500, 1000, 1, false);
        check(501, 1000, 1, true);
        check(500, 1999, 2, true);
    }
}
