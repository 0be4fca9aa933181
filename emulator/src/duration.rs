//! Durations as configuration writes them: a whole number and a unit, `500ms`, `15s`, `5m`, `24h`. For serde's `with`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| {
        de::Error::custom(format!(
            "{text:?} is not a duration: write a whole number and a unit, like 500ms, 15s, 5m or 24h"
        ))
    })
}

fn parse(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis_per_unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis_per_unit).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        assert_eq!(parse("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse("15s"), Some(Duration::from_secs(15)));
        assert_eq!(parse("5m"), Some(Duration::from_mins(5)));
        assert_eq!(parse("24h"), Some(Duration::from_hours(24)));
        for wrong in ["", "15", "s", "1.5s", "-1s", "15 s", "15d", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
