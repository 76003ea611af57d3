//! x
#![no_std]
/// y
pub mod abi;

