//! Pods whose label names a ConsumerGroup that does not exist: a slip of the pen that nothing else would tell of, since there
//! is no object whose status could. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::slots::GroupRef;
use crate::time::Time;

/// Whoever installs both may create the pods first.
const PATIENCE: Duration = Duration::from_secs(60);

/// Names that are looked for in vain.
#[derive(Debug, Clone, Default)]
pub struct Orphans(BTreeMap<GroupRef, Since>);

#[derive(Debug, Clone, Copy)]
struct Since {
    first: Time,
    told: bool,
}

impl Orphans {
    /// Takes in which names are looked for in vain now. Those that it is time to tell of: each once, for as long as it is
    /// missing.
    pub fn look(&mut self, missing: impl IntoIterator<Item = GroupRef>, at: Time) -> Vec<GroupRef> {
        let mut before = std::mem::take(&mut self.0);
        let mut due = Vec::new();
        for name in missing {
            let mut since = before.remove(&name).unwrap_or(Since { first: at, told: false });
            if !since.told && at.since(since.first) >= PATIENCE {
                since.told = true;
                due.push(name.clone());
            }
            self.0.insert(name, since);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(number: u8) -> GroupRef {
        GroupRef::new("plant-a", &format!("g{number}"))
    }

    proptest! {
        /// Whatever comes and goes: a name is told of once in each time that it is missing for a minute without a break.
        #[test]
        fn a_name_is_told_of_once_and_not_too_early(looks in prop::collection::vec((0..8_u8, 0..40_u64), 1..60)) {
            let mut orphans = Orphans::default();
            let (mut at, mut model) = (Time(0), BTreeMap::<u8, (Time, bool)>::new());
            for (bits, seconds) in looks {
                at = at + Duration::from_secs(seconds);
                let missing: Vec<u8> = (0..3).filter(|number| bits & (1 << number) > 0).collect();
                model.retain(|number, _| missing.contains(number));
                let mut expected = Vec::new();
                for number in &missing {
                    let (first, told) = model.entry(*number).or_insert((at, false));
                    if !*told && at.since(*first) >= PATIENCE {
                        *told = true;
                        expected.push(name(*number));
                    }
                }
                prop_assert_eq!(orphans.look(missing.iter().copied().map(name), at), expected);
            }
        }
    }
}
