//! What is known of a platform group, and which of its changes the pipeline hears of. Pure.

use sluice_cloud::iot::GroupStatus;

use super::Timing;
use crate::group::view::Evidence;
use crate::time::Time;

/// What the platform has said of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Known {
    /// When it last gave figures, and those.
    pub(super) figures: Option<(Time, Figures)>,
    /// How many clients it counts.
    pub(super) clients: Option<u32>,
    /// Whether the credentials work.
    pub(super) evidence: Evidence,
}

/// The figures that decisions are made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figures {
    /// Messages in the backlog.
    pub(super) backlog: u64,
    /// Messages of it that are consumed in a minute.
    pub(super) per_minute: Option<u64>,
}

impl Known {
    /// An answer. What it leaves out stays what it was, and grows old.
    pub(super) fn answered(&mut self, at: Time, status: &GroupStatus) {
        self.evidence = Evidence::Works;
        if let Some(backlog) = status.backlog {
            self.figures = Some((at, Figures { backlog, per_minute: status.backlog_per_minute }));
        }
        self.clients = Some(u32::try_from(status.clients.len()).unwrap_or(u32::MAX));
    }

    fn numbers(&self) -> (Option<Figures>, Option<u32>) {
        (self.figures.map(|(_, figures)| figures), self.clients)
    }
}

/// What the pipeline has been told.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    known: Known,
    at: Option<Time>,
}

impl Told {
    /// Whether to tell of what is known now; it then counts as told. `revived`: the figures had become stale, and new ones
    /// are here.
    pub(super) fn worth(&mut self, known: &Known, revived: bool, now: Time, timing: &Timing) -> bool {
        let evidence = known.evidence != self.known.evidence;
        let first = known.figures.is_some() && self.known.figures.is_none();
        let figures = known.numbers() != self.known.numbers();
        // A change that is not told of now is a change still when the next answer comes.
        let lately = self.at.is_some_and(|at| now.since(at) < timing.tell);
        let worth = evidence || first || revived || (figures && !lately);
        if worth {
            *self = Self { known: known.clone(), at: Some(now) };
        }
        worth
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known() -> impl Strategy<Value = Known> {
        let figures = prop::option::of((0u64..4, prop::option::of(0u64..3)));
        let evidence = prop_oneof![
            Just(Evidence::Untried),
            Just(Evidence::Works),
            Just(Evidence::Refused("no".into())),
            Just(Evidence::Unreachable("no".into())),
        ];
        (figures, prop::option::of(0u32..3), evidence).prop_map(|(figures, clients, evidence)| Known {
            figures: figures.map(|(backlog, per_minute)| (Time(0), Figures { backlog, per_minute })),
            clients,
            evidence,
        })
    }

    proptest! {
        #[test]
        fn what_is_worth_telling_is_told_once_and_figures_alone_not_often(
            steps in prop::collection::vec((known(), 0u64..4_000), 1..40)
        ) {
            let timing = Timing::default();
            let mut told = Told::default();
            let (mut now, mut last) = (Time(0), None);
            let mut evidence = Evidence::Untried;
            for (known, later) in steps {
                now = Time(now.0 + later);
                let worth = told.worth(&known, false, now, &timing);
                prop_assert!(worth || evidence == known.evidence, "evidence is told at once");
                if worth {
                    evidence = known.evidence.clone();
                    last = Some(now);
                }
                prop_assert!(!told.worth(&known, false, now, &timing), "nothing is told twice");
                prop_assert_eq!(last, told.at);
                let differs = told.known.numbers() != known.numbers();
                prop_assert_eq!(told.clone().worth(&known, false, now + timing.tell, &timing), differs, "nor is it lost");
            }
        }
    }

    #[test]
    fn the_same_numbers_again_are_told_only_if_they_had_become_stale() {
        let timing = Timing::default();
        let mut known = Known::default();
        let mut told = Told::default();
        known.answered(Time(0), &GroupStatus { backlog: Some(3), ..GroupStatus::default() });
        assert!(told.worth(&known, false, Time(0), &timing));
        known.answered(Time(60_000), &GroupStatus { backlog: Some(3), ..GroupStatus::default() });
        assert!(!told.worth(&known, false, Time(60_000), &timing));
        assert!(told.worth(&known, true, Time(60_000), &timing));
        known.answered(Time(70_000), &GroupStatus::default());
        assert_eq!(known.figures.unwrap().0, Time(60_000), "figures that say nothing do not make others newer");
    }
}
