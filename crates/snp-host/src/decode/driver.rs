//! What rmpopt.ko says: its passes, why it was not loaded or waits, what it could not do.
//!
//! The wordings are those of `kernel/src`; a test takes them from there.

use super::Pattern;
use super::finding::Finding;
use super::template::Captures;

const SEEN: &str = "rmpopt.ko";

/// What to do when the driver itself is at fault.
const REPORT: &str = "Unload the driver, keep the whole log, and report it with `rmpopt snapshot`.";

macro_rules! said {
    ($text:literal, $read:expr) => {
        Pattern::new(concat!("rmpopt: ", $text), SEEN, $read)
    };
}

pub(super) const PATTERNS: &[Pattern] = &[
    // Its life.
    said!("SNP is initialised: {regions:d} regions on {cores:d} cores", |c| {
        Some(
            Finding::info("driver-pass-begins")
                .number("regions", c.number("regions"))
                .number("cores", c.number("cores"))
                .meaning(
                    "SNP came up and RMPOPT is enabled on these cores: the first pass begins, which \
                     looks at every region of 1 GiB once. Nothing is optimised before.",
                ),
        )
    }),
    said!(
        "first pass over {regions:d} regions ended after {took:w} s; {executed:d} RMPOPTs so far",
        |c| {
            Some(
                Finding::info("driver-pass-ended")
                    .number("regions", c.number("regions"))
                    .text("took_s", c.word("took"))
                    .number("rmpopts", c.number("executed"))
                    .meaning(
                        "Every region was looked at once and what is clean was offered to every core. \
                         `rmpopt status` says how much is optimised.",
                    ),
            )
        }
    ),
    said!("pass {number:d} ended after {ms:d} ms", |c| {
        Some(
            Finding::info("driver-pass-ended")
                .number("pass", c.number("number"))
                .number("took_ms", c.number("ms"))
                .meaning("What had become free of guests' pages was looked at again."),
        )
    }),
    said!("SNP goes down: stopped", |_| {
        Some(Finding::info("driver-stopped").meaning(
            "SNP is shut down. RMPOPT was stopped and its bases cleared before, as it must be.",
        ))
    }),
    said!("the machine goes down: not stopped", |_| {
        Some(
            Finding::error("driver-not-stopped")
                .meaning("The machine shut down or started another kernel while RMPOPT still ran.")
                .advice(REPORT),
        )
    }),
    said!("the machine goes down: {how:w}", |_| {
        Some(
            Finding::info("driver-stopped").meaning("RMPOPT was stopped as the machine went down."),
        )
    }),
    said!("stopped by the operator", |_| {
        Some(
            Finding::info("driver-stopped")
                .meaning("Somebody stopped the driver by its kill switch: no RMPOPT runs.")
                .advice("The same switch lets it go on (docs/kernel-module.md)."),
        )
    }),
    said!("goes on by the operator's word", |_| {
        Some(Finding::info("driver-goes-on").meaning("The kill switch was undone."))
    }),
    said!("adopts the bases that an earlier driver left", |_| {
        Some(Finding::info("driver-adopted").meaning(
            "SNP was up and RMPOPT_BASE was set already, just as this driver would set it; with adopt=1 it \
             goes on with that.",
        ))
    }),
    said!(
        "RMPOPT_BASE is not 0 on core {core:d}: an earlier driver's. Waits for the next SNP_INIT; adopt=1 goes on with the same base",
        |c| {
            Some(
                Finding::warning("driver-waits")
                    .number("core", c.number("core"))
                    .meaning(
                        "An earlier driver left RMPOPT_BASE set. Whether a new base clears the CPU's table is \
                         not known, so this driver does nothing until SNP is initialised anew.",
                    )
                    .advice("Load it with adopt=1 if the earlier driver was this one, or shut SNP down once."),
            )
        }
    ),
    said!("SNP is off on core {core:d}", |c| {
        Some(
            Finding::info("driver-no-snp")
                .number("core", c.number("core"))
                .meaning("The driver was loaded while SNP was off: it waits for SNP_INIT."),
        )
    }),
    said!("hardware is EMULATED: {cores:d} cores, {gib:d} GiB; nothing here is protected", |c| {
        Some(
                Finding::warning("driver-emulated")
                    .number("cores", c.number("cores"))
                    .number("gib", c.number("gib"))
                    .meaning(
                        "The driver runs on emulated hardware, for tests: what it reports is not this host's.",
                    )
                    .advice("Load it without emulate= where real guests run."),
            )
    }),
    // Why it was not loaded, or refuses.
    said!(
        "not loaded: this host can use RMPOPT, but this module has never met such hardware; silicon=1 loads it all the same",
        |_| {
            Some(
                Finding::error("driver-refused")
                    .text("reason", "never met such hardware")
                    .meaning(
                        "The host has all that RMPOPT needs; the module asks before it uses it.",
                    )
                    .advice("Load it with silicon=1 on a machine that you can lose."),
            )
        }
    ),
    said!("not loaded: SNP is up, and its shutdown could not be followed", |_| {
        Some(
            Finding::error("driver-refused")
                .text("reason", "SNP's shutdown cannot be followed")
                .meaning(
                    "RMPOPT must stop before SNP does, and this kernel gives no means to see SNP's end.",
                )
                .advice("Load ccp and kvm_amd first, on a kernel with fprobe (docs/kernel-module.md)."),
        )
    }),
    said!("not loaded: {reason:t}", |c| {
        Some(
            Finding::error("driver-refused")
                .text("reason", c.word("reason"))
                .meaning("The driver looked whether RMPOPT can be used here, and it cannot.")
                .advice("`rmpopt doctor` says what of it can be mended."),
        )
    }),
    said!("more than {most:d} cores, which RMPOPT has no use for here", |c| {
        Some(
            Finding::error("driver-refused").number("most_cores", c.number("most")).meaning(
                "The host has more cores than the driver has room for: it was not loaded.",
            ),
        )
    }),
    said!("cpus cannot be changed under v10 while SNP is up", |_| {
        Some(
            Finding::error("driver-bad-setting")
                .meaning(
                    "Under policy v10 the CPUs are chosen when SNP comes up; nothing was changed.",
                )
                .advice("Use policy tracked, or set the CPUs while SNP is down."),
        )
    }),
    said!("the machine cannot sleep while SNP is up", |_| {
        Some(
            Finding::warning("driver-no-sleep")
                .meaning("Sleep would take SNP and RMPOPT's tables away: the driver refused it."),
        )
    }),
    // What it could not do.
    said!(
        "not every change of the RMP is followed: {rate:d} regions are looked at each second",
        |c| {
            Some(
                Finding::warning("driver-sweeps")
                    .number("regions_per_second", c.number("rate"))
                    .meaning(
                        "A function that changes the RMP cannot be followed, so regions are looked at again in \
                         turn. What becomes free is optimised later, and this costs RMPOPTs.",
                    )
                    .advice("The lines before name the function; a kernel with fprobe follows all."),
            )
        }
    ),
    said!("{function:w} cannot be followed ({error:t})", |c| {
        Some(
            Finding::warning("driver-cannot-follow")
                .text("function", c.word("function"))
                .text("error", c.word("error"))
                .meaning("The driver could not put a probe on this function of the kernel."),
        )
    }),
    said!("no memory for a CPU mask: followers are passed over", |_| Some(no_memory())),
    said!("no memory for an offer", |_| Some(no_memory())),
    // Broken laws.
    said!("RMPOPT raised an exception on CPU {cpu:d} ({fault:t}): stopped", |c| {
        Some(
            Finding::error("driver-fault")
                .number("cpu", c.number("cpu"))
                .text("fault", c.word("fault"))
                .meaning(
                    "An RMPOPT faulted although CPUID, SNP_EN and the enable bit had proved that it may run \
                     (law 4). The driver stopped itself.",
                )
                .advice(REPORT),
        )
    }),
    said!("work was left when the driver stopped", |_| Some(unclean())),
    said!("not stopped after {ms:d} ms", |c| {
        Some(unclean().number("waited_ms", c.number("ms")))
    }),
    said!("{count:d} RMPOPTs run after the stop", |c| {
        Some(unclean().number("count", c.number("count")))
    }),
    // Settings.
    said!("parameter {name:w} is \"{value:t}\", expected {expected:t}", |c| Some(setting(c))),
    said!("{name:w} is \"{value:t}\", expected {expected:t}", |c| Some(setting(c))),
    // The emulated host of its tests.
    said!("emu/control: \"{command:t}\" failed ({error:t})", |c| {
        Some(emulated(c).text("error", c.word("error")))
    }),
    said!("emu/control: \"{command:t}\" has words to spare", |c| Some(emulated(c))),
    said!("the emulated host has {there:d} cores, here are {here:d}", |c| {
        Some(
            Finding::error("driver-emulated-test")
                .number("there", c.number("there"))
                .number("here", c.number("here"))
                .meaning("rmpopt_emu.ko keeps an emulated host of another machine: not loaded."),
        )
    }),
    said!("the emulated host is there: emu_mem, emu_choices, emu_up are rmpopt_emu's", |_| {
        Some(
            Finding::error("driver-emulated-test").meaning(
                "rmpopt_emu.ko keeps the emulated host, and has its parameters: not loaded.",
            ),
        )
    }),
    said!("an exception in RMPOPT comes back as an error", |_| {
        Some(
            Finding::info("driver-emulated-test")
                .meaning("A test let RMPOPT raise an exception, and the driver caught it."),
        )
    }),
    // The kernel's own words about it.
    said!("loading out-of-tree module taints kernel", |_| Some(tainted())),
    said!(
        "module verification failed: signature and/or required key missing - tainting kernel",
        |_| Some(tainted())
    ),
];

fn no_memory() -> Finding {
    Finding::warning("driver-no-memory")
            .meaning("The kernel had no memory for a part of a pass: some cores get its regions later.")
            .advice("It is said once; `results.stale` and `pairs` in the driver's stats show how it went on.")
}

fn unclean() -> Finding {
    Finding::error("driver-not-stopped")
        .meaning("After the stop something of the driver was left: law 6 is broken.")
        .advice(REPORT)
}

fn setting(c: &Captures<'_>) -> Finding {
    Finding::error("driver-bad-setting")
        .text("name", c.word("name"))
        .text("value", c.word("value"))
        .text("expected", c.word("expected"))
        .meaning("The driver was given a value that it cannot take; nothing was changed or loaded.")
}

fn emulated(c: &Captures<'_>) -> Finding {
    Finding::info("driver-emulated-test")
        .text("command", c.word("command"))
        .meaning("A command to the emulated hardware was not understood or failed.")
}

fn tainted() -> Finding {
    Finding::info("driver-loaded").meaning(
        "The driver is no part of this kernel's tree and not signed for it: the kernel notes that.",
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{all, one};
    use super::*;

    /// Modules of tests, which log by their own names.
    const OTHERS: [&str; 2] = ["rmpopt_emu.rs", "rmpopt_caller.rs"];

    /// Each string of a `pr_*!` of the driver in `kernel/src`, as the log shows it with every value a 7.
    fn said_by_the_module() -> Vec<String> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../kernel/src");
        let mut folders = vec![std::path::PathBuf::from(folder)];
        let mut said = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "rs")
                    && !OTHERS.iter().any(|other| path.ends_with(other))
                {
                    said.extend(formats(&std::fs::read_to_string(path).unwrap()));
                }
            }
        }
        said
    }

    fn formats(source: &str) -> Vec<String> {
        let mut found = Vec::new();
        for (at, _) in source.match_indices("pr_") {
            let Some((name, rest)) = source[at..].split_once('!') else { continue };
            let levels =
                ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", "cont"];
            let level = name.trim_start_matches("pr_").trim_end_matches("_once");
            let Some(rest) = rest.strip_prefix('(').filter(|_| levels.contains(&level)) else {
                continue;
            };
            let rest = rest.trim_start().strip_prefix('"').expect("a format string");
            found.push(literal(rest));
        }
        found
    }

    /// A string literal from behind its quote, unescaped, placeholders filled.
    fn literal(source: &str) -> String {
        let (mut out, mut chars) = (String::new(), source.chars().peekable());
        while let Some(c) = chars.next() {
            match c {
                '"' => return out.trim_end().to_owned(),
                '\\' => match chars.next().unwrap() {
                    'n' => out.push('\n'),
                    '\n' => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                    other => out.push(other),
                },
                '{' => {
                    while chars.next() != Some('}') {}
                    out.push('7');
                }
                c => out.push(c),
            }
        }
        panic!("no end: {source:.40}")
    }

    #[test]
    fn every_line_of_the_module_is_explained_and_no_other() {
        let said = said_by_the_module();
        assert!(said.len() > 30, "{said:?}");
        let unknown: Vec<_> =
            said.iter().filter(|line| all(&format!("rmpopt: {line}\n")).len() != 1).collect();
        assert!(unknown.is_empty(), "{unknown:#?}");
        for line in &said {
            let found = one(&format!("[   12.345678] rmpopt: {line}\n"));
            assert!(found.kind.starts_with("driver-"), "{line}: {}", found.kind);
            assert_eq!(found.known_from, SEEN, "{line}");
            assert!(!found.meaning.is_empty(), "{line}");
        }
        // What the module no longer says is not kept here.
        let kernels = ["loading out-of-tree", "module verification"];
        for pattern in PATTERNS {
            let template = super::super::template::Template::new(pattern.template);
            let is_said = said.iter().any(|line| {
                let line = format!("rmpopt: {line}");
                template.read(&line).is_some_and(|(_, length)| length == line.len())
            });
            let of_kernel = kernels.iter().any(|words| pattern.template.contains(words));
            // `{}` that is one of two words.
            let chosen = pattern.template.ends_with("the machine goes down: not stopped");
            assert!(is_said || of_kernel || chosen, "{}", pattern.template);
        }
    }

    #[test]
    fn facts_of_its_lines() {
        let ended =
            one("rmpopt: first pass over 2048 regions ended after 1.045 s; 1048576 RMPOPTs so far");
        assert_eq!((ended.kind, ended.value("rmpopts")), ("driver-pass-ended", Some(1_048_576)));
        assert_eq!(ended.get("took_s").unwrap().to_string(), "1.045");
        let refused = one("rmpopt: not loaded: CPUID Fn8000_0025 EDX[0]: no RMPOPT");
        assert_eq!(
            refused.get("reason").unwrap().to_string(),
            "CPUID Fn8000_0025 EDX[0]: no RMPOPT"
        );
        let fault =
            one("<3>[ 5.0] rmpopt: RMPOPT raised an exception on CPU 9 (InvalidOpcode): stopped");
        assert_eq!((fault.kind, fault.value("cpu")), ("driver-fault", Some(9)));
        let setting = one("rmpopt: delay_ms is \"x y\", expected 10 to 60000");
        assert_eq!(setting.get("value").unwrap().to_string(), "x y");
        assert_eq!(setting.get("expected").unwrap().to_string(), "10 to 60000");
        assert_eq!(one("rmpopt: the machine goes down: not stopped").kind, "driver-not-stopped");
        assert_eq!(one("rmpopt: the machine goes down: stopped").kind, "driver-stopped");
        // The command's own output, and other programs' lines.
        for other in ["rmpopt: error: no such file", "foo is \"x\", expected y", "not loaded: x"] {
            assert!(all(other).is_empty(), "{other}");
        }
    }
}
