//! What the charts share: the frame, and axes with round numbers and their units.

use super::text::Text;

/// The plot inside a chart of [`WIDTH`] by `height`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plot {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// Width of every chart, in the units of its own picture.
pub(super) const WIDTH: f64 = 480.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 36.0;

/// A mark on an axis: where, 0 to 1, and its text.
pub(super) type Tick = (f64, String);

impl Plot {
    /// Begins a chart whose plot is `height` high; `about` is for those who cannot see it.
    pub(super) fn begin(out: &mut Text, height: f64, about: &str) -> Self {
        let plot = Self { left: LEFT, top: TOP, width: WIDTH - LEFT - RIGHT, height };
        out.put(format_args!(
            "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{}\">\
             <path class=\"plot\" d=\"M{} {}h{}v{}h-{}z\"/>",
            round(TOP + height + BOTTOM),
            super::Escaped(about),
            round(plot.left),
            round(plot.top),
            round(plot.width),
            round(plot.height),
            round(plot.width),
        ));
        plot
    }

    pub(super) fn end(out: &mut Text) {
        out.put(format_args!("</svg>"));
    }

    /// From 0 to 1 across.
    pub(super) fn x(&self, share: f64) -> f64 {
        round(self.left + self.width * share.clamp(0.0, 1.0))
    }

    /// From 0 at the bottom to 1 at the top.
    pub(super) fn y(&self, share: f64) -> f64 {
        round(self.top + self.height * (1.0 - share.clamp(0.0, 1.0)))
    }

    /// The axes with their marks and names.
    pub(super) fn axes(&self, out: &mut Text, x: (&[Tick], &str), y: (&[Tick], &str)) {
        let (bottom, right) = (self.y(0.0), self.x(1.0));
        for (at, text) in y.0 {
            let y = self.y(*at);
            out.put(format_args!(
                "<path class=\"rule\" d=\"M{} {y}H{right}\"/><text x=\"{}\" y=\"{}\" \
                 text-anchor=\"end\">{text}</text>",
                self.left,
                self.left - 6.0,
                round(y + 4.0)
            ));
        }
        for (at, text) in x.0 {
            let x = self.x(*at);
            // A text at the edge stays inside the picture.
            let anchor = if *at > 0.97 { "end" } else { "middle" };
            out.put(format_args!(
                "<path class=\"rule\" d=\"M{x} {bottom}V{}\"/><text x=\"{x}\" y=\"{}\" \
                 text-anchor=\"{anchor}\">{text}</text>",
                self.top,
                round(bottom + 15.0)
            ));
        }
        out.put(format_args!(
            "<path class=\"axis\" d=\"M{} {}V{bottom}H{right}\"/><text x=\"4\" y=\"13\">{}</text>\
             <text x=\"{right}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            self.left,
            self.top,
            y.1,
            round(bottom + 31.0),
            x.1
        ));
    }
}

/// A tenth of a unit is fine enough, and keeps the page small.
pub(super) fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0 + 0.0
}

/// A time axis from 0 to `end_s`: its marks, and its name with the unit.
pub(super) fn time_axis(end_s: f64) -> (Vec<Tick>, &'static str) {
    let units = [(86_400.0, "time, days"), (3600.0, "time, hours"), (60.0, "time, minutes")];
    let (unit, name) =
        units.into_iter().find(|(unit, _)| end_s >= unit * 3.0).unwrap_or((1.0, "time, seconds"));
    let end = end_s.max(1e-9) / unit;
    let step = nice_step(end / 5.0);
    let marks = (0..=20).map(|n| f64::from(n) * step).take_while(|&at| at <= end * 1.0001);
    (marks.map(|at| (at / end, number(at))).collect(), name)
}

/// The next of 1, 2, 5, 10, ...
fn nice_step(least: f64) -> f64 {
    let decade = 10f64.powf(least.max(1e-12).log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().find(|&step| step * decade >= least * 0.9999);
    step.unwrap_or(10.0) * decade
}

/// A logarithmic axis over whole decades that hold all values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    low: f64,
    decades: f64,
}

impl Log {
    /// `None` without a value above 0.
    pub(super) fn over(values: impl Iterator<Item = f64>) -> Option<Self> {
        let logs: Vec<f64> = values.filter(|&value| value > 0.0).map(f64::log10).collect();
        let low = logs.iter().copied().fold(f64::INFINITY, f64::min).floor();
        let high = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max).ceil();
        low.is_finite().then(|| Self { low, decades: (high - low).max(1.0) })
    }

    /// Where a value lies, from 0 to 1.
    pub(super) fn at(&self, value: f64) -> f64 {
        (value.max(1e-300).log10() - self.low) / self.decades
    }

    /// A mark at each decade, or at each second one where there are many.
    pub(super) fn ticks(&self) -> Vec<Tick> {
        let every = if self.decades > 7.0 { 2.0 } else { 1.0 };
        let marks = (0..40).map(|n| f64::from(n) * every).take_while(|&at| at <= self.decades);
        marks.map(|at| (at / self.decades, number(10f64.powf(self.low + at)))).collect()
    }
}

/// A round number: `0.001`, `5`, `2,000`.
fn number(value: f64) -> String {
    // A power of ten below 1 has as many as its place says.
    let decimals = (0..9).find(|&n| value == 0.0 || value * 10f64.powi(n) >= 0.9999).unwrap_or(9);
    let decimals = decimals.unsigned_abs() as usize;
    if value.fract().abs() > 1e-9 && decimals == 0 {
        return format!("{value:.1}");
    }
    let text = format!("{value:.decimals$}");
    match text.parse::<u64>() {
        Ok(whole) => crate::units::count(whole),
        Err(_) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_round_marks_in_a_unit_that_fits() {
        let texts = |end: f64| {
            let (ticks, name) = time_axis(end);
            assert!(ticks.iter().all(|tick| (0.0..=1.001).contains(&tick.0)));
            (ticks.into_iter().map(|tick| tick.1).collect::<Vec<_>>().join(" "), name)
        };
        assert_eq!(texts(60.0), ("0 20 40 60".into(), "time, seconds"));
        assert_eq!(texts(150.0), ("0 50 100 150".into(), "time, seconds"));
        assert_eq!(texts(600.0), ("0 2 4 6 8 10".into(), "time, minutes"));
        assert_eq!(texts(86_400.0), ("0 5 10 15 20".into(), "time, hours"));
        assert_eq!(texts(149.0 * 86_400.0).1, "time, days");
        assert_eq!(texts(0.5), ("0 0.1 0.2 0.3 0.4 0.5".into(), "time, seconds"));
    }

    #[test]
    fn decades_hold_all_values() {
        let log = Log::over([0.03, 4.0, 0.0].into_iter()).unwrap();
        let ticks: Vec<_> = log.ticks().into_iter().map(|tick| tick.1).collect();
        assert_eq!(ticks, ["0.01", "0.1", "1", "10"]);
        assert!((log.at(0.1) - 1.0 / 3.0).abs() < 1e-9);
        assert!(Log::over([0.0].into_iter()).is_none());
        let one = Log::over([10.0].into_iter()).unwrap();
        assert_eq!(one.ticks().len(), 2);
    }
}
