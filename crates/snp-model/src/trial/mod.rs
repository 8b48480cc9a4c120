//! Trials: operations as data, run by the model and by the oracle at once, and compared.
//!
//! [`random`] makes operations from a seed and runs them. Where the two part, [`shrink`] finds a short
//! [`Script`] that shows it, and a script can be run again ([`Trial::replay`]): its text is described
//! in docs/replay.md, and the command is `rmpopt replay`.

mod command;
mod effect;
mod execute;
mod generate;
mod operation;
mod plan;
mod script;
mod shrink;
mod words;

pub use self::{
    command::Command,
    effect::Effect,
    execute::{Difference, Trial},
    generate::{random, BaseWrites, Found, Random},
    operation::{Edit, Guest, Operation},
    plan::{Plan, CORES, REGIONS},
    script::{Script, ScriptError},
    shrink::shrink,
};
