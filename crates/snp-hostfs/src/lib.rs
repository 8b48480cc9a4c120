//! The emulated SNP host as a live system.
//!
//! A scenario of [`snp_lab`] is played against the wall clock (`clock`) in a thread of its own
//! (`sim`); its files are served through FUSE: those that a real host has and that the readers of
//! `snp-host` read, and what `lscpu`, `numactl` and the like look for. Programs see it at a mount point
//! ([`up()`]) or, in a mount namespace of their own, at the real places ([`exec()`], [`enter`]).

mod clock;
mod content;
mod control;
mod cpuid;
mod error;
mod exec;
mod fs;
mod machine;
mod mount;
mod node;
mod place;
mod sim;
mod sys;
mod text;
mod tree;
mod up;
mod view;

pub use self::clock::MAX_SPEED;
pub use self::control::{
    Guest, MAX_ADVANCE, NewGuest, Request, SCHEMA_VERSION, Status, call, down,
};
pub use self::error::HostError;
pub use self::exec::{Seen, exec, program};
pub use self::place::{Name, Place};
pub use self::sim::Start;
pub use self::up::{Wanted, detach, root_of, up, watch};
pub use self::view::enter;
