//! Encodings of the SNP instructions, for assemblers that do not know them.
//!
//! Every one is four bytes: a prefix, `0F 01`, and a last byte. RMPOPT shares its last three with
//! CLZERO, which ignores the prefix: on an AMD CPU that has CLZERO and lacks RMPOPT the bytes raise
//! no #UD, they *write 64 zero bytes at the linear address in RAX* (measured on Zen 4; spec/rmpopt.md
//! 7). So nothing may try the instruction and see: CPUID comes first
//! ([`crate::snp_defs::ExtendedLeaves::prove_rmpopt`]).
//!
//! Source: spec/snp-arch.md 3.1 (Linux, LLVM, MSVC).

/// `PSMASH` (host): RAX = address of a 2M page. Splits its RMP entry into 512.
pub const PSMASH: [u8; 4] = [0xF3, 0x0F, 0x01, 0xFF];
/// `RMPUPDATE` (host): RAX = page address, RCX = pointer to the 16-byte operand.
pub const RMPUPDATE: [u8; 4] = [0xF2, 0x0F, 0x01, 0xFE];
/// `RMPREAD` (host): RAX = page address, RCX = pointer to the 16-byte operand to fill.
pub const RMPREAD: [u8; 4] = [0xF2, 0x0F, 0x01, 0xFD];
/// `RMPOPT` (host): RAX = region address, RCX = function; CF = the region is optimised.
pub const RMPOPT: [u8; 4] = [0xF2, 0x0F, 0x01, 0xFC];
/// `PVALIDATE` (guest): RAX = guest linear address, ECX = size, EDX = validate or rescind.
pub const PVALIDATE: [u8; 4] = [0xF2, 0x0F, 0x01, 0xFF];
/// `RMPADJUST` (guest): RAX = guest linear address, RCX = size, RDX = VMPL, permissions, VMSA.
pub const RMPADJUST: [u8; 4] = [0xF3, 0x0F, 0x01, 0xFE];
/// `RMPQUERY` (guest): RAX = guest linear address, RDX = VMPL.
pub const RMPQUERY: [u8; 4] = [0xF3, 0x0F, 0x01, 0xFD];

/// `CLZERO`: what [`RMPOPT`] is to a CPU without it.
pub const CLZERO: [u8; 3] = [0x0F, 0x01, 0xFC];
/// Bytes that CLZERO clears: the cache line that holds RAX.
pub const CLZERO_BYTES: u64 = 64;

const _: () = assert!(RMPOPT[1] == CLZERO[0] && RMPOPT[2] == CLZERO[1] && RMPOPT[3] == CLZERO[2]);

/// An instruction: name and encoding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Instruction {
    /// The manual's mnemonic.
    pub name: &'static str,
    /// Bytes in memory order.
    pub bytes: [u8; 4],
}

/// All of them, host instructions first.
pub const INSTRUCTIONS: [Instruction; 7] = [
    Instruction { name: "PSMASH", bytes: PSMASH },
    Instruction { name: "RMPUPDATE", bytes: RMPUPDATE },
    Instruction { name: "RMPREAD", bytes: RMPREAD },
    Instruction { name: "RMPOPT", bytes: RMPOPT },
    Instruction { name: "PVALIDATE", bytes: PVALIDATE },
    Instruction { name: "RMPADJUST", bytes: RMPADJUST },
    Instruction { name: "RMPQUERY", bytes: RMPQUERY },
];

/// The instruction that `code` begins with.
pub fn decode(code: &[u8]) -> Option<Instruction> {
    INSTRUCTIONS.into_iter().find(|instruction| code.starts_with(&instruction.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_differ_and_decode() {
        for instruction in INSTRUCTIONS {
            assert_eq!(decode(&instruction.bytes), Some(instruction));
            assert_eq!(instruction.bytes[1..3], [0x0F, 0x01]);
        }
        assert_eq!(decode(&RMPOPT).map(|found| found.name), Some("RMPOPT"));
        assert_eq!(decode(&CLZERO), None);
        assert_eq!(decode(&[0xF2, 0x0F]), None);
    }
}
