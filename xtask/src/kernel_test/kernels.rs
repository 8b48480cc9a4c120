//! Which kernels the module is tested in.

use crate::kernel_env::Flavour;

/// Kernels and machines.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct Kernels {
    #[command(flatten)]
    only: Only,
    /// Also the machines that take minutes
    #[arg(long)]
    slow: bool,
    /// In all kernels, also the machines that take minutes
    #[arg(long)]
    full: bool,
}

/// Without any: the kernels of the checks, which are the stock kernel and the debug kernel without KASAN.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
struct Only {
    /// In the stock kernel only
    #[arg(long)]
    stock: bool,
    /// In the debug kernel only
    #[arg(long)]
    debug: bool,
    /// In the debug kernel with KASAN only
    #[arg(long)]
    kasan: bool,
}

impl Kernels {
    /// In the order in which they are booted.
    pub(super) fn flavours(self) -> Vec<Flavour> {
        let Only { stock, debug, kasan } = self.only;
        let none = !(stock || debug || kasan);
        let wanted = [
            (Flavour::Stock, stock || none),
            (Flavour::Debug, debug || none),
            (Flavour::Kasan, kasan),
        ];
        let all = wanted.into_iter().filter(|(_, wanted)| *wanted || self.full);
        all.map(|(flavour, _)| flavour).collect()
    }

    /// Whether the machines that take minutes are booted, too.
    pub(super) const fn slow(self) -> bool {
        self.slow || self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checks_kernels_are_those_that_nobody_names() {
        use Flavour::{Debug, Kasan, Stock};
        let named = |stock, debug, kasan| {
            let only = Only { stock, debug, kasan };
            Kernels { only, slow: true, full: false }.flavours()
        };
        assert_eq!(named(false, false, false), [Stock, Debug]);
        assert_eq!(named(true, false, false), [Stock]);
        assert_eq!(named(false, true, true), [Debug, Kasan]);
        assert_eq!(Kernels { full: true, ..Kernels::default() }.flavours(), [Stock, Debug, Kasan]);
    }
}
