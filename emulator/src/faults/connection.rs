//! What can happen to a connection.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seconds;
use crate::amqp::{Corruption, Failure, Hindrance, Order};

/// A condition and a description, as an AMQP error carries them. For conditions, see AMQP 1.0, 2.8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The condition, a symbol.
    pub condition: String,
    /// The description.
    pub description: String,
}

/// What an admin does to connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Fault {
    /// Close them, with a reason or with none.
    Close {
        /// `amqp:connection:forced` as a rule.
        reason: Option<Reason>,
    },
    /// Detach their links.
    Detach {
        /// `amqp:link:detach-forced` as a rule.
        reason: Option<Reason>,
        /// Whether the link is closed, and not only detached.
        closed: bool,
    },
    /// End the sessions of their links.
    EndSession {
        /// Why.
        reason: Option<Reason>,
    },
    /// Drop their TCP connections without a word.
    Drop,
    /// Read nothing from them for a time.
    StopReading {
        /// How long.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        lasts: Duration,
    },
    /// Write nothing to them for a time.
    StopWriting {
        /// How long.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        lasts: Duration,
    },
    /// Write everything to them later, for a time.
    Delay {
        /// By so much.
        #[serde(rename = "delaySeconds", serialize_with = "seconds")]
        by: Duration,
        /// How long.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        lasts: Duration,
    },
    /// Spoil the next frame that is written to them.
    Corrupt {
        /// Which part of it.
        part: FramePart,
    },
}

/// The part of a frame that is spoilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FramePart {
    /// The size in its head.
    Size,
    /// The data offset in its head.
    DataOffset,
    /// The first format code of its body.
    FormatCode,
    /// Its end, which is left out.
    #[serde(rename = "truncate")]
    End,
}

impl From<FramePart> for Corruption {
    fn from(part: FramePart) -> Self {
        match part {
            FramePart::Size => Self::Size,
            FramePart::DataOffset => Self::DataOffset,
            FramePart::FormatCode => Self::FormatCode,
            FramePart::End => Self::Truncate,
        }
    }
}

fn failure(reason: Option<&Reason>) -> Option<Failure> {
    reason.map(|reason| Failure::named(&reason.condition, reason.description.clone()))
}

impl From<&Fault> for Order {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::Close { reason } => Self::Close(failure(reason.as_ref())),
            Fault::Detach { reason, closed } => Self::Detach { failure: failure(reason.as_ref()), closed: *closed },
            Fault::EndSession { reason } => Self::End(failure(reason.as_ref())),
            Fault::Drop => Self::Drop,
            Fault::StopReading { lasts } => Self::Hinder { what: Hindrance::NoReading, lasts: *lasts },
            Fault::StopWriting { lasts } => Self::Hinder { what: Hindrance::NoWriting, lasts: *lasts },
            Fault::Delay { by, lasts } => Self::Hinder { what: Hindrance::Delay(*by), lasts: *lasts },
            Fault::Corrupt { part } => Self::Corrupt((*part).into()),
        }
    }
}
