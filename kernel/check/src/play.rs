//! Playing a script, and the comparisons.
//!
//! Lines go to the control file, commands with `;` between them in one piece; except these:
//! ```text
//! # anything            a comment
//! sleep MS              nothing for so long
//! settle MS             the tables become what they must be, within so long
//! audit MS              the hardware says so itself, by the file `audit`, within so long
//! guests N SEED         the lives of so many guests
//! guests N SEED until FILE   the same over and over, with other seeds, until there is such a file
//! stat KEY LEAST MOST   a line of `stats` has a value between the two
//! await KEY LEAST MS    it becomes at least that, within so long
//! set FILE VALUE        a write to a file in configfs
//! cpus LIST             from now on tables are expected on these CPUs only
//! ```
//! and, where `rmpopt_emu` keeps the host:
//! ```text
//! load PARAMETERS       the driver is loaded
//! unload [held]         it is unloaded, with every file of it held open, and leaves all as it is
//! ```

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::account::{Account, Effect};
use crate::files::{self, Host};
use crate::guests;
use crate::module;
use crate::table::{self, Table};

/// How long nothing may happen without a driver.
const QUIET: Duration = Duration::from_millis(20);
/// Between two looks at a table that is not yet what it must be.
const LOOK: Duration = Duration::from_millis(20);

struct Player {
    regions: usize,
    account: Account,
    /// CPUs that RMPOPT may run on; `None`: all.
    allowed: Option<BTreeSet<u32>>,
    /// What the driver believes is compared, too.
    beliefs: bool,
    host: Host,
    /// The driver is loaded.
    loaded: bool,
    /// Nothing was done since the tables were last found to be what they must be.
    settled: bool,
    loads: u32,
    /// Unloads that came before all was done.
    early: u32,
    steps: u32,
    looks: u32,
    longest: Duration,
}

/// Plays a script; what was done, or what was wrong.
pub(crate) fn play(
    regions: &str,
    script: &str,
    beliefs: bool,
    host: Host,
) -> Result<String, String> {
    let regions = regions.parse().map_err(|_| format!("{regions:?}: expected a number"))?;
    let text = std::fs::read_to_string(script).map_err(|error| format!("{script}: {error}"))?;
    let mut player = Player {
        regions,
        account: Account::new(regions),
        allowed: None,
        beliefs,
        host,
        loaded: host == Host::Driver,
        settled: false,
        loads: 0,
        early: 0,
        steps: 0,
        looks: 0,
        longest: Duration::ZERO,
    };
    for (number, line) in text.lines().enumerate() {
        player.line(line).map_err(|wrong| format!("line {}, {line:?}: {wrong}", number + 1))?;
    }
    player.end()?;
    let Player { steps, looks, longest, loads, early, .. } = player;
    let longest = longest.as_millis();
    let told = format!("{steps} steps, {looks} tables compared, longest wait {longest} ms");
    Ok(match host {
        Host::Driver => told,
        Host::Kept => format!("{told}, {loads} loads, {early} unloads before all was done"),
    })
}

impl Player {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |word: &str| word.parse::<u64>().map_err(|_| format!("{word:?}: no number"));
        match words[..] {
            [] | ["#", ..] => Ok(()),
            ["sleep", ms] => {
                sleep(Duration::from_millis(number(ms)?));
                self.is_safe()
            }
            ["settle", ms] => self.settle(Duration::from_millis(number(ms)?)),
            ["audit", ms] => self.audit(Duration::from_millis(number(ms)?)),
            ["guests", count, seed] => self.guests(number(count)?, number(seed)?),
            ["guests", count, seed, "until", file] => {
                let (count, mut seed) = (number(count)?, number(seed)?);
                while !std::path::Path::new(file).exists() {
                    self.guests(count, seed)?;
                    seed += 1;
                }
                Ok(())
            }
            ["stat", key, least, most] => {
                let stats = files::read("stats")?;
                let value = files::value(&stats, key).ok_or("stats has no such key")?;
                if value < number(least)? || value > number(most)? {
                    return Err(format!("it is {value}"));
                }
                Ok(())
            }
            ["await", key, least, ms] => {
                let (least, limit) = (number(least)?, Duration::from_millis(number(ms)?));
                let started = Instant::now();
                while files::value(&files::read("stats")?, key).ok_or("stats has no such key")?
                    < least
                {
                    if started.elapsed() > limit {
                        return Err(format!("not reached after {} ms", limit.as_millis()));
                    }
                    sleep(LOOK);
                }
                Ok(())
            }
            ["set", file, value] => files::set(file, value),
            ["cpus", list] => {
                self.allowed = Some(table::cpus(list).ok_or("no list of CPUs")?);
                Ok(())
            }
            ["load", ref parameters @ ..] => self.load(parameters),
            ["unload"] => self.unload(module::unload),
            ["unload", "held"] => self.unload(|| module::unload_held().map(|_| ())),
            _ => self.step(&line.replace("; ", "\n")),
        }
    }

    fn guests(&mut self, count: u64, seed: u64) -> Result<(), String> {
        let lives = guests::lives(count, seed, self.regions as u64);
        lives.iter().try_for_each(|step| self.step(step))
    }

    /// The driver comes. It works unless SNP is up with bases that are not its own.
    fn load(&mut self, parameters: &[&str]) -> Result<(), String> {
        let registers = self.host.read("cores")?;
        let is_off = |line: &str| line.ends_with(" base 0x0");
        let works = !self.account.is_up()
            || registers.lines().all(is_off)
            || parameters.contains(&"adopt=1");
        module::load(parameters)?;
        if works {
            self.account.work();
        }
        // The table is not looked at here: an unload may be meant to follow at once.
        (self.loaded, self.settled) = (true, false);
        self.loads += 1;
        Ok(())
    }

    /// The driver goes: no register changes, no table does, nothing runs any more.
    fn unload(&mut self, unload: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        let executed = |laws: &str| files::value(laws, "executed");
        let registers = self.host.read("cores")?;
        let expected = self.account.settled(&self.cpus()?);
        let settled = self.settled;
        // Tables that were left full do not show it.
        let under_way = files::read("regions")?.contains("first pass under way");
        unload()?;
        self.loaded = false;
        let (left, ran) = (self.hardware()?, executed(&self.host.read("laws")?));
        if let (true, Some(wrong)) = (settled, table::difference(&left, &expected)) {
            return Err(format!("the table was not left as it was: {wrong}"));
        }
        self.early += u32::from(under_way || left != expected);
        sleep(QUIET);
        if self.hardware()? != left || executed(&self.host.read("laws")?) != ran {
            return Err("without the driver a table changed or RMPOPT was run".to_owned());
        }
        // A first pass that was cut short may still have had bases to write.
        let now = self.host.read("cores")?;
        if settled && now != registers {
            return Err(format!("registers were {registers:?} and are {now:?}"));
        }
        self.account.leave(left);
        self.is_safe()
    }

    /// One write to the control file. Whatever the module says of it, the tables are looked at.
    fn step(&mut self, commands: &str) -> Result<(), String> {
        self.steps += 1;
        self.settled = false;
        let mut touched = false;
        for command in commands.lines() {
            touched |= self.account.note(command)? != Effect::None;
            if self.loaded && matches!(command, "snp-init" | "snp-down") {
                // Whatever it found, from here on the driver has its part in SNP's life.
                self.account.work();
            }
        }
        let host = if self.loaded { Host::Driver } else { self.host };
        let written = host.control(commands);
        if touched && let Err(wrong) = self.is_safe() {
            let said = written.err().map_or("nothing".to_owned(), |error| error.to_string());
            return Err(format!("{wrong}; the module says: {said}"));
        }
        written.map_err(|error| format!("the module refused {commands:?}: {error}"))
    }

    fn hardware(&mut self) -> Result<Table, String> {
        self.looks += 1;
        table::parse(&self.host.read("table")?, self.regions)
    }

    fn is_safe(&mut self) -> Result<(), String> {
        let table = self.hardware()?;
        self.account.unsafe_row(&table).map_or(Ok(()), Err)
    }

    /// CPUs whose tables can be told.
    fn cpus(&self) -> Result<BTreeSet<u32>, String> {
        let mut cpus = files::online()?;
        if let Some(allowed) = &self.allowed {
            cpus.retain(|cpu| allowed.contains(cpu));
        }
        Ok(cpus)
    }

    /// What is wrong with the tables now.
    fn unsettled(&mut self) -> Result<Option<String>, String> {
        let cpus = self.cpus()?;
        let expected = self.account.settled(&cpus);
        let mut found = self.hardware()?;
        if let Some(wrong) = self.account.unsafe_row(&found) {
            return Err(wrong);
        }
        // A CPU that is offline, or was taken away, keeps its table.
        for row in &mut found {
            row.retain(|cpu| cpus.contains(cpu));
        }
        if let Some(wrong) = table::difference(&found, &expected) {
            return Ok(Some(format!("the hardware: {wrong}")));
        }
        if !self.beliefs || !self.loaded {
            return Ok(None);
        }
        self.looks += 1;
        let believed = table::parse(&files::read("rmpopt-table")?, self.regions)?;
        let known = if self.account.is_worked_on() {
            expected
        } else {
            // Of what somebody left nothing is known.
            vec![BTreeSet::new(); self.regions]
        };
        let wrong = table::difference(&believed, &known);
        Ok(wrong.map(|wrong| format!("the driver's belief: {wrong}")))
    }

    fn settle(&mut self, limit: Duration) -> Result<(), String> {
        let started = Instant::now();
        while let Some(wrong) = self.unsettled()? {
            if started.elapsed() > limit {
                return Err(format!("not settled after {} ms: {wrong}", limit.as_millis()));
            }
            sleep(LOOK);
        }
        self.longest = self.longest.max(started.elapsed());
        self.settled = true;
        Ok(())
    }

    /// The file is made anew at most once a second.
    fn audit(&mut self, limit: Duration) -> Result<(), String> {
        let started = Instant::now();
        loop {
            let expected = self.account.settled(&self.cpus()?);
            let found = table::parse(&files::read("audit")?, self.regions)?;
            self.looks += 1;
            let Some(wrong) = table::difference(&found, &expected) else { return Ok(()) };
            if started.elapsed() > limit {
                return Err(format!("audit: {wrong}"));
            }
            sleep(LOOK);
        }
    }

    /// The module's own account of the laws must be clean, too.
    fn end(&mut self) -> Result<(), String> {
        self.is_safe()?;
        let laws = self.host.read("laws")?;
        for key in ["law.1.breaches", "law.4.breaches", "law.6.breaches"] {
            match files::value(&laws, key) {
                Some(0) => {}
                other => return Err(format!("{key} is {other:?}, expected 0")),
            }
        }
        if !self.loaded {
            return Ok(());
        }
        match files::value(&files::read("stats")?, "unclean") {
            Some(0) => Ok(()),
            other => Err(format!("unclean is {other:?}, expected 0")),
        }
    }
}
