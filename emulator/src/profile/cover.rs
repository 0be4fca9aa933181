//! Which profiles to run when every one is too many: each value alone, and few enough that every two values meet.

use std::collections::BTreeSet;

use super::{FIELDS, Profile};

/// A profile and what is special about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variation {
    /// The fields that have no default, as `field=value`, with a space between two.
    pub name: String,
    /// The profile.
    pub profile: Profile,
}

impl Variation {
    /// Of the index of the value that each field has.
    fn of(choice: &[usize]) -> Self {
        let chosen = FIELDS.iter().zip(choice).filter(|(_, index)| **index > 0);
        let (mut profile, mut names) = (Profile::default(), Vec::new());
        for (field, index) in chosen {
            let (value, _) = field.values[*index];
            // A test holds the table against the types.
            profile = profile.with(field.name, value).unwrap_or(profile);
            names.push(format!("{}={value}", field.name));
        }
        Self { name: names.join(" "), profile }
    }
}

pub(super) fn alone() -> Vec<Variation> {
    let one = |field: usize, value: usize| {
        let mut choice = vec![0; FIELDS.len()];
        choice[field] = value;
        Variation::of(&choice)
    };
    FIELDS.iter().enumerate().flat_map(|(field, it)| (1..it.values.len()).map(move |value| one(field, value))).collect()
}

/// A value of a field, by their indices.
type Chosen = (usize, usize);

/// Greedy: each profile begins with a pair that is missing, and goes on with the value of each further field that adds
/// most.
pub(super) fn pairs() -> Vec<Variation> {
    let values = |field: usize| 0..FIELDS[field].values.len();
    let mut missing: BTreeSet<(Chosen, Chosen)> = BTreeSet::new();
    for first in 0..FIELDS.len() {
        for second in first + 1..FIELDS.len() {
            for one in values(first) {
                missing.extend(values(second).map(|other| ((first, one), (second, other))));
            }
        }
    }
    let pair = |one: Chosen, other: Chosen| if one < other { (one, other) } else { (other, one) };
    let mut found = Vec::new();
    while let Some(&(one, other)) = missing.first() {
        let mut chosen = vec![one, other];
        for field in (0..FIELDS.len()).filter(|field| ![one.0, other.0].contains(field)) {
            let gain = |value: usize| chosen.iter().filter(|it| missing.contains(&pair(**it, (field, value)))).count();
            // Of equals the last one, so that defaults come when nothing else is to be gained.
            let best = values(field).rev().max_by_key(|value| gain(*value)).unwrap_or(0);
            chosen.push((field, best));
        }
        for (index, &one) in chosen.iter().enumerate() {
            for &other in &chosen[index + 1..] {
                missing.remove(&pair(one, other));
            }
        }
        chosen.sort_unstable();
        found.push(Variation::of(&chosen.into_iter().map(|(_, value)| value).collect::<Vec<_>>()));
    }
    found
}
