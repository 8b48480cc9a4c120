// SPDX-License-Identifier: MIT OR GPL-2.0
//! `rmpopt_caller`: calls the functions that `rmpopt` follows, for tests. Loading it makes the calls and
//! says in the log what one took; it is then unloaded again.
//!
//! `function` is one of the kernel's (`rmp_make_shared`, `rmp_make_private`, `psmash`), which fail
//! where SNP is off, or one of the stand-ins in `stand_in.c`, which return `result`.

use kernel::prelude::*;
use kernel::time::{Instant, Monotonic};

#[allow(dead_code)]
mod sys {
    pub(crate) mod calls;
    pub(crate) mod text;
}

use self::sys::calls::Callee;
use self::sys::text::{self, text_parameter};

text_parameter!(FUNCTION, "function", "rmp_make_shared, rmp_make_private, psmash, or a stand-in's");

module! {
    type: RmpoptModule,
    name: "rmpopt_caller",
    authors: ["rmpopt"],
    description: "Calls functions that rmpopt follows, for tests",
    license: "Dual MIT/GPL",
    params: {
        page: u64 {
            default: 0,
            description: "number of the page of 4K",
        },
        calls: u32 {
            default: 1,
            description: "how many calls a round has",
        },
        rounds: u32 {
            default: 1,
            description: "how many rounds; the shortest counts",
        },
        result: i32 {
            default: 0,
            description: "what a stand-in returns",
        },
    },
}

struct RmpoptModule;

impl kernel::Module for RmpoptModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let mut place = [0; text::LONGEST];
        let name = FUNCTION.read(&mut place);
        let page = module_parameters::page.value();
        let (calls, rounds) = (module_parameters::calls.value(), module_parameters::rounds.value());
        let callee = Callee::find(name, module_parameters::result.value()).ok_or_else(|| {
            pr_err!("parameter function is \"{name}\", which cannot be called\n");
            EINVAL
        })?;
        let (mut shortest, mut result) = (i64::MAX, 0);
        for _ in 0..rounds {
            let begun = Instant::<Monotonic>::now();
            for _ in 0..calls {
                result = callee.call(page);
            }
            shortest = shortest.min(begun.elapsed().as_nanos());
        }
        let each = shortest.checked_div(i64::from(calls)).unwrap_or(0);
        pr_info!("{rounds} times {calls} calls of {name}: {each} ns each, result {result}\n");
        Ok(Self)
    }
}
