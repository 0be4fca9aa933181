//! The rules for a document's values, once: each one knows its field, how this process checks it, and how the schema of
//! the custom resource says the same to the API server, in the same words. What the schema alone can say (types, required
//! fields, choices) is in the types of [`crate::spec`].

/// How a duration is written, unless it is empty: a subset of what CEL's `duration` reads, and nothing that it can't count.
/// A macro, since it is a part of other texts.
macro_rules! duration_pattern {
    () => {
        "^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?$"
    };
}

mod fields;
pub(crate) mod form;
pub(crate) mod name;
mod relations;

use std::collections::HashSet;
use std::fmt::Display;

use crate::validate::{Mode, Violation};
use crate::{ByteQuantity, ConsumerGroupSpec as Spec, Duration};
use form::Form;

#[cfg(feature = "kube")]
pub(crate) use duration_pattern;

/// All rules for `spec`, in the order of its fields.
pub(crate) fn all() -> impl Iterator<Item = &'static Rule> {
    fields::RULES.iter().chain(relations::RULES)
}

/// A rule for one field, or for how several go together.
#[derive(Debug)]
pub(crate) struct Rule {
    /// The field that is to be changed if the rule is broken.
    pub(crate) path: &'static str,
    /// Where it holds; `None` if everywhere.
    pub(crate) only: Option<Mode>,
    /// What is demanded.
    pub(crate) demand: Demand,
    /// What to do if it is not so.
    pub(crate) advice: &'static str,
}

/// What is demanded of a value, and how the value is found. A field that is left out has none.
#[derive(Debug)]
#[cfg_attr(not(feature = "kube"), expect(dead_code, reason = "what the schema alone reads"))]
pub(crate) enum Demand {
    /// A whole number from `min` to `max`.
    Number { min: i64, max: i64, value: fn(&Spec) -> Option<i64> },
    /// A time from `min` to `max`.
    Time { min: Duration, max: Duration, value: fn(&Spec) -> Option<Duration> },
    /// So many bytes, from `min` to `max`.
    Size { min: ByteQuantity, max: ByteQuantity, value: fn(&Spec) -> Option<ByteQuantity> },
    /// A text of some form. Several, if the field is in a list.
    Text { form: &'static Form, value: for<'a> fn(&'a Spec) -> Vec<&'a str> },
    /// A list of `min` to `max` items, each once; `key` tells them apart, if it is not the whole item. Several, if the
    /// field is in a list.
    List { min: usize, max: usize, key: Option<&'static str>, value: fn(&Spec) -> Vec<Vec<String>> },
    /// Fields that go together.
    Relation(Relation),
    /// Something that stays as it is: `change` says what it would become. In CEL, `self` is the object or field `at`.
    Constant { at: &'static str, cel: &'static str, change: fn(&Spec, &Spec) -> Option<String> },
}

/// How fields go together.
#[derive(Debug)]
#[cfg_attr(not(feature = "kube"), expect(dead_code, reason = "what the schema alone reads"))]
pub(crate) struct Relation {
    /// The object that has them all.
    pub(crate) at: &'static str,
    /// The rule in CEL, where `self` is that object. `None` if it is for files alone.
    pub(crate) cel: Option<&'static str>,
    /// What the field must be.
    pub(crate) expected: &'static str,
    /// What was found in place of it; `None` if the rule is kept.
    pub(crate) broken: fn(&Spec) -> Option<String>,
}

impl Rule {
    pub(crate) fn applies(&self, mode: Mode) -> bool {
        self.only.is_none_or(|only| only == mode)
    }

    /// What breaks the rule.
    pub(crate) fn check(&self, spec: &Spec) -> Vec<Violation> {
        let found = match &self.demand {
            Demand::Number { min, max, value } => outside(value(spec), min, max),
            Demand::Time { min, max, value } => outside(value(spec), min, max),
            Demand::Size { min, max, value } => outside(value(spec), min, max),
            Demand::Text { form, value } => {
                value(spec).into_iter().filter(|text| !form.fits(text)).map(|text| form.shown(text)).collect()
            }
            Demand::List { min, max, value, .. } => {
                value(spec).iter().filter_map(|items| wrong_items(items, *min, *max)).collect()
            }
            Demand::Relation(relation) => (relation.broken)(spec).into_iter().collect(),
            Demand::Constant { .. } => Vec::new(),
        };
        found.into_iter().map(|found| self.violation(found)).collect()
    }

    /// What breaks the rule, if it is one about changes.
    pub(crate) fn check_change(&self, old: &Spec, new: &Spec) -> Option<Violation> {
        match &self.demand {
            Demand::Constant { change, .. } => change(old, new).map(|found| self.violation(found)),
            _ => None,
        }
    }

    /// What the field must be, in words that follow on "must be".
    pub(crate) fn expected(&self) -> String {
        let range = |min: &dyn Display, max: &dyn Display| format!("from {min} to {max}");
        match &self.demand {
            Demand::Number { min, max, .. } => range(min, max),
            Demand::Time { min, max, .. } => range(min, max),
            Demand::Size { min, max, .. } => range(min, max),
            Demand::Text { form, .. } => form.expected.to_owned(),
            Demand::List { min, max, .. } => format!("a list of {min} to {max} items, each once"),
            Demand::Relation(relation) => relation.expected.to_owned(),
            Demand::Constant { .. } => "what it was".to_owned(),
        }
    }

    fn violation(&self, found: String) -> Violation {
        Violation { path: self.path, found, expected: self.expected(), advice: self.advice }
    }
}

fn outside<T: PartialOrd + Display>(value: Option<T>, min: &T, max: &T) -> Vec<String> {
    value.filter(|value| !(min..=max).contains(&value)).map(|value| value.to_string()).into_iter().collect()
}

fn wrong_items(items: &[String], min: usize, max: usize) -> Option<String> {
    let mut seen = HashSet::new();
    if let Some(twice) = items.iter().find(|item| !seen.insert(*item)) {
        return Some(format!("a list with {twice:?} twice"));
    }
    (!(min..=max).contains(&items.len())).then(|| format!("a list of {} items", items.len()))
}
