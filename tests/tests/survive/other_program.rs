//! An `lb` whose XDP program has other code that does the same: what an upgrade puts in the place of the one before.
//!
//! A copy in which each comparison of the first program with a constant is written the other way: `x > n` as `x >= n + 1`.
//! The kernel verifies, compiles and names it (by its tag) as the different program that it is. A second build would do as
//! well, and take as long as the first.

use std::{env, fs, ops::Range, path::Path};

use object::{File, Object as _, ObjectSection as _, ObjectSymbol as _};

const INSTRUCTION: usize = 8;
/// The one instruction that takes two places (RFC 9669 §5.4).
const WIDE: u8 = 0x18;
/// Comparisons with an unsigned constant (RFC 9669 §4.3), of 64 and of 32 bits: `>`, and the `>=` that it turns into.
const TURNED: [(u8, u8); 2] = [(0x25, 0x35), (0x26, 0x36)];

/// Writes such a copy of `lb` to `path`.
pub(crate) fn write(lb: &Path, path: &Path) {
    let object = env::var_os("LB_XDP_OBJECT");
    let object = object.expect("LB_XDP_OBJECT is not set: run `cargo xtask test`");
    let object = fs::read(object).unwrap();
    let mut binary = fs::read(lb).unwrap();
    let start = embedded(&binary, &object).expect("lb carries the object in LB_XDP_OBJECT");
    let code = code(&object, "lb_xdp");
    let turned = turn(&mut binary[start + code.start..start + code.end]);
    assert!(turned > 0, "nothing to turn");
    fs::write(path, &binary).unwrap();
    fs::set_permissions(path, fs::metadata(lb).unwrap().permissions()).unwrap();
}

/// Where the object lies in the binary. Both are aligned.
fn embedded(binary: &[u8], object: &[u8]) -> Option<usize> {
    let mut places = (0..binary.len()).step_by(INSTRUCTION);
    places.find(|&place| binary[place..].starts_with(object))
}

/// Where the code of a program lies in the object.
fn code(object: &[u8], program: &str) -> Range<usize> {
    let file = File::parse(object).unwrap();
    let mut symbols = file.symbols();
    let symbol = symbols.find(|symbol| symbol.name() == Ok(program)).unwrap();
    let section = file.section_by_index(symbol.section_index().unwrap());
    let (offset, _) = section.unwrap().file_range().unwrap();
    let start = usize::try_from(offset + symbol.address()).unwrap();
    start..start + usize::try_from(symbol.size()).unwrap()
}

/// Turns comparisons; says how many.
fn turn(code: &mut [u8]) -> usize {
    let (mut turned, mut is_second_half) = (0, false);
    for instruction in code.chunks_exact_mut(INSTRUCTION) {
        let [opcode, .., a, b, c, d] = instruction else {
            unreachable!("eight bytes");
        };
        let constant = u32::from_le_bytes([*a, *b, *c, *d]);
        let known = TURNED.iter().find(|(greater, _)| greater == opcode);
        // Constants are extended by their sign: the one after the last would be far away.
        if let Some((_, or_equal)) = known
            && !is_second_half
            && constant < u32::MAX >> 1
        {
            *opcode = *or_equal;
            [*a, *b, *c, *d] = (constant + 1).to_le_bytes();
            turned += 1;
        }
        is_second_half = *opcode == WIDE && !is_second_half;
    }
    turned
}
