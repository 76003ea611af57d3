//! Any text as a configuration: taken or refused, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Err(errors) = lb_config::parse(text) {
        assert!(!errors.to_string().is_empty(), "refused without a reason");
    }
});
