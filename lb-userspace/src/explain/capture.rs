//! Frames from text and files that somebody else has written: hexadecimal digits and captures.
//!
//! Any bytes are read or refused, never a panic: a fuzz target (`lb-ebpf/fuzz`) builds this file by itself, so it uses
//! nothing of this package.

use anyhow::Context as _;

/// A frame as digits; blanks and colons between them don't matter.
pub(crate) fn hex(text: &str) -> anyhow::Result<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace() && *c != ':')
        .map(|c| {
            let digit = c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            digit.with_context(|| format!("{c:?} is no hexadecimal digit"))
        })
        .collect::<Result<_, _>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    anyhow::ensure!(rest.is_empty(), "an odd number of digits");
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Link type of Ethernet frames (draft-ietf-opsawg-pcap, §4).
const LINKTYPE_ETHERNET: u32 = 1;

/// The packets of a capture file (draft-ietf-opsawg-pcap): in either byte order, with microseconds or
/// nanoseconds.
pub(crate) fn pcap(bytes: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    const SHORT: &str = "the file ends too early";
    let (magic, rest) = bytes.split_first_chunk::<4>().context(SHORT)?;
    let word: fn([u8; 4]) -> u32 = match u32::from_le_bytes(*magic) {
        0xa1b2_c3d4 | 0xa1b2_3c4d => u32::from_le_bytes,
        0xd4c3_b2a1 | 0x4d3c_b2a1 => u32::from_be_bytes,
        _ => anyhow::bail!(
            "no classic pcap file; `tcpdump -w` writes one, `editcap -F pcap` converts"
        ),
    };
    let (header, mut rest) = rest.split_first_chunk::<20>().context(SHORT)?;
    let ([.., link], _) = header.as_chunks::<4>() else {
        anyhow::bail!(SHORT);
    };
    // The high bits say whether frames end with a checksum.
    let link = word(*link) & 0xffff;
    anyhow::ensure!(
        link == LINKTYPE_ETHERNET,
        "link type {link}; only Ethernet (1) can be explained: capture on an interface, not on \"any\""
    );
    let mut frames = Vec::new();
    while let Some((record, after)) = rest.split_first_chunk::<16>() {
        let ([_, _, captured, original], _) = record.as_chunks::<4>() else {
            anyhow::bail!(SHORT);
        };
        let (captured, original) = (word(*captured), word(*original));
        anyhow::ensure!(
            captured == original,
            "packet {} was cut to {captured} of {original} bytes: capture with `tcpdump -s 0`",
            frames.len() + 1
        );
        let (frame, after) = after.split_at_checked(captured as usize).context(SHORT)?;
        frames.push(frame.to_vec());
        rest = after;
    }
    anyhow::ensure!(rest.is_empty(), SHORT);
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn hexadecimal_digits_are_bytes() {
        assert_eq!(hex("00:ff a0\n1B").unwrap(), [0, 0xff, 0xa0, 0x1b]);
        assert!(hex("0").is_err());
        assert!(hex("0g").is_err());
    }

    fn file(word: fn(u32) -> [u8; 4], link: u32, captured: u32) -> Vec<u8> {
        let mut file = Vec::new();
        for value in [
            0xa1b2_c3d4,
            0x0004_0002,
            0,
            0,
            65535,
            link,
            1,
            2,
            captured,
            3,
        ] {
            file.extend(word(value));
        }
        file.extend([7, 8, 9]);
        file
    }

    #[test]
    fn captures_of_either_byte_order_are_read() {
        for word in [u32::to_le_bytes, u32::to_be_bytes] {
            assert_eq!(pcap(&file(word, 1, 3)).unwrap(), [[7, 8, 9]]);
        }
    }

    #[test]
    fn a_capture_that_cannot_be_explained_says_why() {
        let check = |bytes: &[u8], expected: &str| {
            let error = pcap(bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&[1; 40], "no classic pcap");
        check(&file(u32::to_le_bytes, 113, 3), "link type 113");
        check(&file(u32::to_le_bytes, 1, 2), "cut to 2 of 3 bytes");
        let whole = file(u32::to_le_bytes, 1, 3);
        for length in [0, 3, 23, 30, whole.len() - 1] {
            check(&whole[..length], "ends too early");
        }
    }

    /// What fuzzing has found, and what it starts from.
    #[test]
    fn the_corpus_is_read_or_refused() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lb-ebpf/fuzz/corpus/explain");
        let files = fs::read_dir(corpus).unwrap().map(|file| file.unwrap());
        let mut read = 0;
        for file in files {
            let bytes = fs::read(file.path()).unwrap();
            let frame = str::from_utf8(&bytes).ok().and_then(|text| hex(text).ok());
            read += usize::from(frame.is_some()) + usize::from(pcap(&bytes).is_ok());
        }
        assert!(read > 1, "{read} of them read");
    }
}
