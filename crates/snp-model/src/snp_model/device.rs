//! Devices' writes behind an IOMMU with SNP on (spec/snp-arch.md 5.6).

use crate::snp_defs::{PageSize, Spa, IOMMU_EVENT_RMP_FAULT};
use crate::snp_model::{Machine, Storage, UnitStorage};

/// How a device's write ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DeviceVerdict {
    /// It went through.
    Allowed,
    /// The IOMMU aborted it and logged this event.
    Aborted {
        /// Event code.
        event: u8,
    },
}

impl<S: Storage, U: UnitStorage> Machine<S, U> {
    /// A device writes to this page: from `SNP_INIT` to the shutdown, the hypervisor must own it.
    /// Reads are free. RMPOPT does not concern devices.
    pub fn check_device_write(&self, spa: Spa) -> DeviceVerdict {
        let (owned, _) = self.rmp().hv_owned(spa.pfn(), PageSize::Size4K);
        if owned || !self.iommu_snp() {
            DeviceVerdict::Allowed
        } else {
            DeviceVerdict::Aborted { event: IOMMU_EVENT_RMP_FAULT }
        }
    }
}
