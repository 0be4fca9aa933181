//! Durations as Kubernetes users write them: `25s`, `200ms`, `1h30m`.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A length of time, in whole milliseconds. Written as numbers with units from large to small, each unit at most once:
/// `h`, `m`, `s`, `ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    millis: u64,
}

/// Why a text is not a [`Duration`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text is not numbers with units.
    #[error(
        "{0:?} is not a duration; write whole numbers with units (h, m, s, ms) from large to small, such as 25s, 200ms or 1h30m"
    )]
    Syntax(String),
    /// A number without a unit: nobody can tell what it counts.
    #[error("{0:?} has no unit; write {0}s for seconds or {0}ms for milliseconds")]
    NoUnit(String),
    /// More than can be counted.
    #[error("{0:?} is longer than any duration can be")]
    TooLong(String),
}

/// The units, from large to small, with their milliseconds.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Duration {
    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self { millis }
    }

    /// So many seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self { millis: secs.saturating_mul(1_000) }
    }

    /// The standard library's form of it.
    pub const fn get(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.millis)
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        duration.get()
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let syntax = || DurationError::Syntax(text.to_owned());
        let too_long = || DurationError::TooLong(text.to_owned());
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(DurationError::NoUnit(text.to_owned()));
        }

        let mut units = UNITS.iter();
        let mut millis: u64 = 0;
        let mut rest = text;
        loop {
            let (number, after) = split_at_non(rest, u8::is_ascii_digit);
            let (unit, after) = split_at_non(after, u8::is_ascii_alphabetic);
            if number.is_empty() {
                return Err(syntax());
            }
            // Going on where the last unit was found keeps them in order, and each to once.
            let (_, unit_millis) = units.find(|(name, _)| *name == unit).ok_or_else(syntax)?;
            let count: u64 = number.parse().map_err(|_| too_long())?;
            millis = count.checked_mul(*unit_millis).and_then(|part| millis.checked_add(part)).ok_or_else(too_long)?;
            if after.is_empty() {
                return Ok(Self { millis });
            }
            rest = after;
        }
    }
}

/// Splits the text before its first byte that does not belong.
fn split_at_non(text: &str, belongs: impl Fn(&u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|b| !belongs(&b)).unwrap_or(text.len());
    text.split_at(end)
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.millis == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.millis;
        for (name, millis) in UNITS {
            let count = rest / millis;
            rest %= millis;
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not only a string: a number alone gets an error that says what is missing.
        deserializer.deserialize_any(DurationVisitor)
    }
}

#[cfg(feature = "kube")]
impl serde::Serialize for Duration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "kube")]
impl schemars::JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string"})
    }
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as 25s, 200ms or 1h30m")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Duration, E> {
        self.visit_str(&number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_duration_is_numbers_with_units() {
        for (text, millis) in [
            ("0s", 0),
            ("200ms", 200),
            ("25s", 25_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("1h1m1s1ms", 3_661_001),
            ("1h1ms", 3_600_001),
            ("90s", 90_000),
        ] {
            assert_eq!(text.parse(), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", " ", "s", "-1s", "1.5s", "1 s", "25S", "1s1h", "1s1s", "1d", "1us", "25s ", "1msx", "٣s", "1h30"]
        {
            assert_eq!(text.parse::<Duration>(), Err(DurationError::Syntax(text.to_owned())), "{text}");
        }
        assert_eq!("25".parse::<Duration>(), Err(DurationError::NoUnit("25".to_owned())));
        for text in ["99999999999999999999s", "18446744073709551615h", "18446744073709551s18446744073709551615ms"] {
            assert_eq!(text.parse::<Duration>(), Err(DurationError::TooLong(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_number_alone_says_that_the_unit_is_missing() {
        let message = serde_json::from_str::<Duration>("25").unwrap_err().to_string();
        assert!(message.contains("\"25\" has no unit; write 25s for seconds or 25ms"), "{message}");
        let message = serde_saphyr::from_str::<Duration>("25").unwrap_err().to_string();
        assert!(message.contains("\"25\" has no unit; write 25s for seconds or 25ms"), "{message}");
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(millis: u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn reading_never_panics(text in "\\PC*", near in "[0-9hms.]{0,30}") {
            let _ = text.parse::<Duration>();
            let _ = near.parse::<Duration>();
        }
    }
}
