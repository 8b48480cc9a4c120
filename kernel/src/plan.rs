// SPDX-License-Identifier: MIT OR GPL-2.0
//! The policy in force.

use kernel::prelude::*;

use crate::params;
use crate::rmpopt_core::{
    upstream::{version, Upstream},
    window, words_needed, Buffers, Capable, Config, CoreCell, CoreId, Host, Policy, RegionCell,
    Tracked,
};
use crate::snp_defs::Region;

/// The control plane's memory, in kernel vectors.
type Memory = Buffers<KVVec<RegionCell>, KVVec<CoreCell>, KVVec<u64>>;

/// A policy by its kind: some files ask what only one kind knows.
pub(crate) enum Plan {
    Tracked(KBox<Tracked<Memory>>),
    V10(KBox<Upstream>),
}

impl Plan {
    /// The policy that the operator named, for a host of this size.
    pub(crate) fn new(proof: Capable, config: Config, cores: u16, regions: u32) -> Result<Self> {
        match params::policy()? {
            params::PolicyName::Tracked => {
                let storage = Buffers {
                    regions: KVVec::from_elem(RegionCell::default(), regions as usize, GFP_KERNEL)?,
                    cores: KVVec::from_elem(CoreCell::default(), usize::from(cores), GFP_KERNEL)?,
                    words: KVVec::from_elem(0, words_needed(regions), GFP_KERNEL)?,
                };
                Ok(Self::Tracked(tracked(proof, config, storage)?))
            }
            params::PolicyName::V10 => Ok(Self::V10(upstream(proof)?)),
        }
    }

    pub(crate) fn policy(&mut self) -> &mut dyn Policy {
        match self {
            Self::Tracked(policy) => &mut **policy,
            Self::V10(policy) => &mut **policy,
        }
    }

    pub(crate) fn seen(&self) -> &dyn Policy {
        match self {
            Self::Tracked(policy) => &**policy,
            Self::V10(policy) => &**policy,
        }
    }

    /// The region that a core's window would begin with.
    pub(crate) fn base(&self, host: &dyn Host, core: CoreId) -> Region {
        match self {
            Self::Tracked(_) => window::own_memory(host, core).base,
            Self::V10(_) => window::lowest(host).base,
        }
    }

    /// Whether a core is believed to have a region optimised; `v10` believes nothing.
    pub(crate) fn believes(&self, core: CoreId, region: Region) -> bool {
        match self {
            Self::Tracked(policy) => policy.believes(core, region),
            Self::V10(_) => false,
        }
    }

    /// What `tracked` counts on its own.
    pub(crate) fn stats(&self) -> crate::rmpopt_core::tracked::Stats {
        match self {
            Self::Tracked(policy) => policy.stats(),
            Self::V10(_) => crate::rmpopt_core::tracked::Stats::default(),
        }
    }

    /// Whether the region was found free of assigned pages since its last mark.
    pub(crate) fn is_clean(&self, region: Region) -> bool {
        match self {
            Self::Tracked(policy) => policy.is_clean(region),
            Self::V10(_) => false,
        }
    }
}

/// On its own, so that the policy passes over the stack of no one else.
#[inline(never)]
fn tracked(proof: Capable, config: Config, storage: Memory) -> Result<KBox<Tracked<Memory>>> {
    let place = KBox::new_uninit(GFP_KERNEL)?;
    Ok(KBox::write(place, Tracked::new(proof, config, storage)))
}

/// As [`tracked`].
#[inline(never)]
fn upstream(proof: Capable) -> Result<KBox<Upstream>> {
    let place = KBox::new_uninit(GFP_KERNEL)?;
    Ok(KBox::write(place, Upstream::new(proof, &version::V10)))
}
