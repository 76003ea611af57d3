//! Keys of the flow hash: from the kernel's random numbers, or from a secret that several hosts share.

use std::fs::File;
use std::io::{self, Read as _};

use lb_ebpf::abi::HASH_KEYS;
use sha2::{Digest as _, Sha256};

/// Random for each start, so that nobody can aim flows at one server or at
/// one set of the table. Before the kernel's generator is seeded this blocks nobody: a host that
/// runs `lb` has long booted.
pub(crate) fn random() -> io::Result<[u64; HASH_KEYS]> {
    let mut bytes = [0; 8 * HASH_KEYS];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let (words, _) = bytes.as_chunks::<8>();
    let mut keys = [0; HASH_KEYS];
    for (key, word) in keys.iter_mut().zip(words) {
        *key = u64::from_le_bytes(*word);
    }
    Ok(keys)
}

/// The same on every host, for ever: hosts of different versions share flows as well. Each key is the start of SHA-256
/// over a label, its own number and the secret.
pub(crate) fn derived(secret: &str) -> [u64; HASH_KEYS] {
    std::array::from_fn(|number| {
        let digest = Sha256::new()
            .chain_update(b"lb flow hash key 1\0")
            .chain_update([u8::try_from(number).unwrap_or(u8::MAX)])
            .chain_update(secret)
            .finalize();
        let (words, _) = digest.as_chunks::<8>();
        words.first().copied().map_or(0, u64::from_le_bytes)
    })
}

/// Of cookies that name servers: derived from the secret of the hosts that share it, or random for each start.
pub(crate) fn cookie(secret: Option<&str>) -> io::Result<[u64; 2]> {
    let Some(secret) = secret else {
        let [first, second, ..] = random()?;
        return Ok([first, second]);
    };
    let digest = Sha256::new()
        .chain_update(b"lb cookie key 1\0")
        .chain_update(secret)
        .finalize();
    let (words, _) = digest.as_chunks::<8>();
    let mut keys = [0; 2];
    for (key, word) in keys.iter_mut().zip(words) {
        *key = u64::from_le_bytes(*word);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::{cookie, derived, random};

    #[test]
    fn every_key_is_drawn() {
        let keys = random().unwrap();
        assert!(keys.iter().all(|key| *key != 0), "{keys:?}");
        assert_ne!(keys, random().unwrap());
    }

    #[test]
    fn keys_of_a_secret_are_its_own_and_stay_what_they_are() {
        let keys = derived("correct horse battery staple");
        let mut all = keys.to_vec();
        all.extend(derived("correct horse battery stapler"));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 2 * keys.len());
        // Changing them would part the hosts of a cluster in the middle of an upgrade.
        assert_eq!(keys[0], FIRST);
    }

    #[test]
    fn cookies_of_hosts_with_one_secret_have_one_key_and_no_key_of_flows() {
        let secret = "correct horse battery staple";
        let keys = cookie(Some(secret)).unwrap();
        assert_eq!(keys, cookie(Some(secret)).unwrap());
        assert!(!derived(secret).contains(&keys[0]));
        assert_ne!(keys, cookie(Some("correct horse battery stapler")).unwrap());
        assert_ne!(cookie(None).unwrap(), cookie(None).unwrap());
    }

    /// `printf 'lb flow hash key 1\\0\\0correct horse battery staple' | sha256sum`, its first eight bytes.
    const FIRST: u64 = u64::from_be_bytes(0x3a22_b249_8844_fafa_u64.to_le_bytes());
}
