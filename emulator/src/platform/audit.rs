//! What the platform sees of its own mistakes: an accepted message that is pushed again, a message in two places, counts that
//! do not add up. There should be none, ever.

use serde::Serialize;

/// How many are described.
const DESCRIBED: usize = 100;

/// Whether everything adds up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Whether there are no violations.
    pub consistent: bool,
    /// What is wrong, the first hundred of them.
    pub violations: Vec<String>,
}

/// What has been seen so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Violations {
    words: Vec<String>,
    left_out: u64,
}

impl Violations {
    pub(super) fn add(&mut self, words: String) {
        tracing::error!(violation = words, "the platform contradicts itself");
        if self.words.len() < DESCRIBED {
            self.words.push(words);
        } else {
            self.left_out += 1;
        }
    }

    /// These, and more.
    pub(super) fn report(&self, more: impl IntoIterator<Item = String>) -> Audit {
        let mut violations = self.words.clone();
        violations.extend(more);
        let left_out = self.left_out + violations.len().saturating_sub(DESCRIBED) as u64;
        violations.truncate(DESCRIBED);
        if left_out > 0 {
            violations.push(format!("and {left_out} more"));
        }
        Audit { consistent: violations.is_empty(), violations }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_counted_and_few_are_described() {
        let mut violations = Violations::default();
        assert_eq!(violations.report([]), Audit { consistent: true, violations: Vec::new() });
        for number in 0..150 {
            violations.add(number.to_string());
        }
        let audit = violations.report(["one".to_owned()]);
        assert_eq!((audit.consistent, audit.violations.len()), (false, DESCRIBED + 1));
        assert_eq!(audit.violations.last().map(String::as_str), Some("and 51 more"));
    }
}
