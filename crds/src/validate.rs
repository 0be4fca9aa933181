//! What makes a document valid beyond its form. Every check adds to one list, so that a user sees all that is wrong at
//! once; each finding says where, what was found, what is expected, and what to do. What is checked is in
//! [`crate::rules`].

use std::fmt::{self, Display};

use crate::rules::{self, form};
use crate::{ConsumerGroupSpec, Document};

/// Where a document counts. A few fields mean something in one place only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In a cluster, with an operator that grants slots and holds the keys.
    Cluster,
    /// In a file, with a sidecar that is on its own.
    File,
}

/// One value that can't be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, as the document spells it: `spec.delivery.leaseDuration`. `[]` stands for any item of a list.
    pub path: &'static str,
    /// The value that was found, or a description of it.
    pub found: String,
    /// What it must be.
    pub expected: String,
    /// What to do about it.
    pub advice: &'static str,
}

impl Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, but must be {}: {}", self.path, self.found, self.expected, self.advice)
    }
}

/// All that is wrong with a document; at least one thing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Violations(pub Vec<Violation>);

impl Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, violation) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{violation}")?;
        }
        Ok(())
    }
}

impl Violations {
    fn check(found: Vec<Violation>) -> Result<(), Self> {
        if found.is_empty() { Ok(()) } else { Err(Self(found)) }
    }
}

impl Document {
    /// Checks the whole document, as a sidecar runs from it.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut found: Vec<_> = rules::name::check(&self.metadata.name).into_iter().collect();
        if let Some(namespace) = self.metadata.namespace.as_deref().filter(|namespace| !form::DNS_LABEL.fits(namespace))
        {
            found.push(Violation {
                path: "metadata.namespace",
                found: form::quoted(namespace),
                expected: form::DNS_LABEL.expected.to_owned(),
                advice: "use lower-case letters, digits and '-', with a letter or digit at either end",
            });
        }
        found.extend(self.spec.violations(Mode::File));
        Violations::check(found)
    }
}

#[cfg(feature = "kube")]
impl crate::ConsumerGroup {
    /// Checks the whole object, as the API server does on its creation. An operator does not take its word for it: the
    /// definition in the cluster may be an older one.
    pub fn validate(&self) -> Result<(), Violations> {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let mut found: Vec<_> = rules::name::check(name).into_iter().collect();
        found.extend(self.spec.violations(Mode::Cluster));
        Violations::check(found)
    }
}

impl ConsumerGroupSpec {
    /// Checks the values of all fields, and how they go together.
    pub fn validate(&self, mode: Mode) -> Result<(), Violations> {
        Violations::check(self.violations(mode))
    }

    /// Checks that what identifies the platform's group has not changed since `old`.
    pub fn validate_change(&self, old: &Self) -> Result<(), Violations> {
        Violations::check(rules::all().filter_map(|rule| rule.check_change(old, self)).collect())
    }

    fn violations(&self, mode: Mode) -> Vec<Violation> {
        rules::all().filter(|rule| rule.applies(mode)).flat_map(|rule| rule.check(self)).collect()
    }
}

#[cfg(test)]
mod tests;
