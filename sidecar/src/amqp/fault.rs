//! Why a link ended, in words that an operator can act on, and what must be renewed to get another.

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use super::frame::BadFrame;
use super::hot::Outcome;
use super::reader::Malformed;

/// What a fault has made useless, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Renew {
    /// The link; its session and connection still stand.
    Link,
    /// The session and all on it.
    Session,
    /// The connection.
    Connection,
    /// The credentials: another attempt with the same ones will fail in the same way.
    Credentials,
}

impl fmt::Display for Renew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link => "link",
            Self::Session => "session",
            Self::Connection => "connection",
            Self::Credentials => "credentials",
        })
    }
}

/// What the engine was waiting for when its bound ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The peer's SASL header and mechanisms.
    Sasl,
    /// The verdict on our credentials.
    Authentication,
    /// The peer's Open.
    Open,
    /// The peer's Attach.
    Attach,
    /// The peer's Close.
    Close,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sasl => "its SASL mechanisms",
            Self::Authentication => "its SASL outcome",
            Self::Open => "its Open",
            Self::Attach => "its Attach",
            Self::Close => "its Close",
        })
    }
}

/// What went wrong on a connection, a session or a link. The first one is kept; what follows from it is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The peer speaks something else.
    #[error("the peer answered \"{}\" where the AMQP 1.0 protocol header belongs; check host and port", .found.escape_ascii())]
    NotAmqp {
        /// The first eight bytes it sent.
        found: [u8; 8],
    },
    /// The peer does not take user name and password.
    #[error("the peer offers SASL {offered} but not PLAIN, which the platform requires (PLATFORM.md 1.1)")]
    NoPlain {
        /// What it offers.
        offered: String,
    },
    /// SASL outcome 1: user name or password are wrong.
    #[error(
        "the platform refused the credentials (SASL outcome {code}); check the AccessKey, its permission iot:sub, the \
         instance ID and the consumer group ID"
    )]
    Refused {
        /// The code of the SASL outcome.
        code: u8,
    },
    /// SASL outcomes 2 to 4: the peer can't tell.
    #[error("the platform could not check the credentials (SASL outcome {code})")]
    AuthenticationFailed {
        /// The code of the SASL outcome.
        code: u8,
    },
    /// The peer detached, ended or closed, and said why.
    #[error("the platform ended the {level}: {condition}{}", .description.as_ref().map(|d| format!(" ({d})")).unwrap_or_default())]
    Ended {
        /// What it ended.
        level: Renew,
        /// The AMQP error condition, or `no reason given`.
        condition: String,
        /// Its words.
        description: Option<String>,
    },
    /// The peer refused the link or attached it in another way than asked.
    #[error("the platform attached the link with {0}; refusing it, since a message could be lost")]
    SettleMode(&'static str),
    /// A transfer that the platform regards as settled: it is gone should the application fail.
    #[error("the platform sent delivery {0} pre-settled although the link is attached unsettled")]
    PreSettled(u32),
    /// More deliveries than were asked for.
    #[error("the platform sent delivery {0} without credit")]
    CreditExceeded(u32),
    /// Frames out of order, or fields that contradict what came before.
    #[error("the peer broke the protocol: {0}")]
    Protocol(&'static str),
    /// A frame header that can't be.
    #[error("the peer sent a frame that can't be: {0}")]
    Frame(#[from] BadFrame),
    /// A performative that can't be read.
    #[error("the peer sent a malformed {performative}: {error}")]
    Malformed {
        /// Which one.
        performative: &'static str,
        /// What is wrong with it.
        error: String,
    },
    /// The peer has been silent for longer than the idle-time-out allows.
    #[error("nothing was heard from the peer for {0:?}; regarding the connection as dead")]
    Silent(Duration),
    /// The peer did not answer in time.
    #[error("the peer did not send {0} within {1:?}")]
    Timeout(Wait, Duration),
    /// The stream below ended or failed.
    #[error("the connection was lost: {reason}")]
    Lost {
        /// How it ended; says whose end it was, see [`is_end_by_peer`].
        kind: ErrorKind,
        /// What the system said.
        reason: String,
    },
    /// A settlement for a link that is not this one.
    #[error("delivery {delivery_id} belongs to a link of epoch {epoch}, which is gone; {outcome:?} was not sent")]
    StaleEpoch {
        /// The delivery on that link.
        delivery_id: u32,
        /// The epoch of that link.
        epoch: u64,
        /// What was to be said of it.
        outcome: Outcome,
    },
}

/// Whether a stream that ended like this was ended by the peer, which so knows of it. Else it is our side, or the way
/// between, that has lost it (no route, no answer), and the peer may take the connection for alive.
pub fn is_end_by_peer(kind: ErrorKind) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

impl Fault {
    /// A performative that can't be read.
    pub(super) fn malformed(performative: &'static str, error: Malformed) -> Self {
        Self::Malformed { performative, error: error.to_string() }
    }

    /// What must be renewed before messages flow again.
    pub fn renew(&self) -> Renew {
        match self {
            Self::Ended { condition, .. } if condition == "amqp:unauthorized-access" => Renew::Credentials,
            Self::Ended { level, .. } => *level,
            Self::Refused { .. } | Self::NoPlain { .. } => Renew::Credentials,
            Self::SettleMode(_) | Self::PreSettled(_) | Self::CreditExceeded(_) => Renew::Link,
            _ => Renew::Connection,
        }
    }
}
