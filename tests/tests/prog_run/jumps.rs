//! Tail calls whose slot is a constant: the kernel compiles these to direct jumps, and others to indirect branches.
//!
//! Looked for in the object, since what the kernel compiled can't be read without a disassembler. Not here: that the
//! slots are the right ones, which every fixture shows.

use object::{File, Object as _, ObjectSection as _, SectionKind};

/// Of one instruction.
const SIZE: usize = 8;
/// `call` of a helper by number (RFC 9669 §4.3).
const CALL: u8 = 0x85;
/// `BPF_FUNC_tail_call`.
const TAIL_CALL: u32 = 12;
/// The register of its third argument, the slot.
const SLOT: u8 = 3;
/// Move of a constant, of 32 and of 64 bits (RFC 9669 §4.1).
const CONSTANTS: [u8; 2] = [0xb4, 0xb7];
/// Classes of instructions that write to the register named first: loads and arithmetic (RFC 9669 §3.1).
const WRITING: [u8; 4] = [0x00, 0x01, 0x04, 0x07];

#[test]
fn no_tail_call_is_an_indirect_branch() {
    let object = std::env::var_os("LB_XDP_OBJECT").expect("LB_XDP_OBJECT is not set");
    let bytes = std::fs::read(object).unwrap();
    let file = File::parse(bytes.as_slice()).unwrap();
    let (mut constant, mut variable) = (0, Vec::new());
    for section in file
        .sections()
        .filter(|section| section.kind() == SectionKind::Text)
    {
        let code: Vec<&[u8]> = section.data().unwrap().chunks_exact(SIZE).collect();
        for (place, _) in code
            .iter()
            .enumerate()
            .filter(|(_, code)| is_tail_call(code))
        {
            let slot = code[..place].iter().rev().find(|code| writes_slot(code));
            if slot.is_some_and(|code| CONSTANTS.contains(&code[0])) {
                constant += 1;
            } else {
                variable.push((section.name().unwrap().to_owned(), place));
            }
        }
    }
    assert!(constant > 0, "the object has no tail calls");
    assert_eq!(variable, [], "and {constant} are as they should be");
}

fn is_tail_call(code: &[u8]) -> bool {
    let [opcode, registers, _, _, number @ ..] = code else {
        return false;
    };
    *opcode == CALL && registers >> 4 == 0 && number == TAIL_CALL.to_le_bytes()
}

fn writes_slot(code: &[u8]) -> bool {
    WRITING.contains(&(code[0] & 7)) && code[1] & 0xf == SLOT
}
