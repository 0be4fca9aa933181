//! What can be seen of the consumer from outside: for the admin address, and for the notices on streams.

use std::time::{Duration, Instant};

use serde::Serialize;
use sluice_proto::v1;

use crate::ledger::Held;

/// Figures are renewed at most this often; the state of the link at once.
const EVERY: Duration = Duration::from_millis(200);

/// Where the link to the platform stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LinkPhase {
    /// No application is attached, so none is wanted.
    #[default]
    Idle,
    /// An attempt is under way, or follows soon.
    Connecting,
    /// Messages can come.
    Up,
    /// Refused: a person has to act. The next attempt comes in some minutes.
    Down,
}

/// The consumer at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Where the link stands.
    pub link: LinkPhase,
    /// Why the last attempt failed or the last link was lost; empty once a link is up.
    pub reason: String,
    /// The number of the last attempt in this process.
    pub epoch: u64,
    /// Whether it has ever been up in this process.
    pub was_up: bool,
    /// Messages in hand.
    pub held: usize,
    /// Their bytes.
    pub held_bytes: u64,
    /// Of them, given to applications.
    pub leased: usize,
    /// Deliveries that the platform may still send.
    pub credit: u32,
    /// Streams attached.
    pub streams: usize,
    /// No more credit is granted, and the process ends soon.
    pub draining: bool,
    #[serde(skip)]
    updated: Option<Instant>,
}

impl Snapshot {
    /// Takes the link's state over.
    pub(super) fn link_is(&mut self, phase: LinkPhase, epoch: u64, reason: String) {
        self.link = phase;
        self.epoch = epoch;
        self.reason = reason;
        self.was_up |= phase == LinkPhase::Up;
    }

    /// Takes the figures over, if they have changed and the last ones are old enough. Returns whether it has.
    pub(super) fn update(&mut self, now: Instant, held: Held, credit: u32, streams: usize, draining: bool) -> bool {
        if self.updated.is_some_and(|at| now < at + EVERY) && streams == self.streams && draining == self.draining {
            return false;
        }
        self.updated = Some(now);
        self.held = held.messages;
        self.held_bytes = held.bytes;
        self.leased = held.leased;
        self.credit = credit;
        self.streams = streams;
        self.draining = draining;
        true
    }

    /// The link's state as streams are told of it.
    pub(super) fn notice(&self) -> v1::Notice {
        let state = match self.link {
            LinkPhase::Idle | LinkPhase::Connecting => v1::link_state::State::Connecting,
            LinkPhase::Down => v1::link_state::State::Down,
            LinkPhase::Up => v1::link_state::State::Up,
        };
        let link_state = v1::LinkState { state: state.into(), reason: self.reason.clone() };
        v1::Notice { notice: Some(v1::notice::Notice::LinkState(link_state)) }
    }
}
