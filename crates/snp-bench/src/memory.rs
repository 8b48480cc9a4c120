//! What memory this machine has left.

/// Whether so many GiB can be used; the reason if not. Where there is no procfs, they can.
pub(crate) fn has_free(gib: u64) -> Result<(), String> {
    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else { return Ok(()) };
    enough(available_gib(&text), gib)
}

fn enough(available: Option<u64>, gib: u64) -> Result<(), String> {
    match available {
        Some(free) if free < gib => Err(format!("{free} GiB of memory are free, it needs {gib}")),
        _ => Ok(()),
    }
}

fn available_gib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_memory_is_a_reason() {
        let text = "MemTotal:       24634000 kB\nMemAvailable:   9437183 kB\n";
        assert_eq!(available_gib(text), Some(8));
        assert!(enough(Some(8), 8).is_ok() && enough(None, 8).is_ok());
        assert!(enough(Some(8), 9).unwrap_err().contains("8 GiB"));
    }
}
