//! What can be seen of the consumer from outside: for the admin address, and for the notices on streams.

use std::time::{Duration, Instant};

use serde::Serialize;
use sluice_proto::v1;

use crate::ledger::Held;
use crate::saturation::Saturation;

/// Figures are renewed at most this often; the state of the link at once.
const EVERY: Duration = Duration::from_millis(200);

/// Where a link to the platform stands, or all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LinkPhase {
    /// None is wanted, as no application is attached; or there is no client slot for one.
    #[default]
    Idle,
    /// An attempt is under way, or follows soon.
    Connecting,
    /// Messages can come.
    Up,
    /// Refused: a person has to act. The next attempt comes in some minutes.
    Down,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkStatus {
    /// The index of its client slot.
    pub slot: u32,
    /// Where it stands.
    pub phase: LinkPhase,
    /// Why it is not up.
    pub reason: String,
}

/// The consumer at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_excessive_bools, reason = "they are independent")]
pub struct Snapshot {
    /// Where the links stand: up only if all of them are, and down if one is.
    pub link: LinkPhase,
    /// Why there is none, or why the last attempt failed or the last link was lost; empty once all are up.
    pub reason: String,
    /// The number of the last attempt in this process.
    pub epoch: u64,
    /// Whether all have ever been up in this process.
    pub was_up: bool,
    /// Each of them, if there is more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkStatus>,
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
    /// How long the application has had all that it takes at a time; always of the last turn.
    #[serde(skip)]
    pub saturation: Saturation,
    /// The number of the orders that were followed last.
    #[serde(skip)]
    pub followed: u64,
    /// A link is up, or could be soon, or is being closed.
    #[serde(skip)]
    pub seated: bool,
    /// When the platform last did not confirm the end of a connection: it may take it for alive.
    #[serde(skip)]
    pub unconfirmed: Option<Instant>,
    /// One link is up at least.
    #[serde(skip)]
    pub(crate) any_up: bool,
    #[serde(skip)]
    pub(crate) updated: Option<Instant>,
}

impl Snapshot {
    /// Takes the state of all links over: slot, phase and reason of each; `standing_by` says why there are none.
    pub(super) fn links_are<'a>(
        &mut self,
        links: impl Iterator<Item = (u32, LinkPhase, &'a str)>,
        standing_by: &str,
        epoch: u64,
    ) {
        let links: Vec<LinkStatus> =
            links.map(|(slot, phase, reason)| LinkStatus { slot, phase, reason: reason.to_owned() }).collect();
        let all = |phase| !links.is_empty() && links.iter().all(|link| link.phase == phase);
        let any = |phase| links.iter().any(|link| link.phase == phase);
        self.link = if all(LinkPhase::Up) {
            LinkPhase::Up
        } else if any(LinkPhase::Down) {
            LinkPhase::Down
        } else if any(LinkPhase::Connecting) || any(LinkPhase::Up) {
            LinkPhase::Connecting
        } else {
            LinkPhase::Idle
        };
        let reason = links.iter().map(|link| link.reason.as_str()).find(|reason| !reason.is_empty());
        reason.unwrap_or(standing_by).clone_into(&mut self.reason);
        self.epoch = epoch;
        self.was_up |= self.link == LinkPhase::Up;
        self.any_up = any(LinkPhase::Up);
        self.links = if links.len() > 1 { links } else { Vec::new() };
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

    /// The link's state as streams are told of it. Messages flow as long as one link is up.
    pub(super) fn notice(&self) -> v1::Notice {
        let state = match self.link {
            _ if self.any_up => v1::link_state::State::Up,
            LinkPhase::Idle | LinkPhase::Connecting | LinkPhase::Up => v1::link_state::State::Connecting,
            LinkPhase::Down => v1::link_state::State::Down,
        };
        let reason = if self.any_up { String::new() } else { self.reason.clone() };
        let link_state = v1::LinkState { state: state.into(), reason };
        v1::Notice { notice: Some(v1::notice::Notice::LinkState(link_state)) }
    }
}
