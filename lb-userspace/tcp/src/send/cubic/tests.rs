//! The integer curve against the formulas of RFC 9438 in floating point.
