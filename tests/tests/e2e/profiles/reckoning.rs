//! What every message has come to. Of each that was published, and of each copy that the platform made of one, either
//!
//! - it was accepted on the platform, and not before an application had acknowledged it; or
//! - the platform dropped it since it was released, under a profile that says so, by a sidecar that was not told of that.
//!
//! Anything else is a loss, or an acceptance before the ack.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::ops::AddAssign;

use anyhow::{Result, ensure};
use sluice_tests::admin::{Admin, Counts, FateEvent};
use sluice_tests::emulator::GROUP;

use super::scene::{BOUND, Scene, is_drained};

/// What a run, or all of them, came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) published: u64,
    pub(super) repeated: u64,
    pub(super) pushed: u64,
    pub(super) accepted: u64,
    pub(super) released: u64,
    pub(super) expired: u64,
    pub(super) dropped: u64,
    /// Answers after the ACK timeout, whether they counted or not.
    pub(super) late: u64,
    /// Messages that were pushed again after an application had acknowledged them.
    pub(super) after_ack: u64,
    /// Faults that hit something.
    pub(super) hits: u64,
    /// How often a sidecar had to be helped in the end.
    pub(super) helped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        let Self { published, repeated, pushed, accepted, released, expired, dropped, late, after_ack, hits, helped } =
            other;
        self.published += published;
        self.repeated += repeated;
        self.pushed += pushed;
        self.accepted += accepted;
        self.released += released;
        self.expired += expired;
        self.dropped += dropped;
        self.late += late;
        self.after_ack += after_ack;
        self.hits += hits;
        self.helped += helped;
    }
}

/// What is wrong, and some of the messages that it is wrong with.
#[derive(Debug, Default)]
struct Findings {
    /// Neither accepted nor dropped as it may be.
    lost: Vec<String>,
    /// Accepted without an ack, or earlier.
    accepted_before_ack: Vec<String>,
}

impl Scene<'_> {
    /// Ends the sidecars, and accounts for everything.
    pub(super) fn reckon(&mut self) -> Result<Tally> {
        self.close()?;
        // A connection that the platform does not read has yet to end.
        let counts = self.admin().wait_for(GROUP, BOUND, |counts| counts.clients == 0)?;
        let mut tally = self.tally(&counts)?;
        let audit = self.admin().audit()?;
        ensure!(audit.consistent, "the platform contradicts itself: {:?}", audit.violations);

        let fates = self.admin().fates(GROUP)?;
        let known: HashSet<&str> = fates.iter().map(|fate| fate.id.as_str()).collect();
        let unknown = self.published.iter().filter(|id| !known.contains(id.as_str()));
        let mut findings = Findings { lost: unknown.cloned().collect(), ..Findings::default() };
        let (mut accepted, mut dropped) = (0, 0);
        for fate in &fates {
            match (fate.accepted_at_us, self.journal.first_ack_us(&fate.id)) {
                (Some(at), Some(acked)) if acked <= at => accepted += 1,
                (Some(_), _) => findings.accepted_before_ack.push(fate.id.clone()),
                (None, _) if fate.state == "dropped" && self.case.may_drop() => dropped += 1,
                (None, _) => findings.lost.push(fate.id.clone()),
            }
        }
        // Copies share the fate that is asked for by ID.
        for id in &known {
            let fate = self.admin().fate(id)?;
            if !drops_follow_releases(&fate) {
                findings.lost.push((*id).to_owned());
            }
            tally.late += fate.iter().filter(|event| is_late(event)).count() as u64;
            let acked = self.journal.first_ack_us(id).unwrap_or(u64::MAX);
            tally.after_ack += u64::from(fate.iter().any(|event| event.event == "pushed" && event.at > acked));
        }
        if !findings.lost.is_empty() || !findings.accepted_before_ack.is_empty() {
            return Err(findings.explain(self.admin(), |id| self.journal.first_ack_us(id)));
        }
        ensure!((accepted, dropped) == (counts.accepted, counts.dropped), "{accepted} and {dropped}, but {counts:?}");
        Ok(tally)
    }

    /// The counts add up, by themselves and with what is known from outside.
    fn tally(&self, counts: &Counts) -> Result<Tally> {
        let came = counts.published + counts.repeated;
        ensure!(is_drained(counts) && came == counts.accepted + counts.dropped, "it does not add up: {counts:?}");
        ensure!(counts.published == self.published.len() as u64, "{} published: {counts:?}", self.published.len());
        ensure!((counts.rejected, counts.modified) == (0, 0), "a sidecar never says so: {counts:?}");
        ensure!(!self.case.choices.expire || counts.released == 0, "released, despite handBack: Expire: {counts:?}");
        ensure!(counts.clients_peak <= 2, "more clients than there are places: {counts:?}");
        Ok(Tally {
            published: counts.published,
            repeated: counts.repeated,
            pushed: counts.pushed,
            accepted: counts.accepted,
            released: counts.released,
            expired: counts.expired,
            dropped: counts.dropped,
            late: 0,
            after_ack: 0,
            hits: self.hits,
            helped: self.helped,
        })
    }
}

fn is_late(event: &FateEvent) -> bool {
    event.event == "late" || event.detail.as_deref() == Some("after the ACK timeout")
}

/// Whether whatever was dropped was so because a client had released it, in the same moment.
fn drops_follow_releases(fate: &[FateEvent]) -> bool {
    fate.iter().enumerate().filter(|(_, event)| event.event == "dropped").all(|(index, event)| {
        let released = |before: &FateEvent| {
            before.event == "released"
                && before.at == event.at
                && before.detail.as_deref() != Some("settled without an outcome")
        };
        event.detail.as_deref() == Some("what comes back is not pushed again") && fate[..index].iter().any(released)
    })
}

impl Findings {
    fn explain(&self, admin: &Admin, first_ack_us: impl Fn(&str) -> Option<u64>) -> anyhow::Error {
        let (lost, early) = (self.lost.len(), self.accepted_before_ack.len());
        // Writing to a string can't fail.
        let mut text = format!("{lost} lost, {early} accepted before their ack");
        for id in self.lost.iter().take(2).chain(self.accepted_before_ack.iter().take(2)) {
            let fate = admin.fate(id).map_or_else(|error| format!("{error:#}"), |fate| format!("{fate:?}"));
            let _ = write!(text, "\n{id}, first ack {:?}: {fate}", first_ack_us(id));
        }
        anyhow::anyhow!(text)
    }
}
