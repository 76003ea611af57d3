//! Random numbers from the kernel.

use lb_ebpf::abi::HASH_KEYS;
use std::fs::File;
use std::io::{self, Read as _};

/// Keys of the flow hash. Random for each start, so that nobody can aim flows at one server or at
/// one set of the table. Before the kernel's generator is seeded this blocks nobody: a host that
/// runs `lb` has long booted.
pub(crate) fn keys() -> io::Result<[u64; HASH_KEYS]> {
    let mut bytes = [0; 8 * HASH_KEYS];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let (words, _) = bytes.as_chunks::<8>();
    let mut keys = [0; HASH_KEYS];
    for (key, word) in keys.iter_mut().zip(words) {
        *key = u64::from_ne_bytes(*word);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_key_is_drawn() {
        let keys = super::keys().unwrap();
        assert!(keys.iter().all(|key| *key != 0), "{keys:?}");
        assert_ne!(keys, super::keys().unwrap());
    }
}
