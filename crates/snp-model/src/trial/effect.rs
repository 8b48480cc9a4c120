//! What an operation did, and how people read it.

use core::fmt;

use crate::snp_model::{
    Access, Answer, DeviceVerdict, Exception, GuestAccessResult, GuestResult, GuestStop, Outcome,
    Query, RangeUpdate, RmpRead, Stop, Update, Verdict, VmrunStop,
};

/// What an operation did, the same in model and oracle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// RMPUPDATE, PSMASH.
    Update(Result<Update, Stop>),
    /// RMPUPDATE of several pages.
    Range(Result<RangeUpdate, Stop>),
    /// RMPREAD.
    Read(Result<RmpRead, Exception>),
    /// RMPOPT, whole.
    Rmpopt(Result<Outcome, Exception>),
    /// RMPOPT's first half.
    Begun(Result<(), Exception>),
    /// RMPOPT's second half.
    Finished(Outcome),
    /// A write of `RMPOPT_BASE`.
    Written(Result<(), Exception>),
    /// A checked access.
    Access(Access),
    /// A device's write.
    Device(DeviceVerdict),
    /// PVALIDATE, RMPADJUST.
    Guest(Result<GuestResult, GuestStop>),
    /// RMPQUERY.
    Query(Result<Query, GuestStop>),
    /// A guest's access.
    GuestAccess(GuestAccessResult),
    /// VMRUN.
    Vmrun(Result<(), VmrunStop>),
    /// A command of the firmware.
    Answer(Answer),
    /// What can be refused: SNP_INIT, clearing the RMP, a change of an entry.
    Done(bool),
    /// Nothing to tell.
    Nothing,
}

/// `n` RMP lines.
fn lines(f: &mut fmt::Formatter<'_>, lines: u32) -> fmt::Result {
    match lines {
        1 => f.write_str(", 1 RMP line"),
        _ => write!(f, ", {lines} RMP lines"),
    }
}

fn outcome(f: &mut fmt::Formatter<'_>, outcome: Outcome) -> fmt::Result {
    write!(f, "CF={}", u8::from(outcome.cf))?;
    match (outcome.cached, outcome.raced) {
        (true, _) => f.write_str(", from the cached scan")?,
        (false, true) => f.write_str(", region or register changed meanwhile")?,
        (false, false) => {}
    }
    lines(f, outcome.lines)
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Update(Ok(update)) => {
                write!(f, "{}", update.status)?;
                if update.clears_rmpopt() {
                    f.write_str(", RMPOPT bits of the region clear")?;
                }
                lines(f, update.lines)
            }
            Self::Range(Ok(sum)) => write!(f, "{} done, then {}", sum.done, sum.status),
            Self::Update(Err(stop)) | Self::Range(Err(stop)) => stop.fmt(f),
            Self::Read(Ok(read)) => {
                let operand = read.operand;
                write!(f, "{}, gpa={:#x} assigned={}", read.status, operand.gpa, operand.assigned)?;
                write!(f, " page_size={} immutable={}", operand.page_size, operand.immutable)?;
                write!(f, " asid={}", operand.asid)
            }
            Self::Rmpopt(Ok(result)) | Self::Finished(result) => outcome(f, result),
            Self::Read(Err(exception))
            | Self::Rmpopt(Err(exception))
            | Self::Begun(Err(exception))
            | Self::Written(Err(exception))
            | Self::Vmrun(Err(VmrunStop::Exception(exception))) => exception.fmt(f),
            Self::Access(access) => {
                match access.verdict {
                    Verdict::Allowed => f.write_str("allowed")?,
                    Verdict::PageFault(code) => write!(f, "#PF {code}")?,
                    Verdict::NestedPageFault(code) => write!(f, "#VMEXIT(NPF) {code}")?,
                }
                if access.skipped_by_rmpopt {
                    f.write_str(", check skipped by RMPOPT")?;
                }
                lines(f, access.lines)
            }
            Self::GuestAccess(GuestAccessResult { verdict, lines: read }) => {
                match verdict {
                    Ok(()) => f.write_str("allowed")?,
                    Err(stop) => stop.fmt(f)?,
                }
                lines(f, read)
            }
            Self::Device(DeviceVerdict::Allowed) => f.write_str("allowed"),
            Self::Vmrun(Err(VmrunStop::ExitInvalid)) => f.write_str("#VMEXIT(INVALID)"),
            Self::Vmrun(Err(VmrunStop::NotReserved(region))) => Stop::NotReserved(region).fmt(f),
            Self::Answer(Err(status)) => status.fmt(f),
            Self::Device(DeviceVerdict::Aborted { event }) => {
                write!(f, "aborted, IOMMU event {event:#x}")
            }
            Self::Guest(Ok(result)) => {
                write!(f, "{}, CF={}", result.status, u8::from(result.carry))?;
                lines(f, result.lines)
            }
            Self::Query(Ok(query)) => {
                write!(f, "{}, permissions {:#x}", query.status, query.permissions)?;
                write!(f, ", vmsa={} size={}", u8::from(query.vmsa), query.size)?;
                lines(f, query.lines)
            }
            Self::Guest(Err(stop)) | Self::Query(Err(stop)) => stop.fmt(f),
            Self::Answer(Ok(()))
            | Self::Vmrun(Ok(()))
            | Self::Done(true)
            | Self::Begun(Ok(()))
            | Self::Written(Ok(()))
            | Self::Nothing => f.write_str("done"),
            Self::Done(false) => f.write_str("refused"),
        }
    }
}
