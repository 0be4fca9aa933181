//! The one stream to a broker, and its life: away, looking for replicas, dialing one after the other, opening, open.

use std::future::Future;
use std::mem::discriminant;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use sluice_proto::control::PROTOCOLS;
use sluice_proto::control::v1::control_client::ControlClient;
use sluice_proto::control::v1::{BrokerMessage, Hello, SidecarMessage, Welcome, broker_message, sidecar_message};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use super::dial::{DialError, Replica};
use super::time::Time;

/// How long a broker may take to welcome: it asks the API server about the token meanwhile.
const WELCOME: Duration = Duration::from_secs(10);

/// Messages that may wait on their way to the broker. One that takes no more is as good as gone.
const OUTGOING: usize = 64;

/// The bounds of the interval of reports.
const REPORTS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Why there is no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum LineError {
    /// No broker can be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The token can't be sent.
    #[error("--token-file {path} can't be used: {reason}")]
    Token {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// It takes too long.
    #[error("the broker {replica} did not answer within {WELCOME:?}")]
    Late {
        /// Which one.
        replica: Replica,
    },
    /// It refused or ended the stream.
    #[error("{}", words(.replica, *.code, .message))]
    Ended {
        /// Which one.
        replica: Replica,
        /// The status.
        code: Code,
        /// Its words.
        message: String,
    },
    /// What it said first was no welcome that is understood.
    #[error("the broker {replica} {what}; check the operator's version")]
    Odd {
        /// Which one.
        replica: Replica,
        /// What it did.
        what: String,
    },
    /// It says nothing any more.
    #[error("nothing was heard from the broker {replica} for {0:?}", .silence)]
    Silent {
        /// Which one.
        replica: Replica,
        /// For how long.
        silence: Duration,
    },
    /// It does not read.
    #[error("the broker {replica} takes no messages any more")]
    Clogged {
        /// Which one.
        replica: Replica,
    },
}

fn words(replica: &Replica, code: Code, message: &str) -> String {
    let what = match code {
        Code::Unavailable => "is not the leader or is going away",
        Code::Unauthenticated => "refused the token: check --token-file, its audience and its pod",
        Code::PermissionDenied => "refused this pod",
        Code::FailedPrecondition => "refused the stream, as operator and sidecar have no protocol version in common",
        Code::Aborted => "ended the stream, as a newer one of this pod has come",
        Code::Ok => "ended the stream",
        _ => "ended the stream with an error",
    };
    let begin: String = message.chars().take(512).collect();
    match (code, begin.as_str()) {
        (Code::Ok, _) => format!("the broker {replica} {what}"),
        (_, "") => format!("the broker {replica} {what} ({code:?})"),
        (_, message) => format!("the broker {replica} {what} ({code:?}: {message})"),
    }
}

impl LineError {
    /// Whether the other one says the same of another replica.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ended { code, .. }, Self::Ended { code: other, .. }) => code == other,
            (Self::Dial(dial), Self::Dial(other)) => discriminant(dial) == discriminant(other),
            _ => discriminant(self) == discriminant(other),
        }
    }

    fn ended(replica: &Replica, status: &Status) -> Self {
        Self::Ended { replica: replica.clone(), code: status.code(), message: status.message().to_owned() }
    }
}

/// Where the stream stands.
pub(super) enum Line {
    /// The next round begins then.
    Away(Time),
    /// Replicas are being looked up.
    Resolving(BoxFuture<Result<Vec<Replica>, DialError>>),
    /// One is being dialed.
    Dialing(Replica, BoxFuture<Result<Channel, DialError>>),
    /// `Hello` is said.
    Opening(Opening),
    /// Welcomed.
    Open(Box<Open>),
}

/// A stream that waits for its `Welcome`.
pub(super) struct Opening {
    replica: Replica,
    number: u64,
    out: mpsc::Sender<SidecarMessage>,
    welcomed: BoxFuture<Result<(Streaming<BrokerMessage>, Welcome), LineError>>,
}

/// A stream that has been welcomed.
pub(super) struct Open {
    pub(super) replica: Replica,
    /// The stream's number in this process.
    pub(super) number: u64,
    pub(super) welcome: Welcome,
    out: mpsc::Sender<SidecarMessage>,
    inbound: Streaming<BrokerMessage>,
}

/// What came of waiting for the line.
pub(super) enum LineEvent {
    /// Replicas were looked up.
    Resolved(Result<Vec<Replica>, DialError>),
    /// One was dialed.
    Dialed(Replica, Result<Channel, DialError>),
    /// A broker welcomes, and the line is open; or not.
    Welcomed(Result<(), LineError>),
    /// The broker says something; `None`: something that is not understood.
    Heard(Option<broker_message::Message>),
    /// The stream has ended.
    Ended(LineError),
}

impl Line {
    /// Opens a stream on a channel. The token goes with it, `hello` is its first message.
    pub(super) fn hello(replica: Replica, channel: Channel, token: &Path, hello: Hello) -> Result<Self, LineError> {
        let number = hello.stream;
        let (out, outgoing) = mpsc::channel(OUTGOING);
        // The channel is new and has room.
        let _ = out.try_send(message(sidecar_message::Message::Hello(hello)));
        let mut request = Request::new(ReceiverStream::new(outgoing));
        request.metadata_mut().insert("authorization", bearer(token)?);
        let from = replica.clone();
        let welcomed = Box::pin(async move {
            let late = |_| LineError::Late { replica: from.clone() };
            timeout(WELCOME, welcomed(channel, request, &from)).await.map_err(late)?
        });
        Ok(Self::Opening(Opening { replica, number, out, welcomed }))
    }

    /// Whether a `Hello` has been said on a stream that has not ended.
    pub(super) fn is_greeted(&self) -> bool {
        matches!(self, Self::Opening(_) | Self::Open(_))
    }

    /// The stream, if it has been welcomed.
    pub(super) fn open(&self) -> Option<&Open> {
        match self {
            Self::Open(open) => Some(open),
            _ => None,
        }
    }

    /// Waits for what comes next. Can be dropped at any await.
    pub(super) async fn next(&mut self) -> LineEvent {
        match self {
            Self::Away(_) => std::future::pending().await,
            Self::Resolving(resolving) => {
                let result = resolving.as_mut().await;
                *self = Self::Away(Time::NEVER);
                LineEvent::Resolved(result)
            }
            Self::Dialing(replica, dialing) => {
                let result = dialing.as_mut().await;
                let replica = replica.clone();
                *self = Self::Away(Time::NEVER);
                LineEvent::Dialed(replica, result)
            }
            Self::Opening(opening) => {
                let result = opening.welcomed.as_mut().await;
                let before = std::mem::replace(self, Self::Away(Time::NEVER));
                match (before, result) {
                    (Self::Opening(Opening { replica, number, out, .. }), Ok((inbound, welcome))) => {
                        *self = Self::Open(Box::new(Open { replica, number, welcome, out, inbound }));
                        LineEvent::Welcomed(Ok(()))
                    }
                    (_, result) => LineEvent::Welcomed(result.map(drop)),
                }
            }
            Self::Open(open) => match open.inbound.message().await {
                Ok(Some(heard)) => LineEvent::Heard(heard.message),
                Ok(None) => LineEvent::Ended(LineError::ended(&open.replica, &Status::ok(""))),
                Err(status) => LineEvent::Ended(LineError::ended(&open.replica, &status)),
            },
        }
    }
}

impl Open {
    /// Says something; else the broker takes nothing any more.
    pub(super) fn say(&self, what: sidecar_message::Message) -> Result<(), LineError> {
        self.out.try_send(message(what)).map_err(|_| LineError::Clogged { replica: self.replica.clone() })
    }

    /// How often figures are to be reported.
    pub(super) fn report_every(&self) -> Duration {
        Duration::from_millis(self.welcome.report_interval_ms.into()).clamp(REPORTS.0, REPORTS.1)
    }

    /// Says no more, and waits until the broker has heard everything.
    pub(super) async fn end(self) {
        let Self { out, mut inbound, .. } = self;
        drop(out);
        while let Ok(Some(_)) = inbound.message().await {}
    }
}

fn message(message: sidecar_message::Message) -> SidecarMessage {
    SidecarMessage { message: Some(message) }
}

async fn welcomed(
    channel: Channel,
    request: Request<ReceiverStream<SidecarMessage>>,
    replica: &Replica,
) -> Result<(Streaming<BrokerMessage>, Welcome), LineError> {
    let ended = |status: Status| LineError::ended(replica, &status);
    let odd = |what: String| LineError::Odd { replica: replica.clone(), what };
    let mut inbound = ControlClient::new(channel).connect(request).await.map_err(ended)?.into_inner();
    match inbound.message().await.map_err(ended)? {
        Some(BrokerMessage { message: Some(broker_message::Message::Welcome(welcome)) }) => {
            if PROTOCOLS.contains(&welcome.protocol) {
                Ok((inbound, welcome))
            } else {
                Err(odd(format!(
                    "wants to speak version {} of the protocol, which this sidecar can't",
                    welcome.protocol
                )))
            }
        }
        Some(_) => Err(odd("did not begin with a Welcome".to_owned())),
        None => Err(ended(Status::ok(""))),
    }
}

/// The token as the broker wants it. It is read anew each time: the kubelet renews it.
fn bearer(token: &Path) -> Result<MetadataValue<Ascii>, LineError> {
    let refuse = |reason: String| LineError::Token { path: token.display().to_string(), reason };
    let text = std::fs::read_to_string(token).map_err(|error| refuse(error.to_string()))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(refuse("it is empty".to_owned()));
    }
    let value = format!("Bearer {text}").parse::<MetadataValue<Ascii>>();
    let mut value = value.map_err(|_| refuse("it holds what is no token".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
