//! Handing over.
