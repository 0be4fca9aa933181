//! What the pipeline hears of the broker: how the sidecars of each ConsumerGroup are doing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::group::view::{Nudge, Sidecars};
use crate::slots::GroupRef;
use crate::time::Time;

/// New figures alone are told no oftener.
const FIGURES_EVERY: Duration = Duration::from_secs(5);

/// How the sidecars of each ConsumerGroup are doing. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Views {
    seen: Arc<Mutex<HashMap<GroupRef, View>>>,
    nudge: Nudge,
}

#[derive(Debug)]
struct View {
    term: u64,
    sidecars: Sidecars,
    told: Time,
}

impl Views {
    pub(super) fn new(nudge: Nudge) -> Self {
        Self { seen: Arc::default(), nudge }
    }

    pub(super) fn get(&self, name: &GroupRef, term: u64) -> Option<Sidecars> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(name).filter(|view| view.term == term).map(|view| view.sidecars.clone())
    }

    /// Has the pipeline look, if there is something new to see: at once, unless it is figures.
    pub(super) fn set(&self, name: GroupRef, term: u64, sidecars: Sidecars, now: Time) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let told = match seen.get(&name) {
            Some(view) if view.term == term && view.sidecars == sidecars => return,
            Some(view) if view.term == term && same_but_for_figures(&view.sidecars, &sidecars) => {
                if now.since(view.told) >= FIGURES_EVERY { now } else { view.told }
            }
            _ => now,
        };
        if told == now {
            self.nudge.group(&name);
        }
        seen.insert(name, View { term, sidecars, told });
    }

    pub(super) fn clear(&self, name: &GroupRef, term: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.get(name).is_some_and(|view| view.term == term) {
            seen.remove(name);
        }
    }
}

fn same_but_for_figures(one: &Sidecars, other: &Sidecars) -> bool {
    let bare = |sidecars: &Sidecars| {
        let mut bare = sidecars.clone();
        for pod in bare.pods.values_mut() {
            pod.figures = None;
        }
        bare
    };
    bare(one) == bare(other)
}
