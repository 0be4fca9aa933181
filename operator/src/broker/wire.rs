//! Between the protocol's messages and the desk's values. Pure.

use std::time::Duration;

use sluice_cloud::sign::SaslCredentials;
use sluice_proto::control::{PROTOCOLS, v1};
use v1::broker_message::Message;
use v1::link::Phase;

use crate::scaling::PodFigures;
use crate::slots::{Epoch, LinkPhase, RefusedBecause, Report, SlotIndex, StandByReason};
use crate::time::Time;

/// How often sidecars report.
pub(super) const REPORT_EVERY: Duration = Duration::from_secs(5);

/// The longest text that is taken over from a sidecar, in characters.
const WORDS: usize = 1024;

/// Why a first message is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HelloError {
    #[error("the first message must be `hello`")]
    NotHello,
    #[error("`hello.consumer_group` is empty; name the ConsumerGroup, as the pod's label does")]
    NoGroup,
    #[error("`hello.process` and `hello.stream` count from 1")]
    NoOrder,
    #[error("`hello.report` is missing")]
    NoReport,
    #[error(
        "no protocol version in common: the sidecar speaks {min} to {max}, this operator {} to {}; bring the older of the two up to date",
        PROTOCOLS.start(),
        PROTOCOLS.end()
    )]
    Protocol { min: u32, max: u32 },
}

/// Checks a first message; says which version of the protocol is spoken from now on.
pub(super) fn check(hello: &v1::Hello) -> Result<u32, HelloError> {
    if hello.consumer_group.is_empty() {
        return Err(HelloError::NoGroup);
    }
    if hello.process == 0 || hello.stream == 0 {
        return Err(HelloError::NoOrder);
    }
    if hello.report.is_none() {
        return Err(HelloError::NoReport);
    }
    let (min, max) = (hello.protocol_min, hello.protocol_max);
    let protocol = max.min(*PROTOCOLS.end());
    if protocol >= min && protocol >= *PROTOCOLS.start() {
        Ok(protocol)
    } else {
        Err(HelloError::Protocol { min, max })
    }
}

/// What a report means for slots.
pub(super) fn report(message: &v1::Report) -> Report {
    let link = message.link.as_ref();
    Report {
        wants_slot: message.wants_slot,
        held: Epoch(message.held_epoch),
        seen: Epoch(message.seen_epoch),
        yielded: message.yielded,
        draining: message.draining,
        link: match link.map(v1::Link::phase) {
            Some(Phase::Up) => LinkPhase::Up,
            Some(Phase::Connecting) => LinkPhase::Connecting,
            Some(Phase::Down) => LinkPhase::Down,
            Some(Phase::Idle | Phase::Unspecified) | None => LinkPhase::Idle,
        },
        was_up: link.is_some_and(|link| link.was_up),
    }
}

/// Over less time than this, a count says nothing about a rate.
const SHORTEST_MS: u32 = 1000;

/// What a report means for scaling; `None` if it says too little, and then what was said before still counts.
pub(super) fn figures(at: Time, message: &v1::Report) -> Option<PodFigures> {
    let figures = message.figures.as_ref().filter(|figures| figures.interval_ms >= SHORTEST_MS)?;
    let per_second = |count: u64| {
        let rate = count.saturating_mul(1000) / u64::from(figures.interval_ms);
        u32::try_from(rate).unwrap_or(u32::MAX)
    };
    Some(PodFigures {
        at,
        up: message.link.as_ref().is_some_and(|link| link.phase() == Phase::Up),
        saturation_permille: figures.saturation_permille.min(1000),
        accepted_per_second: per_second(figures.accepted),
        received_per_second: per_second(figures.received),
    })
}

/// A sidecar's words, cut to a bearable length and made to be one line.
pub(super) fn words(text: &str) -> String {
    text.chars().take(WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

pub(super) fn message(message: Message) -> v1::BrokerMessage {
    v1::BrokerMessage { message: Some(message) }
}

pub(super) fn welcome(protocol: u32) -> v1::BrokerMessage {
    let report_interval_ms = millis(REPORT_EVERY);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    message(Message::Welcome(v1::Welcome { protocol, version, report_interval_ms }))
}

pub(super) fn granted(epoch: Epoch, slots: &[SlotIndex], attempts_alone: u32) -> v1::BrokerMessage {
    let slots = slots.iter().map(|slot| slot.0).collect();
    message(Message::SlotGranted(v1::SlotGranted { epoch: epoch.0, slots, attempts_alone }))
}

pub(super) fn stand_by(reason: &StandByReason) -> v1::BrokerMessage {
    message(Message::StandBy(v1::StandBy { reason: reason.to_string() }))
}

pub(super) fn yields(epoch: Epoch, drain: Duration) -> v1::BrokerMessage {
    message(Message::Yield(v1::Yield { epoch: epoch.0, drain_ms: millis(drain) }))
}

pub(super) fn permit(id: u64, credentials: &SaslCredentials, usable: Option<Duration>) -> v1::BrokerMessage {
    message(Message::Permit(v1::Permit {
        id,
        user_name: credentials.user_name.expose().to_owned(),
        password: credentials.password.expose().to_owned(),
        // A pair that ends within the millisecond is not one without end.
        usable_ms: usable.map_or(0, |usable| u64::try_from(usable.as_millis()).unwrap_or(u64::MAX).max(1)),
    }))
}

pub(super) fn refused(id: u64, because: RefusedBecause, retry_after: Duration) -> v1::BrokerMessage {
    unsigned(id, because.to_string(), retry_after)
}

/// A permit that can't be signed.
pub(super) fn unsigned(id: u64, reason: String, retry_after: Duration) -> v1::BrokerMessage {
    message(Message::PermitRefused(v1::PermitRefused { id, reason, retry_after_ms: millis(retry_after) }))
}

pub(super) fn ping(number: u64) -> v1::BrokerMessage {
    message(Message::Ping(v1::Ping { number }))
}

fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> v1::Hello {
        v1::Hello {
            protocol_min: 1,
            protocol_max: 1,
            version: "0.1.0".to_owned(),
            consumer_group: "telemetry".to_owned(),
            process: 1,
            stream: 1,
            report: Some(v1::Report::default()),
            attempted_alone: false,
        }
    }

    #[test]
    fn the_highest_version_in_common_is_spoken() {
        assert_eq!(check(&hello()), Ok(1));
        // A sidecar of a later release, and one that still speaks what came before this protocol.
        assert_eq!(check(&v1::Hello { protocol_max: 7, ..hello() }), Ok(1));
        assert_eq!(check(&v1::Hello { protocol_min: 0, ..hello() }), Ok(1));
        let error = check(&v1::Hello { protocol_min: 2, protocol_max: 7, ..hello() }).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no protocol version in common: the sidecar speaks 2 to 7, this operator 1 to 1; bring the older of the two up to date"
        );
        assert!(matches!(
            check(&v1::Hello { protocol_min: 0, protocol_max: 0, ..hello() }),
            Err(HelloError::Protocol { .. })
        ));
        assert!(matches!(
            check(&v1::Hello { protocol_min: 1, protocol_max: 0, ..hello() }),
            Err(HelloError::Protocol { .. })
        ));
    }

    #[test]
    fn a_hello_that_says_too_little_is_told_what_is_missing() {
        assert_eq!(check(&v1::Hello { consumer_group: String::new(), ..hello() }), Err(HelloError::NoGroup));
        assert_eq!(check(&v1::Hello { process: 0, ..hello() }), Err(HelloError::NoOrder));
        assert_eq!(check(&v1::Hello { report: None, ..hello() }), Err(HelloError::NoReport));
    }

    #[test]
    fn figures_are_rates_whatever_the_interval_is() {
        let figures = v1::Figures {
            interval_ms: 2500,
            received: 1000,
            accepted: 500,
            saturation_permille: 4000,
            ..v1::Figures::default()
        };
        let message = v1::Report { figures: Some(figures), ..v1::Report::default() };
        let read = super::figures(Time(7), &message).unwrap();
        assert_eq!((read.received_per_second, read.accepted_per_second, read.saturation_permille), (400, 200, 1000));
        assert!(!read.up);
        let huge = v1::Figures { received: u64::MAX, ..figures };
        let message = v1::Report { figures: Some(huge), ..v1::Report::default() };
        assert_eq!(super::figures(Time(7), &message).unwrap().received_per_second, u32::MAX);
        // A burst between two reports right after each other is no rate.
        let short = v1::Figures { interval_ms: 50, received: 60, ..figures };
        let message = v1::Report { figures: Some(short), ..v1::Report::default() };
        assert_eq!(super::figures(Time(7), &message), None);
    }
}
