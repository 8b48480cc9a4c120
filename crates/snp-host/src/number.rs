//! Numbers as the kernel and the tools print them, strict: no sign, no rubbish around them.

/// A hexadecimal number of 1 to 16 digits, without `0x`.
pub(crate) fn hex(digits: &str) -> Option<u64> {
    let shaped = (1..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    shaped.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// A hexadecimal number with its `0x`.
pub(crate) fn hex_0x(text: &str) -> Option<u64> {
    hex(text.strip_prefix("0x")?)
}

/// A decimal number without sign.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let shaped = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    shaped.then(|| text.parse().ok()).flatten()
}

/// The first address that no x86 CPU has: physical addresses have at most 52 bits.
pub(crate) const ADDRESS_LIMIT: u64 = 1 << snp_defs::PHYSICAL_ADDRESS_BITS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict() {
        assert_eq!(hex_0x("0x000000c07fcfffff"), Some(0xc0_7fcf_ffff));
        assert_eq!(hex_0x("c07f"), None);
        assert_eq!(hex("+1"), None);
        assert_eq!(hex(""), None);
        assert_eq!(hex("10000000000000000"), None);
        assert_eq!(decimal("384"), Some(384));
        assert_eq!(decimal("-1"), None);
        assert_eq!(decimal("+1"), None);
        assert_eq!(decimal("99999999999999999999"), None);
    }
}
