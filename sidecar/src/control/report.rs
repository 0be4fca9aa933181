//! How things stand, in the protocol's words. Pure.

use std::time::Duration;

use sluice_proto::control::v1;

use super::seat::Standing;
use super::time::Time;
use crate::clock;
use crate::consumer::{LinkPhase, Snapshot};
use crate::metrics::Metrics;
use crate::saturation::permille;

/// The longest reason that is reported, in characters.
const REASON: usize = 1024;

/// A report without figures.
pub(super) fn standing(standing: Standing, consumer: &Snapshot) -> v1::Report {
    let Standing { wants_slot, held_epoch, seen_epoch, yielded, draining } = standing;
    let phase = match consumer.link {
        LinkPhase::Idle => v1::link::Phase::Idle,
        LinkPhase::Connecting => v1::link::Phase::Connecting,
        LinkPhase::Up => v1::link::Phase::Up,
        LinkPhase::Down => v1::link::Phase::Down,
    };
    // Without a slot the reason is the broker's own.
    let reason = if held_epoch == 0 { "" } else { &consumer.reason };
    let link = v1::Link {
        phase: phase.into(),
        was_up: consumer.was_up,
        reason: reason.chars().take(REASON).collect(),
        credentials_refused: consumer.link == LinkPhase::Down,
    };
    v1::Report { wants_slot, held_epoch, seen_epoch, yielded, draining, link: Some(link), figures: None }
}

/// What had been counted when figures were last reported.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    at: Time,
    received: u64,
    accepted: u64,
    saturated: Duration,
}

impl Tally {
    /// Counts from here.
    pub(super) fn begin(at: Time, metrics: &Metrics, consumer: &Snapshot) -> Self {
        let (received, accepted) = metrics.received_and_accepted();
        Self { at, received, accepted, saturated: consumer.saturation.total(clock::now()) }
    }

    /// The figures since the last ones.
    pub(super) fn take(&mut self, at: Time, metrics: &Metrics, consumer: &Snapshot) -> v1::Figures {
        let before = std::mem::replace(self, Self::begin(at, metrics, consumer));
        let interval = self.at.since(before.at);
        let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        v1::Figures {
            interval_ms: u32::try_from(interval.as_millis()).unwrap_or(u32::MAX),
            received: self.received - before.received,
            accepted: self.accepted - before.accepted,
            in_flight: narrow(consumer.held),
            saturation_permille: permille(self.saturated.saturating_sub(before.saturated), interval),
            streams: narrow(consumer.streams),
        }
    }
}
