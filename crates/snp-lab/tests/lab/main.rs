//! The lab as a whole: lives of hosts, seeded defects, one fidelity against the other.

mod common;
mod counted;
mod defects;
mod fidelity;
mod life;
