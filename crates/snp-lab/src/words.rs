//! Numbers in sentences for people.

/// A count with separators: `1,234,567`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of things: `1 socket`, `1,024 CPUs`.
pub fn things(value: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(value), if value == 1 { "" } else { "s" })
}

/// A size in the largest of KiB, MiB and GiB that it reaches, to a tenth: `2,048 GiB`, `1.5 MiB`.
pub fn size(bytes: u64) -> String {
    let (shift, unit) = match bytes {
        0..0x10_0000 => (10, "KiB"),
        0x10_0000..0x4000_0000 => (20, "MiB"),
        _ => (30, "GiB"),
    };
    let tenths = (u128::from(bytes) * 10 + (1 << shift >> 1)) >> shift;
    let (whole, tenth) = (u64::try_from(tenths / 10).unwrap_or(u64::MAX), tenths % 10);
    if tenth == 0 {
        format!("{} {unit}", count(whole))
    } else {
        format!("{}.{tenth} {unit}", count(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(things(1, "socket"), "1 socket");
        assert_eq!(things(0, "core"), "0 cores");
        assert_eq!(things(1_024, "CPU"), "1,024 CPUs");
        assert_eq!(count(1_234_567), "1,234,567");
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(size(0), "0 KiB");
        assert_eq!(size(4096), "4 KiB");
        assert_eq!(size(2 << 20), "2 MiB");
        assert_eq!(size(1000 << 20), "1,000 MiB");
        assert_eq!(size(100 << 30), "100 GiB");
        assert_eq!(size(3 << 29), "1.5 GiB");
        assert_eq!(size(2 << 40), "2,048 GiB");
        assert_eq!(size(u64::MAX), "17,179,869,184 GiB");
    }
}
