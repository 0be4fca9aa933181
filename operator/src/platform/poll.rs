//! Polls one group's figures, for all ConsumerGroups that speak of it with the same keys.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use sluice_cloud::answer::ErrorClass;
use sluice_cloud::client::CallError;
use sluice_cloud::iot::{GroupStatus, QueryConsumerGroupStatus};
use sluice_cloud::pace::Priority;
use tracing::{info, warn};

use super::cycle::{self, Cycle};
use super::evidence;
use super::known::{Known, Told};
use super::line::{Lack, Line, lock};
use crate::group::view::Evidence;
use crate::scaling::PlatformFigures;
use crate::slots::GroupRef;
use crate::time::Time;

/// The polls of one group. Clones are the same.
#[derive(Clone)]
pub(super) struct Poll {
    pub(super) line: Line,
    state: Arc<Mutex<State>>,
}

struct State {
    members: BTreeSet<GroupRef>,
    known: Known,
    told: Told,
    cycle: Cycle,
    /// Nobody waits for the next answer in particular.
    settled: bool,
    /// The number of the key that was refused, or not recognised, last.
    refused: Option<u64>,
}

impl Poll {
    /// Nothing has been asked yet. `known` is what is known from elsewhere of the same group.
    pub(super) fn new(line: Line, known: Known) -> Self {
        let state = State {
            members: BTreeSet::new(),
            known,
            told: Told::default(),
            cycle: Cycle::new(line.office.clock.now()),
            settled: false,
            refused: None,
        };
        Self { line, state: Arc::new(Mutex::new(state)) }
    }

    /// Another ConsumerGroup takes part; it may have something to see at once.
    pub(super) fn join(&self, name: &GroupRef) {
        let mut state = lock(&self.state);
        state.members.insert(name.clone());
        if state.known != Known::default() {
            self.line.office.nudge.group(name);
        }
    }

    /// A ConsumerGroup takes part no more; whether nobody does now.
    pub(super) fn leave(&self, name: &GroupRef) -> bool {
        let mut state = lock(&self.state);
        state.members.remove(name);
        state.members.is_empty()
    }

    /// What is known now.
    pub(super) fn known(&self) -> Known {
        lock(&self.state).known.clone()
    }

    /// The figures as decisions are made by them, with the time from which they are stale, as it looks now.
    pub(super) fn figures(&self) -> Option<PlatformFigures> {
        self.figures_of(&lock(&self.state))
    }

    fn figures_of(&self, state: &State) -> Option<PlatformFigures> {
        let (at, figures) = state.known.figures?;
        let timing = &self.line.office.timing;
        let turns = &self.line.account.turns;
        let expected = cycle::expected(timing, turns.waiting(), turns.interval());
        let intervals = [expected, self.line.account.latest()].into_iter().chain(state.cycle.interval());
        let stale_at = cycle::stale_at(timing, at, intervals);
        Some(PlatformFigures { at, stale_at, backlog: figures.backlog, backlog_per_minute: figures.per_minute })
    }

    /// Polls until this replica leads no more.
    pub(super) async fn run(self) {
        let subject = &self.line.subject;
        let action =
            QueryConsumerGroupStatus { instance: subject.instance.clone(), group_id: subject.group_id.clone() };
        loop {
            let (due, refused) = {
                let state = lock(&self.state);
                (state.cycle.due(), state.refused)
            };
            self.line.rest(due, refused).await;
            if self.line.office.clock.now() < due {
                // There is another key than the one that was refused, and somebody waits to hear of it.
                lock(&self.state).settled = false;
            }
            if self.line.keys.current().is_err() {
                self.keyless();
                self.line.rest_until_keyed().await;
            }
            if !self.line.leads() {
                return;
            }
            let settled = lock(&self.state).settled;
            let turn = self.line.turn(if settled { Priority::Background } else { Priority::Interactive }).await;
            match self.line.ask(turn, &action).await {
                (_, Err(Lack::Over)) => return,
                (_, Err(Lack::NoKey)) => {}
                (_, Ok(status)) => self.answered(&status),
                (version, Err(Lack::Failed(error))) => self.failed(version, &error),
            }
        }
    }

    fn answered(&self, status: &GroupStatus) {
        let office = &self.line.office;
        let now = office.clock.now();
        let mut state = lock(&self.state);
        let revived = self.figures_of(&state).is_some_and(|figures| now >= figures.stale_at);
        if !matches!(state.known.evidence, Evidence::Works | Evidence::Untried) {
            info!(group = %self.line.caller, "the platform answers again");
        }
        let running = state.cycle.failures() == 0;
        state.known.answered(now, status);
        state.cycle.answered(now, &office.timing);
        (state.settled, state.refused) = (true, None);
        if let Some(interval) = state.cycle.interval().filter(|_| running) {
            self.line.account.measured(interval);
            office.metrics.polled(interval);
        }
        self.tell(&mut state, revived, now);
    }

    fn failed(&self, version: Option<u64>, error: &CallError) {
        let office = &self.line.office;
        let now = office.clock.now();
        let mut state = lock(&self.state);
        let class = error.class();
        if class == ErrorClass::Throttled {
            // It was this group's turn: it keeps its place in front of those whose turn has not come yet.
            state.cycle.throttled(now);
            state.settled = false;
            return;
        }
        state.settled = true;
        state.cycle.failed(now, class, &office.timing, rand::random());
        state.refused = version.filter(|_| !class.is_transient());
        let failures = state.cycle.failures();
        let evidence = evidence::after(&state.known.evidence, error, failures, &self.line.subject.group_id);
        if evidence != state.known.evidence {
            warn!(group = %self.line.caller, class = class.name(), words = evidence::words(error), "a group can't be polled");
        }
        state.known.evidence = evidence;
        self.tell(&mut state, false, now);
    }

    /// There is no key: of no key nothing is known.
    fn keyless(&self) {
        let now = self.line.office.clock.now();
        let mut state = lock(&self.state);
        state.known.evidence = Evidence::Untried;
        state.refused = None;
        state.settled = false;
        state.cycle.now(now);
        self.tell(&mut state, false, now);
    }

    fn tell(&self, state: &mut State, revived: bool, now: Time) {
        let State { told, known, members, .. } = state;
        if told.worth(known, revived, now, &self.line.office.timing) {
            for name in members.iter() {
                self.line.office.nudge.group(name);
            }
        }
    }
}
