//! When connections of a service with `transport = "auto"` live on the kernel's TCP.

use std::num::NonZeroU32;

/// `handover`: from how many bytes on a connection is moved to the kernel's TCP, and where connections begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover {
    /// Announced by the head of a response.
    pub response: NonZeroU32,
    /// Announced by the head of a request.
    pub upload: NonZeroU32,
    /// Passed on of a body of unknown length in one direction; of a relay, in both.
    pub streamed: NonZeroU32,
    /// With each of several responses on average.
    pub repeated: NonZeroU32,
    /// Where connections begin.
    pub begin: Begin,
}

impl Default for Handover {
    fn default() -> Self {
        Self {
            response: crate::DEFAULT_BULK_RESPONSE,
            upload: crate::DEFAULT_BULK_UPLOAD,
            streamed: crate::DEFAULT_BULK_STREAMED,
            repeated: crate::DEFAULT_BULK_REPEATED,
            begin: Begin::Adaptive,
        }
    }
}

/// `begin`: which TCP answers a client's SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// The kernel's as long as most connections turn out to be bulk, else that of the workers.
    Adaptive,
    /// That of the workers.
    AfXdp,
    /// The kernel's.
    Kernel,
}
