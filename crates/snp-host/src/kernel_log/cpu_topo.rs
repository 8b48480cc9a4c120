//! How the CPUs are arranged, in the kernel's words since 6.9:
//!
//! ```text
//! CPU topo: Max. logical packages:   2
//! CPU topo: Max. threads per core:   2
//! CPU topo: Num. cores per package:   128
//! CPU topo: Allowing 512 present CPUs plus 0 hotplug CPUs
//! ```

use crate::e820::LogError;
use crate::log::after;
use crate::number::decimal;
use crate::place::{At, quoted};
use crate::topology::{CpuShape, MAX_CPUS};

/// The `CPU topo:` lines; each may be missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuTopo {
    /// Sockets.
    pub packages: Option<u32>,
    /// Hardware threads of a core.
    pub threads_per_core: Option<u32>,
    /// Cores of a socket.
    pub cores_per_package: Option<u32>,
    /// Hardware threads of a socket.
    pub threads_per_package: Option<u32>,
    /// CPUs present at boot.
    pub present: Option<u32>,
    /// CPUs that may be added later (0 or more).
    pub hotplug: Option<u32>,
}

impl CpuTopo {
    /// Takes one `CPU topo:` line; lines of other meaning are left alone.
    pub(super) fn line(&mut self, at: &dyn Fn() -> At, line: &str) -> Result<(), LogError> {
        let Some(text) = after(line, "CPU topo:").map(str::trim) else { return Ok(()) };
        let number = |field: &'static str, value: &str, least: u64| {
            let value = value.trim();
            let found = decimal(value).filter(|n| (least..=u64::from(MAX_CPUS)).contains(n));
            found.map(|n| Some(n as u32)).ok_or_else(|| LogError::Malformed {
                at: at(),
                field,
                value: quoted(value),
                expected: "a count of at most 1048576 (is the line cut?)",
            })
        };
        if let Some((key, value)) = text.split_once(':') {
            match key.trim() {
                "Max. logical packages" => self.packages = number("packages", value, 1)?,
                "Max. threads per core" => {
                    self.threads_per_core = number("threads per core", value, 1)?;
                }
                "Num. cores per package" => {
                    self.cores_per_package = number("cores per package", value, 1)?;
                }
                "Num. threads per package" => {
                    self.threads_per_package = number("threads per package", value, 1)?;
                }
                _ => {}
            }
        } else if let Some(rest) = text.strip_prefix("Allowing ") {
            let (present, rest) = rest.split_once(" present CPUs plus ").unwrap_or((rest, ""));
            self.present = number("present CPUs", present, 1)?;
            let hotplug = rest.strip_suffix(" hotplug CPUs").unwrap_or("");
            self.hotplug = number("hotplug CPUs", hotplug, 0)?;
        }
        Ok(())
    }

    /// Sockets, cores and threads, when the log states all three.
    pub fn shape(&self) -> Option<CpuShape> {
        let (sockets, cores, threads) =
            (self.packages?, self.cores_per_package?, self.threads_per_core?);
        let product = CpuShape::product(sockets, cores, threads)?;
        Some(CpuShape {
            sockets,
            cores_per_socket: cores,
            threads_per_core: threads,
            cpus: self.present.unwrap_or(product),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel_log::KernelFacts;

    fn topo(log: &str) -> Result<Option<CpuTopo>, String> {
        KernelFacts::parse("log", log).map(|f| f.cpu_topo).map_err(|e| e.to_string())
    }

    #[test]
    fn an_epyc_9754_pair() {
        let log = "CPU topo: Max. logical packages:   2\n\
                   CPU topo: Max. logical dies:      16\n\
                   CPU topo: Max. dies per package:   8\n\
                   CPU topo: Max. threads per core:   2\n\
                   CPU topo: Num. cores per package:   128\n\
                   CPU topo: Num. threads per package: 256\n\
                   CPU topo: Allowing 512 present CPUs plus 0 hotplug CPUs\n";
        let shape = topo(log).unwrap().unwrap().shape().unwrap();
        assert_eq!(
            shape,
            CpuShape { sockets: 2, cores_per_socket: 128, threads_per_core: 2, cpus: 512 }
        );
    }

    #[test]
    fn partial_has_no_shape() {
        assert_eq!(topo("CPU topo: Max. threads per core: 2").unwrap().unwrap().shape(), None);
        assert_eq!(topo("CPU topo: Boot CPU APIC ID not the first"), Ok(None));
    }

    #[test]
    fn malformed() {
        for line in [
            "CPU topo: Max. logical packages:   0",
            "CPU topo: Max. threads per core: two",
            "CPU topo: Num. cores per package:",
            "CPU topo: Allowing 512 pres",
            "CPU topo: Allowing 9999999 present CPUs plus 0 hotplug CPUs",
        ] {
            assert!(topo(line).unwrap_err().starts_with("log:1: "), "{line}");
        }
    }
}
