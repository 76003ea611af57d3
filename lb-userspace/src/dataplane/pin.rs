//! What outlives the daemon: the flow tables, the settings they were filled by, and the links to the interfaces, as
//! files of a BPF file system.
//!
//! ```text
//!  DIR/flows  flows6      taken over by the next daemon as they are
//!  DIR/settings           read by the next daemon: hash keys, sizes, clock; then replaced by its own
//!  DIR/programs           keeps the programs behind the first one reachable while nobody holds them open
//!  DIR/link_<ifindex>     keeps the program attached; the next daemon puts its own program in, atomically
//! ```
//!
//! A daemon that ends without a word (`kill -9`, a crash) leaves all of it: its program goes on forwarding with its maps,
//! which nobody changes any more. The next one loads a program and maps of its own, fills them, and only then replaces
//! the program in each link, so that no packet ever meets a half-made data plane or none. A daemon that is asked to stop
//! removes everything. Deliberately not here: services, servers and rings, which each daemon makes anew from its
//! configuration; a flow's entry holds all that its packets need.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::{Array, MapData};
use aya::programs::Xdp;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use lb_ebpf::abi::{ABI_VERSION, Settings};

/// Why a directory of pins can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PinError {
    /// The directory can't be made or read.
    #[error("{}: {source}; --pin needs a directory on a BPF file system (`mount -t bpf bpf /sys/fs/bpf`)", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another daemon holds it.
    #[error("{}: another lb uses this directory; stop that one, or give this one a directory of its own", .0.display())]
    Taken(PathBuf),
    /// A pin can't be read, made or replaced.
    #[error("{}: {what}", path.display())]
    Pin {
        /// The pin.
        path: PathBuf,
        /// What was refused.
        what: String,
    },
    /// What was left there can't be taken over.
    #[error(
        "{}: {why}; the flows left there can't be taken over: remove them with `lb detach --pin {}`, which ends \
         them, or go back to what they were made with", path.display(), path.display()
    )]
    Incompatible {
        /// The directory.
        path: PathBuf,
        /// What differs.
        why: String,
    },
}

/// A directory of pins, held by this daemon alone.
#[derive(Debug)]
pub(crate) struct Pins {
    directory: PathBuf,
    /// What an earlier daemon left.
    inherited: Option<Settings>,
    /// What this one's start has changed must not be undone any more.
    committed: bool,
    /// Locked as long as it is open.
    _lock: File,
}

impl Pins {
    /// Takes the directory, and looks at what an earlier daemon left there.
    pub(crate) fn open(directory: &Path) -> Result<Self, PinError> {
        let failed = |source| PinError::Directory {
            path: directory.to_owned(),
            source,
        };
        fs::create_dir_all(directory).map_err(failed)?;
        let lock = File::open(directory).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(PinError::Taken(directory.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut pins = Self {
            directory: directory.to_owned(),
            inherited: None,
            committed: false,
            _lock: lock,
        };
        pins.inherited = pins.read_settings()?;
        if pins.inherited.is_none() {
            // Of a start that was killed before it was ready, and forwards nothing.
            pins.remove_all()?;
        }
        for name in [SETTINGS, PROGRAMS] {
            remove(&pins.waiting(name))?;
        }
        Ok(pins)
    }

    /// The settings of the daemon before this one.
    pub(crate) fn inherited(&self) -> Option<&Settings> {
        self.inherited.as_ref()
    }

    /// Path of a map's pin.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Fails if tables of so many sets, for IPv4 and IPv6, are not those that are there.
    pub(crate) fn require_sizes(&self, [ipv4, ipv6]: [u32; 2]) -> Result<(), PinError> {
        let Some(settings) = &self.inherited else {
            return Ok(());
        };
        let tables = [
            ("IPv4", settings.flow_set_mask, ipv4),
            ("IPv6", settings.flow6_set_mask, ipv6),
        ];
        for (family, mask, sets) in tables {
            if mask.wrapping_add(1) != sets {
                let why = format!(
                    "its {family} flow table has {} sets, and flows.max now asks for {sets}",
                    mask.wrapping_add(1)
                );
                return Err(self.incompatible(why));
            }
        }
        Ok(())
    }

    /// Fails if the configuration wants other keys than the flows there were placed by.
    pub(crate) fn require_keys(&self, wanted: &[u64]) -> Result<(), PinError> {
        match &self.inherited {
            Some(settings) if settings.hash_key != *wanted => {
                Err(self.incompatible("it was filled by another flows.hash_key".to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn incompatible(&self, why: String) -> PinError {
        PinError::Incompatible {
            path: self.directory.clone(),
            why,
        }
    }

    fn read_settings(&self) -> Result<Option<Settings>, PinError> {
        let path = self.path(SETTINGS);
        if !path.exists() {
            return Ok(None);
        }
        let refused = |what: String| PinError::Pin {
            path: path.clone(),
            what,
        };
        let map = MapData::from_pin(&path).map_err(|error| refused(error.to_string()))?;
        let info = map.info().map_err(|error| refused(error.to_string()))?;
        if info.value_size() as usize != size_of::<Settings>() {
            return Err(self.incompatible(OTHER_VERSION.to_owned()));
        }
        let map = Array::<_, Settings>::try_from(aya::maps::Map::Array(map))
            .map_err(|error| refused(error.to_string()))?;
        let settings = map.get(&0, 0).map_err(|error| refused(error.to_string()))?;
        if settings.abi_version != ABI_VERSION {
            return Err(self.incompatible(OTHER_VERSION.to_owned()));
        }
        Ok(Some(settings))
    }

    /// Puts `program` into the link that an earlier daemon left for an interface; says whether there was one that still
    /// holds. A link whose interface is gone does not.
    pub(super) fn replace(&self, program: &mut Xdp, ifindex: u32) -> Result<bool, PinError> {
        let path = self.link(ifindex);
        if !path.exists() {
            return Ok(false);
        }
        let refused = |what: String| PinError::Pin {
            path: path.clone(),
            what,
        };
        let link = PinnedLink::from_pin(&path).map_err(|error| refused(error.to_string()))?;
        let link = XdpLink::try_from(FdLink::from(link));
        let link = link.map_err(|error| refused(error.to_string()))?;
        match program.attach_to_link(link) {
            Ok(_) => Ok(true),
            Err(error) => {
                tracing::warn!(%error, link = %path.display(), "the link no longer holds: attaching anew");
                remove(&path)?;
                Ok(false)
            }
        }
    }

    /// Keeps a link that this daemon has made.
    pub(super) fn keep(&self, link: XdpLink, ifindex: u32) -> Result<PinnedLink, PinError> {
        let path = self.link(ifindex);
        let refused = |what: String| PinError::Pin {
            path: path.clone(),
            what,
        };
        let link = FdLink::try_from(link).map_err(|error| refused(error.to_string()))?;
        link.pin(&path).map_err(|error| refused(error.to_string()))
    }

    /// Where a new map waits for its turn.
    pub(super) fn waiting(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}{WAITING}"))
    }

    /// Puts the new map in the place of an earlier daemon's.
    fn renew(&self, name: &str) -> Result<(), PinError> {
        let path = self.path(name);
        fs::rename(self.waiting(name), &path).map_err(|error| PinError::Pin {
            path,
            what: error.to_string(),
        })
    }

    /// Makes this daemon's data plane the one that stays.
    pub(super) fn commit(&mut self) -> Result<(), PinError> {
        self.renew(SETTINGS)?;
        self.renew(PROGRAMS)?;
        self.committed = true;
        Ok(())
    }

    /// Removes every pin, so that the data plane ends with whoever holds it.
    pub(crate) fn remove_all(&self) -> Result<(), PinError> {
        let failed = |source| PinError::Directory {
            path: self.directory.clone(),
            source,
        };
        // Links first: a program must not outlive its table.
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name());
        }
        names.sort_by_key(|name| !name.to_string_lossy().starts_with(LINK));
        for name in names {
            let known = name.to_string_lossy();
            let ours = known.starts_with(LINK) || MAPS.contains(&known.trim_end_matches(WAITING));
            if ours {
                remove(&self.directory.join(&name))?;
            }
        }
        Ok(())
    }

    fn link(&self, ifindex: u32) -> PathBuf {
        self.path(&format!("{LINK}{ifindex}"))
    }
}

impl Drop for Pins {
    /// A start that failed leaves what it found: nothing, or an earlier daemon's data plane.
    fn drop(&mut self) {
        if self.committed || self.inherited.is_some() {
            return;
        }
        if let Err(error) = self.remove_all() {
            tracing::warn!(%error, "pins are left behind");
        }
    }
}

/// Ends what an earlier daemon left in `directory`.
pub(crate) fn detach(directory: &Path) -> Result<(), PinError> {
    if !directory.exists() {
        return Ok(());
    }
    let lock = File::open(directory).map_err(|source| PinError::Directory {
        path: directory.to_owned(),
        source,
    })?;
    if lock.try_lock().is_err() {
        return Err(PinError::Taken(directory.to_owned()));
    }
    let pins = Pins {
        directory: directory.to_owned(),
        inherited: None,
        committed: true,
        _lock: lock,
    };
    pins.remove_all()?;
    // Another's files may be in it, and then it stays.
    let _ = fs::remove_dir(directory);
    Ok(())
}

fn remove(path: &Path) -> Result<(), PinError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PinError::Pin {
            path: path.to_owned(),
            what: error.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Names of the pins of maps.
pub(super) const FLOWS: &str = "flows";
pub(super) const FLOWS6: &str = "flows6";
pub(super) const SETTINGS: &str = "settings";
pub(super) const PROGRAMS: &str = "programs";
const MAPS: [&str; 4] = [FLOWS, FLOWS6, SETTINGS, PROGRAMS];
const LINK: &str = "link_";
const WAITING: &str = "_new";

const OTHER_VERSION: &str = "it was made by an lb whose tables are laid out differently";
