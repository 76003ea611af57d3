//! Scripts: what a peer sends and when, and what must leave in answer, and when. One for each rule of an RFC that can be
//! seen from outside.
//!
//! ```text
//! established mss 1460 sack      # a handshake; 10 ms there and back
//! writes 2000
//! out  A 1..1461 ack 1           # leaves now: the first byte has number 1, as the peer's first byte
//! out  PA 1461..2001 ack 1
//! +10ms in  A 1 ack 1 sack 1461..2001
//! +200ms out A 1..1461           # 200 ms later, and nothing in between
//! ```

#![expect(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod attacks;
mod closing;
mod compare;
mod drive;
mod handshake;
mod line;
mod receiving;
mod sending;
