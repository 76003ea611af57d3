//! Whatever happens in whatever order, no byte is lost and every sum holds.
