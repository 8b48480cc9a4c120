//! What things cost on the emulated host, in whole nanoseconds.
//!
//! Nothing here was measured on hardware with RMPOPT. Three figures are fitted to what AMD posted
//! ([`calibrate`](crate::calibrate)); the rest are assumptions with a range, and say so. The table for
//! people is docs/costs.md.

mod choices;
mod draw;

pub use self::choices::{Draws, Parallel};
pub(crate) use self::draw::Dice;

/// One line of the cost table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CostField {
    /// Name of the field in [`CostModel`].
    pub name: &'static str,
    /// Value in use.
    pub value: u64,
    /// Unit of value, low and high.
    pub unit: &'static str,
    /// Lowest value thought plausible.
    pub low: u64,
    /// Highest value thought plausible.
    pub high: u64,
    /// Where value and range come from; begins with "assumed" where no source gives them.
    pub source: &'static str,
}

macro_rules! cost_model {
    ($($(#[doc = $doc:literal])+ $name:ident = $default:literal $unit:ident,
        $low:literal..$high:literal, $source:literal;)*) => {
        /// What things cost.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct CostModel {
            /// How the posted slowdown of RMPOPTs that run together is read.
            pub parallel: Parallel,
            /// Whether each RMPOPT takes its mean time, or one drawn.
            pub draws: Draws,
            $(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nDefault ", $default, " ", stringify!($unit), ", range ", $low, " to ", $high,
                    ". Source: ", $source, ".")]
                pub $name: u64,
            )*
        }

        impl CostModel {
            /// The defaults.
            pub const DEFAULT: Self = Self {
                parallel: Parallel::Misses,
                draws: Draws::Mean,
                $($name: $default,)*
            };

            /// Every number with its unit, range and source, in a fixed order.
            pub fn fields(&self) -> Vec<CostField> {
                vec![$(CostField {
                    name: stringify!($name),
                    value: self.$name,
                    unit: stringify!($unit),
                    low: $low,
                    high: $high,
                    source: $source,
                },)*]
            }

            /// Sets the number of that name; `false` if there is none.
            pub fn set(&mut self, name: &str, value: u64) -> bool {
                match name {
                    $(stringify!($name) => self.$name = value,)*
                    _ => return false,
                }
                true
            }
        }
    };
}

cost_model! {
    /// RMPOPT that scans a clean region, 512 lines of the RMP, alone on the host; on two sockets half
    /// of the regions are near and half far.
    rmpopt_slow = 108_189 ns, 20_000..600_000,
        "fitted: AMD's posted runs, 95 and 311 ms over 2,048 regions";
    /// RMPOPT that meets a cached result, alone on the host.
    rmpopt_fast = 1_058 ns, 50..3_000,
        "fitted: AMD's posted serial mean, 5,226 cycles at about 2 GHz";
    /// One line of the RMP in the memory of the CPU's own socket.
    rmp_line_local = 125 ns, 105..170,
        "memory latency of an EPYC 7002, 113 to 134 ns; MLC on an SNP host, 129 to 169 ns";
    /// One line of the RMP in the other socket's memory.
    rmp_line_remote = 220 ns, 190..300, "assumed: remote memory latency of two-socket EPYCs";
    /// One line of the RMP that another CPU has just read.
    rmp_line_cached = 14 ns, 12..20, "L3 latency of an EPYC 7002, 10 ns, and larger ones since";
    /// How long a scan's result is kept. At least as long as the posted pass, whose followers use it;
    /// at most as long as from one guest's end to the next, since 317 and 369 ms were posted where all
    /// but a few regions had not changed.
    scan_kept = 5_000_000_000 ns, 400_000_000..3_600_000_000_000, "assumed between these two";
    /// Drawn: times of RMPOPT are spread evenly over the mean plus and minus this share of it.
    rmpopt_spread = 430 permille, 0..900, "AMD's posted serial trace, 2,000 to 5,000 cycles";
    /// Drawn: of a million RMPOPTs so many belong to the heavy tail.
    rmpopt_tail = 20 ppm, 0..1_000, "assumed; AMD posted the largest of about a million";
    /// Drawn: least that one of the tail takes longer; half of them take twice that, a quarter four
    /// times, and so on.
    rmpopt_tail_min = 20_000 ns, 1_000..40_000,
        "assumed, below the smaller posted maximum of 83,680 cycles";
    /// Drawn: most that one of the tail takes longer.
    rmpopt_tail_max = 570_000 ns, 40_000..2_000_000,
        "AMD's posted serial maximum, 1,143,020 cycles at about 2 GHz";
    /// Drawn: of a million RMPOPTs that could use a cached result so many find it lost, and scan.
    cache_loss = 50 ppm, 0..10_000, "assumed; followers are designed to skip the scan, not promised to";
    /// IPI on the CPU that receives it: handler's entry and exit, without the work it does.
    ipi_target = 1_000 ns, 500..3_000, "assumed";
    /// What an interruption costs beyond that if the CPU ran a guest: exit and re-entry.
    guest_exit = 1_500 ns, 1_000..4_000, "assumed";
    /// IPI on the CPU that sends it, once for each call.
    ipi_send = 1_000 ns, 500..3_000, "assumed, from an explainer on TLB shootdown: about 1 us base";
    /// ... and for each target.
    ipi_send_target = 81 ns, 50..500,
        "fitted: AMD's posted 95 ms; an explainer on TLB shootdown has about 0.2 us each";
    /// Work item that has to wake its worker: wake-up and two context switches.
    work_wakeup = 3_000 ns, 1_000..10_000, "assumed";
    /// Timer interrupt that would not have come anyway.
    timer = 1_500 ns, 500..4_000, "assumed";
    /// What a tick that comes anyway takes longer because it looks whether there is something to do.
    tick_extra = 300 ns, 50..1_000, "assumed";
    /// WRMSR of `RMPOPT_BASE` on the CPU itself.
    wrmsr = 300 ns, 100..2_000, "assumed";
    /// One RMPUPDATE of either size, with its flush of every TLB.
    rmpupdate = 1_000 ns, 200..10_000, "assumed";
    /// Giving a guest one 4 KiB page, without the RMPUPDATE: fault, allocation, split of the direct
    /// map.
    to_private_4k = 2_600 ns, 500..20_000, "assumed";
    /// Giving a guest one 2 MiB page, without the RMPUPDATE.
    to_private_2m = 144_000 ns, 50_000..500_000, "assumed";
    /// Taking one 4 KiB page back, without the RMPUPDATE: cache flush, release. With it 100 GiB take
    /// 52 s, so that a large guest's memory is still being converted when upstream's 10 s are over
    /// (spec/rmpopt.md 4, v10).
    to_shared_4k = 1_000 ns, 500..10_000, "assumed";
    /// Taking one 2 MiB page back, without the RMPUPDATE.
    to_shared_2m = 99_000 ns, 20_000..400_000, "assumed";
    /// PVALIDATE of a 4 KiB page, or one that fails.
    pvalidate_4k = 400 ns, 100..2_000, "assumed";
    /// PVALIDATE of a 2 MiB page.
    pvalidate_2m = 5_000 ns, 400..50_000, "assumed";
    /// Nested page fault that asks for a split: exit, look-up, zap of the mapping, entry.
    rmp_fault = 4_000 ns, 1_500..20_000, "assumed";
    /// PSMASH: 512 entries are written.
    psmash = 2_000 ns, 500..20_000, "assumed";
    /// One firmware command but for `SNP_LAUNCH_UPDATE`.
    firmware_command = 250_000 ns, 20_000..20_000_000, "assumed";
    /// `SNP_LAUNCH_UPDATE` of one 4 KiB page: encrypted and measured.
    launch_update = 50_000 ns, 10_000..500_000, "assumed";
    /// WBINVD on every CPU, until the last has done it.
    wbinvd_all = 2_000_000 ns, 100_000..100_000_000, "assumed";
}

impl Default for CostModel {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl CostModel {
    /// RMP lines that RMPOPT reads in a clean region: one entry of each 2 MiB (spec/rmpopt.md 1).
    pub const SCAN_LINES: u64 = snp_defs::LARGE_PAGES_PER_REGION;

    /// One line of the RMP in the memory of the CPU's own socket (`near`) or of another.
    pub const fn line_ns(&self, near: bool) -> u64 {
        if near { self.rmp_line_local } else { self.rmp_line_remote }
    }

    /// Mean time of an RMPOPT that reads `lines` lines of the RMP: `rmpopt_fast`, and for each line a
    /// 512th of `rmpopt_slow - rmpopt_fast`, in the proportion of this line to the mean of a near and a
    /// far one.
    ///
    /// So an RMPOPT that meets an assigned page at once costs little more than `rmpopt_fast`. That an
    /// early exit costs in proportion is an assumption; AMD says only that it is the cheapest case and
    /// a clean region the dearest. Rounded down.
    pub fn scan_ns(&self, lines: u32, near: bool) -> u64 {
        self.lines_ns(lines, self.line_ns(near))
    }

    /// The same where another CPU has just read the lines.
    pub fn reread_ns(&self, lines: u32) -> u64 {
        self.lines_ns(lines, self.rmp_line_cached)
    }

    fn lines_ns(&self, lines: u32, line_ns: u64) -> u64 {
        let scan = u128::from(self.rmpopt_slow.saturating_sub(self.rmpopt_fast));
        // Twice the mean of a near and a far line.
        let mean = u128::from(self.rmp_line_local) + u128::from(self.rmp_line_remote);
        let part = 2 * u128::from(lines) * u128::from(line_ns);
        let share = scan.saturating_mul(part) / (u128::from(Self::SCAN_LINES) * mean.max(1));
        self.rmpopt_fast.saturating_add(u64::try_from(share).unwrap_or(u64::MAX))
    }

    /// The longest an RMPOPT that scans may take, and one that finds a cached result. What is drawn
    /// from the heavy tail is in the first: such an RMPOPT counts as slow.
    pub fn worst_ns(&self) -> (u64, u64) {
        let scan =
            self.scan_ns(Self::SCAN_LINES as u32, self.rmp_line_local > self.rmp_line_remote);
        match self.draws {
            Draws::Mean => (scan, self.rmpopt_fast),
            Draws::Drawn => {
                let most = |ns: u64| ns.saturating_add(per_mille(ns, self.rmpopt_spread));
                (most(scan).saturating_add(self.rmpopt_tail_max), most(self.rmpopt_fast))
            }
        }
    }

    /// Time after which the IPI to target number `targets`, from 1, has been sent.
    pub fn ipi_send_ns(&self, targets: u32) -> u64 {
        if targets == 0 {
            return 0;
        }
        self.ipi_send.saturating_add(self.ipi_send_target.saturating_mul(targets.into()))
    }
}

/// `share` thousandths of `ns`, rounded down.
fn per_mille(ns: u64, share: u64) -> u64 {
    u64::try_from(u128::from(ns) * u128::from(share) / 1_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_is_linear_in_lines_and_knows_near_from_far() {
        let cost = CostModel { rmpopt_slow: 105_000, rmpopt_fast: 1_500, ..CostModel::DEFAULT };
        let mean = |lines| u64::midpoint(cost.scan_ns(lines, true), cost.scan_ns(lines, false));
        assert!(mean(512).abs_diff(105_000) <= 1);
        assert!(mean(256).abs_diff(53_250) <= 1);
        assert_eq!(cost.scan_ns(0, true), 1_500);
        assert_eq!(cost.scan_ns(512, true), 1_500 + 103_500 * 125 * 2 / (125 + 220));
        assert!(cost.scan_ns(1, false) < 2_000);
        assert!(cost.reread_ns(512) < cost.scan_ns(512, true));
        let odd = CostModel { rmpopt_slow: 10, rmpopt_fast: 90, ..cost };
        assert_eq!(odd.reread_ns(512), 90);
        let huge = CostModel { rmpopt_slow: u64::MAX, ..cost };
        assert_eq!(huge.scan_ns(u32::MAX, false), u64::MAX);
    }

    #[test]
    fn every_default_lies_in_its_range_and_says_its_source() {
        let fields = CostModel::DEFAULT.fields();
        for field in &fields {
            assert!((field.low..=field.high).contains(&field.value), "{}", field.name);
            assert!(!field.source.is_empty() && ["ns", "ppm", "permille"].contains(&field.unit));
        }
        let mut names: Vec<_> = fields.iter().map(|f| f.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), fields.len());
    }

    #[test]
    fn fields_are_set_by_name() {
        let mut cost = CostModel::DEFAULT;
        for (value, field) in (7..).zip(CostModel::DEFAULT.fields()) {
            assert!(cost.set(field.name, value), "{}", field.name);
        }
        assert!(!cost.set("rmpopt", 1));
        assert!((7..).zip(cost.fields()).all(|(value, field)| field.value == value));
    }

    #[test]
    fn sending_counts_targets() {
        let cost = CostModel { ipi_send: 1_000, ipi_send_target: 200, ..CostModel::DEFAULT };
        assert_eq!(cost.ipi_send_ns(0), 0);
        assert_eq!(cost.ipi_send_ns(511), 1_000 + 511 * 200);
    }

    #[test]
    fn the_documented_table_is_this_one() {
        let docs = include_str!("../../../../docs/costs.md");
        let plain = |text: &str| text.replace(',', "");
        let rows: Vec<Vec<&str>> = docs
            .lines()
            .filter(|line| line.starts_with("| `") && line.matches('|').count() == 7)
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        let fields = CostModel::DEFAULT.fields();
        assert_eq!(rows.len(), fields.len());
        for (row, field) in rows.iter().zip(fields) {
            assert_eq!(row[1].trim_matches('`'), field.name);
            assert_eq!(plain(row[2]), field.value.to_string(), "{}", field.name);
            assert_eq!(row[3], field.unit, "{}", field.name);
            assert_eq!(plain(row[4]), format!("{} to {}", field.low, field.high), "{}", field.name);
            assert_eq!(row[5], field.source, "{}", field.name);
        }
    }
}
