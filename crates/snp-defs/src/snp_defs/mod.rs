#![forbid(unsafe_code)]
//! The SEV-SNP and RMPOPT architecture as data. No behaviour, no dependencies, no allocation.

mod addr;
mod entry;
mod operand;
mod page_state;
mod rmpopt;
mod status;

pub use self::addr::*;
pub use self::entry::RmpEntry;
pub use self::operand::RmpOperand;
pub use self::page_state::PageState;
pub use self::rmpopt::{RmpoptBase, RmpoptFunction, Window};
pub use self::status::RmpStatus;
