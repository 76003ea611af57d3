//! Which connections of workers' services live on the host's stack: maps `STACK_FLOWS` and `STACK_FLOWS6`.
//!
//! Workers write a tuple when its kernel socket stands, and take it away when that has ended; the program adds those that begin
//! on the stack. So this is a handle of its own, which goes with each worker, and not a part of the data plane, which is the
//! control thread's.
//!
//! The maps forget what was least recently seen when they are full. That costs a packet its way by a worker, and never a
//! connection: what is known here is a hint. Deliberately not here: who moves, and when.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::maps::{HashMap, IterableMap as _, Map, MapData, MapError};
use aya::sys::SyscallError;
use aya::{Ebpf, Pod};
use lb_ebpf::abi::{
    MAX_STACK_FLOWS, STACK_FLOW_BEGUN, STACK_FLOW_MOVED, StackFlowKey, StackFlowKey6,
};
use lb_tcp::FlowKey;
use lb_transport::Steering;

use super::maps::{MapAccessError, take};

/// A handle of both maps, as good as any other one of them.
#[derive(Clone, Debug)]
pub(crate) struct StackFlows {
    v4: Tuples<StackFlowKey>,
    v6: Tuples<StackFlowKey6>,
    /// Somebody was to forget a tuple that is the next connection's already.
    kept: Arc<AtomicBool>,
}

/// A connection that is known to live on the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StackFlow {
    /// Its ends.
    pub(crate) key: FlowKey,
    /// Whether it began there, and has not moved.
    pub(crate) began_there: bool,
}

impl StackFlows {
    /// Takes the maps out of the loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, MapAccessError> {
        Ok(Self {
            v4: Tuples::of(take(ebpf, "STACK_FLOWS")?),
            v6: Tuples::of(take(ebpf, "STACK_FLOWS6")?),
            kept: Arc::default(),
        })
    }

    /// Those that are known now. While others come and go, some may be missing, and some be there twice.
    ///
    /// # Errors
    /// What the kernel said.
    pub(crate) fn all(&self) -> io::Result<Vec<StackFlow>> {
        let mut all = self.v4.all(|key| FlowKey {
            local: end(key.local, key.local_port),
            remote: end(key.remote, key.remote_port),
        })?;
        all.extend(self.v6.all(|key| FlowKey {
            local: end(key.local, key.local_port),
            remote: end(key.remote, key.remote_port),
        })?);
        Ok(all)
    }

    /// Takes a tuple off on which a connection has begun that is over. An error costs the next one on it speed.
    pub(crate) fn release(&self, flow: &FlowKey) {
        let released = Tuple::of(flow).and_then(|tuple| match tuple {
            Tuple::V4(key) => self.v4.remove(&key),
            Tuple::V6(key) => self.v6.remove(&key),
        });
        if let Err(error) = released {
            tracing::debug!(%error, ?flow, "a connection is not forgotten");
        }
    }

    /// Whether, since the last call, a tuple was not forgotten because another connection has begun on it. Nobody is told of the end of
    /// that one: it is to be looked for.
    pub(crate) fn has_kept(&self) -> bool {
        self.kept.swap(false, Ordering::Relaxed)
    }

    /// How many are known now, about.
    ///
    /// # Errors
    /// What the kernel said.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for `lb flows`, which does not ask yet")
    )]
    pub(crate) fn count(&self) -> io::Result<usize> {
        Ok(self.v4.count()? + self.v6.count()?)
    }

    /// Whether the program would find this key.
    pub(super) fn holds(&self, key: &StackFlowKey) -> bool {
        self.v4.holds(key)
    }

    /// As [`holds`](Self::holds).
    pub(super) fn holds6(&self, key: &StackFlowKey6) -> bool {
        self.v6.holds(key)
    }
}

impl Steering for StackFlows {
    fn to_stack(&self, flow: &FlowKey) -> io::Result<()> {
        match Tuple::of(flow)? {
            Tuple::V4(key) => self.v4.insert(&key),
            Tuple::V6(key) => self.v6.insert(&key),
        }
    }

    /// A connection that has begun on the stack after this one keeps the tuple.
    fn forget(&self, flow: &FlowKey) {
        let forgotten = Tuple::of(flow).and_then(|tuple| match tuple {
            Tuple::V4(key) => self.v4.remove_moved(&key),
            Tuple::V6(key) => self.v6.remove_moved(&key),
        });
        match forgotten {
            Ok(true) => {}
            Ok(false) => self.kept.store(true, Ordering::Relaxed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Of no consequence: the next SYN of the tuple meets the listener that the stack has for it.
            Err(error) => tracing::debug!(%error, ?flow, "a connection is not forgotten"),
        }
    }
}

/// A connection as the program knows it: its ends as they stand in the client's packets.
enum Tuple {
    V4(StackFlowKey),
    V6(StackFlowKey6),
}

impl Tuple {
    /// A socket of both families names clients of IPv4 by mapped addresses, and packets don't.
    fn of(flow: &FlowKey) -> io::Result<Self> {
        let (remote_port, local_port) = (flow.remote.port(), flow.local.port());
        let (remote_port, local_port) = (remote_port.to_be_bytes(), local_port.to_be_bytes());
        let addresses = (
            flow.remote.ip().to_canonical(),
            flow.local.ip().to_canonical(),
        );
        match addresses {
            (IpAddr::V4(remote), IpAddr::V4(local)) => Ok(Self::V4(StackFlowKey {
                remote: remote.octets(),
                local: local.octets(),
                remote_port,
                local_port,
            })),
            (IpAddr::V6(remote), IpAddr::V6(local)) => Ok(Self::V6(StackFlowKey6 {
                remote: remote.octets(),
                local: local.octets(),
                remote_port,
                local_port,
            })),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

fn end(address: impl Into<IpAddr>, port: [u8; 2]) -> SocketAddr {
    (address, u16::from_be_bytes(port)).into()
}

/// One of the maps. The lock is held for one system call, twice in the life of a connection.
#[derive(Debug)]
struct Tuples<K>(Arc<Mutex<HashMap<MapData, K, u32>>>);

impl<K> Clone for Tuples<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Pod> Tuples<K> {
    fn of(map: HashMap<MapData, K, u32>) -> Self {
        Self(Arc::new(Mutex::new(map)))
    }

    fn map(&self) -> MutexGuard<'_, HashMap<MapData, K, u32>> {
        // Nothing of ours is half done where a thread can panic: the map is the kernel's.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, key: &K) -> io::Result<()> {
        let inserted = self.map().insert(key, STACK_FLOW_MOVED, 0);
        inserted.map_err(from_kernel)
    }

    fn remove(&self, key: &K) -> io::Result<()> {
        self.map().remove(key).map_err(from_kernel)
    }

    /// Removes the tuple of a connection that has moved; `false` if it is that of another one by now. A SYN that comes between the look and
    /// the removal loses its entry, and that costs its connection the way by a worker.
    fn remove_moved(&self, key: &K) -> io::Result<bool> {
        let mut map = self.map();
        let is_moved = map.get(key, 0).map_err(from_get)? != STACK_FLOW_BEGUN;
        if is_moved {
            map.remove(key).map_err(from_kernel)?;
        }
        Ok(is_moved)
    }

    fn holds(&self, key: &K) -> bool {
        self.map().get(key, 0).is_ok()
    }

    /// The map by a descriptor of its own, for who takes his time over it.
    fn apart(&self) -> io::Result<HashMap<MapData, K, u32>> {
        let descriptor = self.map().map().fd().as_fd().try_clone_to_owned()?;
        let map = MapData::from_fd(descriptor).and_then(|map| Map::LruHashMap(map).try_into());
        map.map_err(from_kernel)
    }

    /// Bounded, because a walk starts anew whenever the element that it stands at is gone.
    fn all(&self, key_of: impl Fn(&K) -> FlowKey) -> io::Result<Vec<StackFlow>> {
        let map = self.apart()?;
        let pairs = map.iter().take(MAX_STACK_FLOWS as usize);
        let flows = pairs.map(|pair| {
            let (key, value) = pair.map_err(from_kernel)?;
            Ok(StackFlow {
                key: key_of(&key),
                began_there: value == STACK_FLOW_BEGUN,
            })
        });
        flows.collect()
    }

    fn count(&self) -> io::Result<usize> {
        let map = self.apart()?;
        let keys = map.keys().take(MAX_STACK_FLOWS as usize);
        keys.map(|key| key.map_err(from_kernel))
            .try_fold(0, |count, key| key.map(|_| count + 1))
    }
}

/// A look has an error of its own for what isn't there.
fn from_get(error: MapError) -> io::Error {
    match error {
        MapError::KeyNotFound => io::ErrorKind::NotFound.into(),
        other => from_kernel(other),
    }
}

fn from_kernel(error: MapError) -> io::Error {
    match error {
        MapError::SyscallError(SyscallError { io_error, .. }) => io_error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests;
