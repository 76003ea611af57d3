//! Any bytes as what `lb explain` is given: hexadecimal digits or a capture file. They are read or refused, and no frame
//! is longer than what it was read from.
//!
//! Only the reader is built, not the daemon around it, which would take minutes.
#![no_main]

#[path = "../../../lb-userspace/src/explain/capture.rs"]
mod capture;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(frame) = str::from_utf8(bytes)
        .ok()
        .and_then(|text| capture::hex(text).ok())
    {
        assert!(frame.len() * 2 <= bytes.len());
    }
    if let Ok(frames) = capture::pcap(bytes) {
        // A header for the file and one for each record.
        let read: usize = frames.iter().map(|frame| frame.len() + 16).sum();
        assert_eq!(read + 24, bytes.len());
    }
});
