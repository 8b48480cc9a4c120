//! Traces of workloads: what started and ended when, and how much memory it asked for.
//!
//! The kind of a trace is told by its first line. Read are the Alibaba openb pod list ([`openb`]),
//! Alibaba's DLRM instances and Azure's `vmtable` ([`vms`]), and Azure's packing trace
//! ([`packing`]); the others named in [`TraceKind`] are recognised and refused by name.

mod error;
pub mod openb;
pub mod packing;
pub mod vms;

/// Whether a row is in the sample: by its line in a text, by its number in a table, both from 1.
pub type Keep<'a> = &'a dyn Fn(u64) -> bool;

pub use self::error::TraceError;
use crate::place::quoted;

/// What a header says a CSV file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TraceKind {
    /// Alibaba cluster-trace-gpu-v2023, pod list: read by [`openb`].
    OpenbPods,
    /// Alibaba cluster-trace-gpu-v2023, node list: no times in it.
    OpenbNodes,
    /// Alibaba cluster-trace-gpu-v2025, disaggregated DLRM instances: read by [`vms`].
    Dlrm,
    /// Alibaba cluster-trace-v2026-spot-gpu, node list: no times in it.
    SpotNodes,
    /// Azure public dataset, `vmtable`, with a header added: read by [`vms`], with and without.
    AzureVms,
    /// Huawei East-1 virtual machines (VMAgent).
    HuaweiVms,
}

impl TraceKind {
    /// The kind whose columns `header` has, in any order and with others between; a file that
    /// lacks a few of them is still of that kind, so that its reader can name what is missing.
    pub fn of_header(header: &str) -> Option<Self> {
        let columns: Vec<&str> = header.split(',').map(clean).collect();
        let has = |wanted: &[&str]| wanted.iter().filter(|w| columns.contains(w)).count();
        if has(&["instance_sn", "rdma_request", "memory_request"]) >= 2 {
            Some(Self::Dlrm)
        } else if has(&["vmid", "time", "type"]) == 3 {
            Some(Self::HuaweiVms)
        } else if has(&["gpu_capacity_num", "node_name"]) == 2 {
            Some(Self::SpotNodes)
        } else if has(&["vmid", "vmcreated", "vmdeleted"]) == 3
            || has(&["vm id", "timestamp vm created", "timestamp vm deleted"]) == 3
        {
            Some(Self::AzureVms)
        } else if has(&openb::COLUMNS) * 2 > openb::COLUMNS.len() {
            Some(Self::OpenbPods)
        } else if has(&["sn", "cpu_milli", "memory_mib", "model"]) >= 3 {
            Some(Self::OpenbNodes)
        } else {
            None
        }
    }

    fn looks(self) -> &'static str {
        match self {
            Self::OpenbPods => "",
            Self::OpenbNodes => " (looks like the openb node list, which has no times)",
            Self::Dlrm => " (looks like the Alibaba 2025 DLRM instances)",
            Self::SpotNodes => " (looks like the Alibaba 2026 spot nodes, which have no times)",
            Self::AzureVms => " (looks like the Azure VM table)",
            Self::HuaweiVms => " (looks like the Huawei East-1 machines)",
        }
    }
}

/// A header field as it is compared.
fn clean(field: &str) -> &str {
    field.trim().trim_matches('"').trim()
}

/// The error for a header of another kind, if it is not an openb pod list.
fn refuse(file: &str, header: &str) -> Result<(), TraceError> {
    let kind = TraceKind::of_header(header);
    if kind == Some(TraceKind::OpenbPods) {
        return Ok(());
    }
    Err(TraceError::Unsupported {
        file: file.to_owned(),
        header: quoted(header.trim()),
        looks: kind.map_or("", TraceKind::looks),
        expected: openb::COLUMNS.join(","),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_header() {
        for (header, kind) in [
            (
                "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,\
                 deletion_time,scheduled_time",
                Some(TraceKind::OpenbPods),
            ),
            ("name,cpu_milli,pod_phase,creation_time,scheduled_time", Some(TraceKind::OpenbPods)),
            ("sn,cpu_milli,memory_mib,gpu,model", Some(TraceKind::OpenbNodes)),
            (
                "instance_sn,role,app_name,cpu_request,cpu_limit,gpu_request,gpu_limit,\
                 rdma_request,rdma_limit,memory_request,memory_limit,disk_request,disk_limit,\
                 max_instance_per_node,creation_time,scheduled_time,deletion_time",
                Some(TraceKind::Dlrm),
            ),
            ("gpu_model,gpu_capacity_num,cpu_num,node_name", Some(TraceKind::SpotNodes)),
            ("vmid,cpu,memory,time,type", Some(TraceKind::HuaweiVms)),
            ("a,b,c", None),
            ("", None),
        ] {
            assert_eq!(TraceKind::of_header(header), kind, "{header}");
        }
    }

    #[test]
    fn refused_by_name() {
        let error = refuse("f.csv", "vmid,cpu,memory,time,type").unwrap_err().to_string();
        assert!(error.starts_with("f.csv:1: unsupported trace (looks like the Huawei"), "{error}");
        let error = refuse("f.csv", "a,b").unwrap_err().to_string();
        assert!(error.contains("header `a,b`, expected the header of the Alibaba openb"));
    }
}
