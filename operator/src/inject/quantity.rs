//! Kubernetes quantities (`100m`, `64Mi`, `1e3`) as numbers that can be compared: the same amount is spelt in many ways,
//! and whether a pod is Guaranteed depends on amounts.

use std::str::FromStr;

/// An amount, in billionths (the finest that Kubernetes knows), rounded up. Never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Amount(i128);

impl Amount {
    /// Whether it is nothing at all.
    pub(super) fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// Not a quantity, or one beyond what Kubernetes stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a quantity such as 100m or 64Mi")]
pub(super) struct NotAQuantity;

/// Digits that a number may have before and after its point: more can't be told apart, nor do they fit.
const MOST_DIGITS: usize = 18;

impl FromStr for Amount {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        let text = text.strip_prefix('+').unwrap_or(text);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || digits.len() > MOST_DIGITS {
            return Err(NotAQuantity);
        }
        let digits: i128 = digits.parse().map_err(|_| NotAQuantity)?;
        let scale = i32::try_from(fraction.len()).map_err(|_| NotAQuantity)?;
        let (factor, power) = unit(suffix)?;
        let value = digits.checked_mul(factor).ok_or(NotAQuantity)?;
        times_ten_to(value, power + 9 - scale).map(Self).ok_or(NotAQuantity)
    }
}

/// What a suffix stands for: a factor, and a power of ten.
fn unit(suffix: &str) -> Result<(i128, i32), NotAQuantity> {
    Ok(match suffix {
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "" => (1, 0),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(NotAQuantity)?;
            let exponent: i32 = exponent.parse().map_err(|_| NotAQuantity)?;
            if !(-18..=18).contains(&exponent) {
                return Err(NotAQuantity);
            }
            (1, exponent)
        }
    })
}

/// Rounds up, as Kubernetes does.
fn times_ten_to(value: i128, power: i32) -> Option<i128> {
    let factor = 10_i128.checked_pow(power.unsigned_abs())?;
    if power >= 0 { value.checked_mul(factor) } else { Some(value / factor + i128::from(value % factor != 0)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn amount(text: &str) -> Amount {
        text.parse().unwrap_or_else(|_| panic!("{text} is a quantity"))
    }

    #[test]
    fn one_amount_has_many_spellings() {
        for (one, other) in [
            ("1", "1000m"),
            ("1Gi", "1024Mi"),
            ("1G", "1e9"),
            ("0.5", "500m"),
            ("1E", "1E18"),
            ("+2k", "2000"),
            (".1", "100m"),
        ] {
            assert_eq!(amount(one), amount(other), "{one} {other}");
        }
        assert!(amount("1Gi") > amount("1G"));
        assert!(amount("0").is_zero() && amount("0Mi").is_zero() && !amount("0.1n").is_zero());
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "m", "-1", "1 Mi", "1mi", "1..2", "1e", "1e99", "1Zi", "9999999999999999999", "."] {
            assert_eq!(text.parse::<Amount>(), Err(NotAQuantity), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[+-]?[0-9.]{0,24}[a-zA-Z0-9]{0,4}") {
            let _ = text.parse::<Amount>();
        }
    }
}
