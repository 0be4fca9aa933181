//! A name, or the beginning of one followed by `*`: how permissions and trusted subjects are written.

use serde::Deserialize;

/// The pattern. `iot:QueryConsumerGroupStatus` fits itself, `iot:*` whatever begins with `iot:`, `*` everything.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern that is written so.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether `name` fits.
    #[must_use]
    pub fn fits(&self, name: &str) -> bool {
        self.0.strip_suffix('*').map_or(self.0 == name, |beginning| name.starts_with(beginning))
    }

    /// How it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_at_the_end_stands_for_anything_and_elsewhere_for_itself() {
        for (pattern, name, fits) in [
            ("iot:sub", "iot:sub", true),
            ("iot:sub", "iot:subs", false),
            ("iot:*", "iot:sub", true),
            ("iot:*", "sts:AssumeRole", false),
            ("*", "", true),
            ("i*t", "iot", false),
            ("", "iot", false),
        ] {
            assert_eq!(Pattern::new(pattern).fits(name), fits, "{pattern} {name}");
        }
    }
}
