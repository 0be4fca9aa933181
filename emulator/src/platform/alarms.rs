//! When each group is to be looked at again: one time a group, so that a tick touches only those that are due.

use std::collections::BTreeSet;

use crate::clock::Micros;

#[derive(Debug, Default)]
pub(super) struct Alarms(BTreeSet<(Micros, usize)>);

impl Alarms {
    /// `group` was to be looked at at `old`, and is now at `new`; [`Micros::NEVER`] is no time at all.
    pub(super) fn replace(&mut self, group: usize, old: Micros, new: Micros) {
        if old != Micros::NEVER {
            self.0.remove(&(old, group));
        }
        if new != Micros::NEVER {
            self.0.insert((new, group));
        }
    }

    /// Takes out the groups that are due, the longest due first.
    pub(super) fn take_due(&mut self, now: Micros) -> Vec<usize> {
        let mut due = Vec::new();
        while let Some(&(at, group)) = self.0.first()
            && at <= now
        {
            self.0.pop_first();
            due.push(group);
        }
        due
    }

    /// When the next group is due.
    pub(super) fn next(&self) -> Micros {
        self.0.first().map_or(Micros::NEVER, |&(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_one_time_and_is_due_once() {
        let at = Micros::new;
        let mut alarms = Alarms::default();
        alarms.replace(1, Micros::NEVER, at(50));
        alarms.replace(2, Micros::NEVER, at(30));
        alarms.replace(1, at(50), at(20));
        assert_eq!(alarms.next(), at(20));
        assert!(alarms.take_due(at(19)).is_empty());
        assert_eq!(alarms.take_due(at(30)), [1, 2]);
        assert_eq!(alarms.next(), Micros::NEVER);
    }
}
