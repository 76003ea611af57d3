//! What outlives the daemon: the flow tables, the settings they were filled by, and the links to the interfaces, as
//! files of a BPF file system.
//!
//! ```text
//!  DIR/flows  flows6      taken over by the next daemon as they are
//!  DIR/stack_flows stack_flows6             likewise: a socket may be handed to the next daemon, and its packets must find it
//!  DIR/settings           read by the next daemon: hash keys, sizes, clock; then replaced by its own
//!  DIR/services services6 backends vlans    likewise: who had which number
//!  DIR/programs           keeps the programs behind the first one reachable while nobody holds them open
//!  DIR/link_<ifindex>     keeps the program attached; the next daemon puts its own program in, atomically
//! ```
//!
//! A daemon leaves all of it however it ends (SIGTERM of a restart, `kill -9`, a crash): its program goes on forwarding
//! with its maps, which nobody changes any more. The next one loads a program and maps of its own, fills them, and only
//! then replaces the program in each link, so that no packet ever meets a half-made data plane or none. `lb detach`
//! removes everything. Deliberately not here: rings and counters, which each daemon makes anew; a flow's entry holds all
//! that its packets need.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use aya::programs::Xdp;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use lb_ebpf::abi::{ABI_VERSION, Backend, Service, ServiceKey, ServiceKey6, Settings, Vlan};

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

/// What an earlier daemon has left, besides its flows.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// Its settings.
    pub(crate) settings: Settings,
    /// Its services: virtual address and port, IP protocol number, value.
    pub(crate) services: Vec<(SocketAddr, u8, Service)>,
    /// Its servers, by their numbers.
    pub(crate) backends: Vec<(u32, Backend)>,
    /// Its VLANs, by their elements.
    pub(crate) vlans: Vec<(u32, Vlan)>,
}

/// A directory of pins, held by this daemon alone.
#[derive(Debug)]
pub(crate) struct Pins {
    directory: PathBuf,
    /// What an earlier daemon left.
    inherited: Option<Inherited>,
    /// What this one's start has changed must not be undone any more.
    committed: bool,
    /// Locked as long as it is open, here or in the daemon that it was passed to.
    lock: File,
}

impl Pins {
    /// Takes the directory, and looks at what an earlier daemon left there. One that runs and hands over has given its `lock`.
    pub(crate) fn open(directory: &Path, lock: Option<File>) -> Result<Self, PinError> {
        let failed = |source| PinError::Directory {
            path: directory.to_owned(),
            source,
        };
        fs::create_dir_all(directory).map_err(failed)?;
        let lock = match lock {
            Some(lock) => lock,
            None => locked(directory)?,
        };
        let mut pins = Self {
            directory: directory.to_owned(),
            inherited: None,
            committed: false,
            lock,
        };
        pins.inherited = pins.read()?;
        if pins.inherited.is_none() {
            // Of a start that was killed before it was ready, and forwards nothing.
            pins.remove_all()?;
        }
        for (_, name) in RENEWED {
            remove(&pins.waiting(name))?;
        }
        Ok(pins)
    }

    /// The lock, for the next daemon.
    pub(crate) fn lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// Looks again at what the daemon before this one has left, which went on until now.
    pub(super) fn look_again(&mut self) -> Result<(), PinError> {
        self.inherited = self.read()?;
        Ok(())
    }

    /// What the daemon before this one left.
    pub(crate) fn inherited(&self) -> Option<&Inherited> {
        self.inherited.as_ref()
    }

    /// Path of a map's pin.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Fails if tables of so many sets, for IPv4 and IPv6, are not those that are there.
    pub(crate) fn require_sizes(&self, [ipv4, ipv6]: [u32; 2]) -> Result<(), PinError> {
        let Some(Inherited { settings, .. }) = &self.inherited else {
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
            Some(before) if before.settings.hash_key != *wanted => {
                Err(self.incompatible("it was filled by another flows.hash_key".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// That what is there can't be taken over.
    pub(crate) fn incompatible(&self, why: String) -> PinError {
        PinError::Incompatible {
            path: self.directory.clone(),
            why,
        }
    }

    /// Reads what an earlier daemon left; `None` if there is nothing.
    fn read(&self) -> Result<Option<Inherited>, PinError> {
        let path = self.path(SETTINGS);
        if !path.exists() {
            return Ok(None);
        }
        let map = MapData::from_pin(&path).map_err(|error| refused(&path, &error))?;
        let info = map.info().map_err(|error| refused(&path, &error))?;
        if info.value_size() as usize != size_of::<Settings>() {
            return Err(self.incompatible(OTHER_VERSION.to_owned()));
        }
        let map = Array::<_, Settings>::try_from(Map::Array(map));
        let settings = map.and_then(|map| map.get(&0, 0));
        let settings = settings.map_err(|error| refused(&path, &error))?;
        if settings.abi_version != ABI_VERSION {
            return Err(self.incompatible(OTHER_VERSION.to_owned()));
        }
        Ok(Some(Inherited {
            settings,
            services: self.read_services()?,
            backends: self.read_backends()?,
            vlans: self.read_vlans()?,
        }))
    }

    fn read_services(&self) -> Result<Vec<(SocketAddr, u8, Service)>, PinError> {
        let mut services = Vec::new();
        for (key, service) in self.read_hash::<ServiceKey, Service>(SERVICES)? {
            let listen = (key.address, u16::from_be_bytes(key.port)).into();
            services.push((listen, key.protocol, service));
        }
        for (key, service) in self.read_hash::<ServiceKey6, Service>(SERVICES6)? {
            let listen = (key.address, u16::from_be_bytes(key.port)).into();
            services.push((listen, key.protocol, service));
        }
        Ok(services)
    }

    fn read_hash<K: Pod, V: Pod>(&self, name: &str) -> Result<Vec<(K, V)>, PinError> {
        let path = self.path(name);
        let map = MapData::from_pin(&path).map_err(|error| refused(&path, &error))?;
        let map = HashMap::<_, K, V>::try_from(Map::HashMap(map));
        let pairs = map.and_then(|map| map.iter().collect::<Result<_, MapError>>());
        pairs.map_err(|error| refused(&path, &error))
    }

    fn read_array<V: Pod>(&self, name: &str) -> Result<Vec<(u32, V)>, PinError> {
        let path = self.path(name);
        let map = MapData::from_pin(&path).map_err(|error| refused(&path, &error))?;
        let map = Array::<_, V>::try_from(Map::Array(map));
        let elements = map.and_then(|map| map.iter().collect::<Result<Vec<_>, MapError>>());
        let elements = elements.map_err(|error| refused(&path, &error))?;
        Ok((0..).zip(elements).collect())
    }

    /// Those that have an address; the others are of nobody.
    fn read_backends(&self) -> Result<Vec<(u32, Backend)>, PinError> {
        let mut backends = self.read_array::<Backend>(BACKENDS)?;
        backends.retain(|(_, backend)| backend.address != [0; 16]);
        Ok(backends)
    }

    /// Those that were there.
    fn read_vlans(&self) -> Result<Vec<(u32, Vlan)>, PinError> {
        let mut vlans = self.read_array::<Vlan>(VLANS)?;
        vlans.retain(|(_, vlan)| vlan.count > 0);
        Ok(vlans)
    }

    /// Puts `program` into the link that an earlier daemon left for an interface; says whether there was one that still
    /// holds. A link whose interface is gone does not.
    pub(super) fn replace(&self, program: &mut Xdp, ifindex: u32) -> Result<bool, PinError> {
        let path = self.link(ifindex);
        if !path.exists() {
            return Ok(false);
        }
        let link = PinnedLink::from_pin(&path).map_err(|error| refused(&path, &error))?;
        let link = XdpLink::try_from(FdLink::from(link));
        let link = link.map_err(|error| refused(&path, &error))?;
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
        let link = FdLink::try_from(link).map_err(|error| refused(&path, &error))?;
        link.pin(&path).map_err(|error| refused(&path, &error))
    }

    /// Where a new map waits for its turn.
    pub(super) fn waiting(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}{WAITING}"))
    }

    /// Makes this daemon's maps those that the next one finds. The earlier program needs its `PROGRAMS`, which the kernel
    /// empties when nobody holds it, until the last link is [replaced](Self::replace): it stays until
    /// [`finish`](Self::finish).
    pub(super) fn commit(&mut self) -> Result<(), PinError> {
        let programs = self.path(PROGRAMS);
        if programs.exists() {
            rename(&programs, &self.path(OUTGOING))?;
        }
        for (_, name) in RENEWED {
            rename(&self.waiting(name), &self.path(name))?;
        }
        self.committed = true;
        Ok(())
    }

    /// When no link has the earlier program any more.
    pub(super) fn finish(&self) -> Result<(), PinError> {
        remove(&self.path(OUTGOING))
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
        lock,
    };
    pins.remove_all()?;
    // Another's files may be in it, and then it stays.
    let _ = fs::remove_dir(directory);
    Ok(())
}

/// The directory, open and locked.
fn locked(directory: &Path) -> Result<File, PinError> {
    let failed = |source| PinError::Directory {
        path: directory.to_owned(),
        source,
    };
    let lock = File::open(directory).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(PinError::Taken(directory.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
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

fn refused(path: &Path, what: &impl ToString) -> PinError {
    PinError::Pin {
        path: path.to_owned(),
        what: what.to_string(),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), PinError> {
    fs::rename(from, to).map_err(|error| refused(to, &error))
}

/// Names of the pins of maps.
pub(super) const FLOWS: &str = "flows";
pub(super) const FLOWS6: &str = "flows6";
pub(super) const STACK_FLOWS: &str = "stack_flows";
pub(super) const STACK_FLOWS6: &str = "stack_flows6";
const SETTINGS: &str = "settings";
const SERVICES: &str = "services";
const SERVICES6: &str = "services6";
const BACKENDS: &str = "backends";
const VLANS: &str = "vlans";
const PROGRAMS: &str = "programs";
/// The programs of an earlier daemon while some link may still have the first of them.
const OUTGOING: &str = "programs_old";
const MAPS: [&str; 11] = [
    FLOWS,
    FLOWS6,
    STACK_FLOWS,
    STACK_FLOWS6,
    PROGRAMS,
    SERVICES,
    SERVICES6,
    BACKENDS,
    VLANS,
    SETTINGS,
    OUTGOING,
];
/// Maps that each daemon makes anew, and their pins. Settings last: without them the others count for nothing.
pub(super) const RENEWED: [(&str, &str); 6] = [
    ("PROGRAMS", PROGRAMS),
    ("SERVICES", SERVICES),
    ("SERVICES6", SERVICES6),
    ("BACKENDS", BACKENDS),
    ("VLANS", VLANS),
    ("SETTINGS", SETTINGS),
];
const LINK: &str = "link_";
const WAITING: &str = "_new";

const OTHER_VERSION: &str = "it was made by an lb whose tables are laid out differently";
