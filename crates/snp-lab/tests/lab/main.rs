//! The lab as a whole: lives of hosts, seeded defects, one fidelity against the other.

mod bulk;
mod closed_forms;
mod common;
mod conformance;
mod counted;
mod defects;
mod fidelity;
mod life;
mod live;
mod policies;
mod quiet;
mod streams;
