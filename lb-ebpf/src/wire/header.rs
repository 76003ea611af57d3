//! The step from bytes to headers, the only place where the library reinterprets memory.
//!
//! [`Packet`] is implemented here for vectors of bytes (host) and in `src/xdp/frame.rs` for the packet of an
//! XDP program. Both check bounds at each call; neither gives a header that reaches past the end.
#![expect(
    unsafe_code,
    reason = "a header is a view of packet bytes, not a copy, because it is written through"
)]

/// A type that any `size_of::<Self>()` bytes of a packet are a valid value of.
///
/// # Safety
///
/// The type has alignment 1, no padding, no invalid bit pattern and no interior mutability.
pub unsafe trait Header: Sized {}

/// The bytes of one packet, from its Ethernet header on.
pub trait Packet {
    /// Bytes that can be read and written here: all of the packet, unless it came in several buffers.
    fn len(&self) -> usize;

    /// Length in bytes, of all buffers.
    fn whole_len(&self) -> usize;

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The header at `offset`; `None` if the packet ends before the header does.
    fn header<T: Header>(&self, offset: usize) -> Option<&T>;

    /// As [`header`](Self::header), to be written.
    fn header_mut<T: Header>(&mut self, offset: usize) -> Option<&mut T>;

    /// Moves the start of the packet by `bytes` bytes: forward, so that the first ones are gone, or back, to make room
    /// for some that hold nothing yet. `None` if that can't be done, and then nothing has changed.
    fn move_front(&mut self, bytes: i32) -> Option<()>;

    /// Cuts the packet to `len` bytes, which it has. `None` if that can't be done, and then nothing has changed.
    fn truncate(&mut self, len: usize) -> Option<()>;
}

#[cfg(any(test, feature = "fixtures", feature = "user"))]
impl Packet for std::vec::Vec<u8> {
    fn len(&self) -> usize {
        self.len()
    }

    fn whole_len(&self) -> usize {
        self.len()
    }

    /// As in a kernel that has used the memory before: what is there must be written, not hoped for.
    fn move_front(&mut self, bytes: i32) -> Option<()> {
        let by = usize::try_from(bytes.unsigned_abs()).ok()?;
        if bytes < 0 {
            self.splice(..0, core::iter::repeat_n(0xff, by));
        } else if by < self.len() {
            self.drain(..by);
        } else {
            return None;
        }
        Some(())
    }

    fn truncate(&mut self, len: usize) -> Option<()> {
        self.truncate(len);
        Some(())
    }

    fn header<T: Header>(&self, offset: usize) -> Option<&T> {
        let bytes = self.get(offset..)?.get(..size_of::<T>())?;
        // SAFETY: `bytes` holds exactly one `T`; `Header` promises alignment 1 and that any bytes will do.
        Some(unsafe { &*bytes.as_ptr().cast() })
    }

    fn header_mut<T: Header>(&mut self, offset: usize) -> Option<&mut T> {
        let bytes = self.get_mut(offset..)?.get_mut(..size_of::<T>())?;
        // SAFETY: as in `header`, and the borrow is exclusive.
        Some(unsafe { &mut *bytes.as_mut_ptr().cast() })
    }
}

macro_rules! header {
    ($($type:ty: $size:literal),* $(,)?) => {$(
        const _: () = assert!(size_of::<$type>() == $size && align_of::<$type>() == 1);
        // SAFETY: `repr(C)` struct of bytes and byte arrays; size and alignment are asserted above.
        unsafe impl Header for $type {}
    )*};
}

header! {
    super::Eth: 14,
    super::Ethertype: 2,
    super::Tag: 4,
    super::Ipv4: 20,
    super::Ipv4Option: 2,
    super::Ipv6: 40,
    super::Extension: 4,
    super::FragmentHeader: 8,
    super::Tcp: 20,
    super::Mss: 4,
    super::Udp: 8,
    super::Icmp: 8,
    super::Half: 2,
    super::Word: 4,
}
