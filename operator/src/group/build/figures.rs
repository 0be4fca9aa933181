//! Figures as the status shows them: rounded, so that a steady state looks steady and is not written again and again.

use sluice_crds::Duration;

/// To two significant digits; numbers below 100 are left as they are.
pub(super) fn round(number: u64) -> u64 {
    let mut unit = 1_u64;
    while number / unit >= 100 {
        unit *= 10;
    }
    (number / unit + u64::from(number % unit >= unit.div_ceil(2) && unit > 1)).saturating_mul(unit)
}

/// To whole minutes, and these to two significant digits; at least one.
pub(super) fn round_span(seconds: u64) -> Duration {
    Duration::from_secs(round(seconds.div_ceil(60).max(1)).saturating_mul(60))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn figures_keep_two_digits() {
        for (exact, shown) in [
            (0, 0),
            (7, 7),
            (99, 99),
            (100, 100),
            (104, 100),
            (105, 110),
            (994, 990),
            (996, 1000),
            (17_283_456, 17_000_000),
        ] {
            assert_eq!(round(exact), shown, "{exact}");
        }
        assert_eq!(round_span(1), Duration::from_secs(60));
        assert_eq!(round_span(86_400), Duration::from_secs(84_000));
    }

    proptest! {
        #[test]
        fn a_rounded_figure_is_near_and_stays_as_it_is(exact in any::<u64>()) {
            let shown = round(exact);
            prop_assert!(shown.abs_diff(exact) <= exact / 20);
            prop_assert!(shown == u64::MAX || round(shown) == shown);
        }
    }
}
