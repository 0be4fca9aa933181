//! What is known of the stored table, and the one operation on it that may be under way.
//!
//! A write whose outcome is not known may still be carried out later; the precondition of whatever is written next makes
//! either of the two fail. So after anything but a plain success the table is read again, and nothing is decided until
//! then.

use std::time::Duration;

use super::super::names::{Epoch, PodUid};
use super::super::table::{PlatformGroup, Table, TableError};
use crate::time::Time;

/// The first wait after an operation failed; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait after an operation failed, and the wait after a table was found that can't be worked with.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How many grants may have been forgotten with a table that was deleted.
const FAR_AHEAD: u64 = 1 << 20;

/// The `resourceVersion` of a stored table: compared for equality only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableVersion(pub String);

/// What must be there for a write to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Precondition {
    /// There is no table: create it.
    Absent,
    /// It is of this version: replace it.
    Version(TableVersion),
}

/// What reading the table came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadResult {
    /// There is one.
    Found(Table, TableVersion),
    /// There is none.
    Absent,
    /// There is one that can't be worked with.
    Unusable(TableError),
    /// It could not be read.
    Failed(String),
}

/// What writing the table came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteResult {
    /// It is written, and has this version now.
    Written(TableVersion),
    /// The precondition did not hold: it is not written.
    Conflict,
    /// It was refused, or never sent: it is not written. Why.
    Refused(String),
    /// Nobody knows whether it is written. Why.
    Unknown(String),
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Record {
    group: PlatformGroup,
    /// The table as it was last known to be stored, or as it has to be stored if none is there.
    known: Option<(Table, Precondition)>,
    /// The record may have changed: read before anything else.
    stale: bool,
    busy: Busy,
    /// No operation before this.
    not_before: Time,
    failures: u32,
    trouble: Option<String>,
    error: Option<Error>,
    /// No grant below this may be given out: a sidecar has spoken of the one before.
    least_epoch: Epoch,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Busy {
    No,
    Reading,
    Writing(Table),
}

/// The error, which does not hash, by its words as well.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Error(TableError);

impl std::hash::Hash for Error {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_string().hash(state);
    }
}

impl Record {
    pub(super) fn new(group: PlatformGroup) -> Self {
        Self {
            group,
            known: None,
            stale: true,
            busy: Busy::No,
            not_before: Time::default(),
            failures: 0,
            trouble: None,
            error: None,
            least_epoch: Epoch(1),
        }
    }

    pub(super) fn group(&self) -> &PlatformGroup {
        &self.group
    }

    pub(super) fn table(&self) -> Option<&Table> {
        self.known.as_ref().map(|(table, _)| table)
    }

    /// The record is known, and is not in doubt: what it says may be told.
    pub(super) fn certain(&self) -> Option<&Table> {
        if self.stale { None } else { self.table() }
    }

    pub(super) fn error(&self) -> Option<&TableError> {
        self.error.as_ref().map(|Error(error)| error)
    }

    /// Why nothing is granted just now, in words; empty while nothing has gone wrong.
    pub(super) fn trouble(&self) -> String {
        match (&self.error, &self.trouble) {
            (Some(Error(error)), _) => error.to_string(),
            (None, Some(trouble)) => trouble.clone(),
            (None, None) => String::from("it has not been read yet"),
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy != Busy::No
    }

    /// Grants are known that are not stored: somebody has deleted the table. It is written again, as it was.
    pub(super) fn was_deleted(&self) -> bool {
        matches!(&self.known, Some((table, Precondition::Absent)) if !table.holders.is_empty())
    }

    /// The pod holds something, or is about to.
    pub(super) fn knows(&self, pod: &PodUid) -> bool {
        let writing = if let Busy::Writing(table) = &self.busy { Some(table) } else { None };
        self.table().into_iter().chain(writing).any(|table| table.of_pod(pod).is_some())
    }

    /// A sidecar has spoken of this grant: no later one may have its number, whatever became of the record. One that is
    /// far ahead of all that was granted is made up, and would use the numbers up.
    pub(super) fn spoken_of(&mut self, epoch: Epoch) {
        let next = self.table().map_or(self.least_epoch, |table| table.next_epoch);
        if epoch.0.saturating_sub(next.0) > FAR_AHEAD {
            return;
        }
        self.least_epoch = self.least_epoch.max(epoch.next());
        if let Some((table, _)) = &mut self.known {
            table.next_epoch = table.next_epoch.max(self.least_epoch);
        }
    }

    pub(super) fn wants_reading(&self, at: Time) -> bool {
        self.stale && self.busy == Busy::No && at >= self.not_before
    }

    pub(super) fn wants_writing(&self, at: Time) -> bool {
        !self.stale && self.busy == Busy::No && at >= self.not_before
    }

    pub(super) fn reading(&mut self) {
        self.busy = Busy::Reading;
    }

    /// This is to be written; says on which condition.
    pub(super) fn writing(&mut self, table: &Table) -> Option<Precondition> {
        let (_, precondition) = self.known.as_ref()?;
        self.busy = Busy::Writing(table.clone());
        Some(precondition.clone())
    }

    pub(super) fn read(&mut self, at: Time, result: ReadResult) {
        if self.busy != Busy::Reading {
            return;
        }
        self.busy = Busy::No;
        self.error = None;
        match result {
            ReadResult::Found(mut table, version) => {
                table.next_epoch = table.next_epoch.max(self.least_epoch);
                self.known = Some((table, Precondition::Version(version)));
                self.well();
            }
            ReadResult::Absent => {
                // Somebody has deleted it, if there was one. What was known is still true.
                let mut table = self.known.take().map_or_else(|| Table::new(self.group.clone()), |(table, _)| table);
                table.next_epoch = table.next_epoch.max(self.least_epoch);
                self.known = Some((table, Precondition::Absent));
                self.well();
            }
            ReadResult::Unusable(error) => {
                self.error = Some(Error(error));
                self.not_before = at + LONGEST_WAIT;
            }
            ReadResult::Failed(why) => self.failed(at, why),
        }
    }

    pub(super) fn written(&mut self, at: Time, result: WriteResult) {
        let Busy::Writing(table) = std::mem::replace(&mut self.busy, Busy::No) else { return };
        match result {
            WriteResult::Written(version) => {
                let mut table = table;
                // A sidecar may have spoken of a later grant meanwhile.
                table.next_epoch = table.next_epoch.max(self.least_epoch);
                self.known = Some((table, Precondition::Version(version)));
                self.well();
            }
            WriteResult::Conflict => self.stale = true,
            // That it is not written is certain, but not why: another leader may be at work.
            WriteResult::Refused(why) | WriteResult::Unknown(why) => {
                self.stale = true;
                self.failed(at, why);
            }
        }
    }

    pub(super) fn wake_at(&self) -> Option<Time> {
        (self.busy == Busy::No && (self.stale || self.failures > 0)).then_some(self.not_before)
    }

    fn well(&mut self) {
        self.stale = false;
        self.failures = 0;
        self.trouble = None;
    }

    fn failed(&mut self, at: Time, why: String) {
        let wait = FIRST_WAIT.saturating_mul(1 << self.failures.min(6)).min(LONGEST_WAIT);
        self.failures = self.failures.saturating_add(1).min(16);
        self.not_before = at + wait;
        self.trouble = Some(why);
    }
}
