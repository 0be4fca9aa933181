//! The test of the tests. A proof shows that a rule is kept, or that a field of a profile does what its value says. Each
//! must hold as things are, and must fail once its rule is taken away, or its field has any other value: a proof that
//! can't fail proves nothing. A rule or a value without a proof is an error.

mod api;
mod platform;
mod wire;

use crate::profile::{FIELDS, Profile};
use crate::rules::{Rule, Rules};
use crate::terms::Terms;

/// What a proof is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// A rule.
    Rule(Rule),
    /// A value of a profile's field.
    Value(&'static str, &'static str),
}

/// Shows that something is as it should be; says what is not.
struct Proof {
    of: Subject,
    /// Gets the terms that it must run under, and may change the limits.
    run: fn(Terms) -> Result<(), String>,
}

impl Proof {
    const fn rule(rule: Rule, run: fn(Terms) -> Result<(), String>) -> Self {
        Self { of: Subject::Rule(rule), run }
    }

    const fn value(field: &'static str, value: &'static str, run: fn(Terms) -> Result<(), String>) -> Self {
        Self { of: Subject::Value(field, value), run }
    }
}

/// `Err` with these words unless it holds.
fn ensure(holds: bool, words: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(words.into()) }
}

fn proofs() -> impl Iterator<Item = &'static Proof> {
    [platform::PROOFS, wire::PROOFS, api::PROOFS].into_iter().flatten()
}

fn under(field: &str, value: &str) -> Terms {
    Terms { profile: Profile::default().with(field, value).unwrap(), ..Terms::default() }
}

/// The terms that a proof must hold under, and those that it must fail under, by name.
fn cases(of: Subject) -> (Terms, Vec<(String, Terms)>) {
    match of {
        Subject::Rule(rule) => {
            let without = Terms { rules: Rules::without(rule), ..Terms::default() };
            (Terms::default(), vec![(format!("without {rule:?}"), without)])
        }
        Subject::Value(field, value) => {
            let values = FIELDS.iter().find(|it| it.name == field).unwrap().values;
            let others = values.iter().map(|(other, _)| *other).filter(|other| *other != value);
            (under(field, value), others.map(|other| (format!("{field}={other}"), under(field, other))).collect())
        }
    }
}

#[test]
fn every_proof_holds() {
    for proof in proofs() {
        let (terms, _) = cases(proof.of);
        (proof.run)(terms).unwrap_or_else(|words| panic!("{:?}: {words}", proof.of));
    }
}

#[test]
fn every_proof_fails_without_what_it_proves() {
    for proof in proofs() {
        for (name, terms) in cases(proof.of).1 {
            assert!((proof.run)(terms).is_err(), "{:?} is proven also {name}", proof.of);
        }
    }
}

#[test]
fn everything_has_a_proof() {
    let has = |of: Subject| proofs().any(|proof| proof.of == of);
    for &rule in Rule::ALL {
        assert!(has(Subject::Rule(rule)), "{rule:?} has no proof");
    }
    for field in FIELDS {
        for (value, _) in field.values {
            assert!(has(Subject::Value(field.name, value)), "{}={value} has no proof", field.name);
        }
    }
}
