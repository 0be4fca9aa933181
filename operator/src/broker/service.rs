//! The gRPC service: lets sidecars in, and carries their streams to the clerk of their platform group.

use std::pin::Pin;
use std::time::Duration;

use sluice_proto::control::v1;
use sluice_proto::control::v1::control_server::Control;
use sluice_proto::control::v1::sidecar_message::Message;
use tokio::time::{Instant, timeout};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, warn};

use super::clerk::{Inbox, Input};
use super::identity::{self, IdentityError, PodIdentity};
use super::outlet::Outlet;
use super::{Broker, wire};
use crate::slots::{GroupRef, Hello, PodRef, StandByReason, StreamId, StreamOrder};

/// How long a sidecar may take to say who it is.
const HELLO: Duration = Duration::from_secs(10);

/// Messages of one stream in a second at most.
const PER_SECOND: u32 = 100;

#[tonic::async_trait]
impl Control for Broker {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<v1::BrokerMessage, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::SidecarMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let term = self.term().ok_or_else(|| self.not_leading())?;
        let token = identity::bearer(request.metadata()).map_err(refusal)?.to_owned();
        let pod = {
            let _place = self.review_place().await;
            identity::review(self.client(), &token).await.map_err(refusal)?
        };
        let (outlet, outflow) = Outlet::open();
        let counted = self.count_stream();
        let broker = self.clone();
        tokio::spawn(async move {
            let served = Session { broker: &broker, pod: &pod, outlet: &outlet, term };
            if let Err(status) = served.serve(request.into_inner()).await {
                debug!(pod = pod.name, namespace = pod.namespace, code = ?status.code(), reason = status.message(), "stream ended");
                outlet.end(status);
            }
            drop(counted);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outflow))))
    }
}

fn refusal(error: IdentityError) -> Status {
    match error {
        IdentityError::Unavailable(_) => {
            warn!(%error, "a sidecar could not be let in");
            Status::unavailable("the token can't be reviewed now; connect again, with backoff")
        }
        error => Status::unauthenticated(error.to_string()),
    }
}

/// One stream.
struct Session<'a> {
    broker: &'a Broker,
    pod: &'a PodIdentity,
    outlet: &'a Outlet,
    term: u64,
}

/// A stream that has said who it is.
struct Caller {
    id: StreamId,
    group: GroupRef,
    version: String,
    order: StreamOrder,
    attempted_alone: bool,
    /// How things stand there, by its last word.
    report: v1::Report,
}

impl Session<'_> {
    async fn serve(&self, mut inbound: Streaming<v1::SidecarMessage>) -> Result<(), Status> {
        let first = timeout(HELLO, inbound.message())
            .await
            .map_err(|_| Status::invalid_argument(format!("no `hello` within {} s", HELLO.as_secs())))??;
        let Some(Message::Hello(hello)) = first.and_then(|message| message.message) else {
            return Err(Status::invalid_argument(wire::HelloError::NotHello.to_string()));
        };
        let protocol = wire::check(&hello).map_err(|error| match error {
            wire::HelloError::Protocol { .. } => Status::failed_precondition(error.to_string()),
            error => Status::invalid_argument(error.to_string()),
        })?;
        let group = GroupRef::new(&self.pod.namespace, &hello.consumer_group);
        self.check_label(&group)?;
        let _ = self.outlet.send(wire::welcome(protocol));
        let mut caller = Caller {
            id: self.broker.next_stream(),
            group,
            version: wire::words(&hello.version),
            order: StreamOrder { process: hello.process, stream: hello.stream },
            attempted_alone: hello.attempted_alone,
            report: hello.report.unwrap_or_default(),
        };
        let mut pace = Pace::new();
        loop {
            let clerk = match self.broker.clerk(&caller.group, self.term)? {
                Some(clerk) => clerk,
                None => match self.wait(&mut inbound, &mut caller, &mut pace).await? {
                    Some(clerk) => clerk,
                    None => return Ok(()),
                },
            };
            if self.at_clerk(&clerk, &mut inbound, &mut caller, &mut pace).await? {
                return Ok(());
            }
        }
    }

    /// A pod speaks for the ConsumerGroup that its label names. The watch may tell of the label after the pod has called.
    fn check_label(&self, group: &GroupRef) -> Result<(), Status> {
        match self.broker.label_of(self.pod) {
            Some(label) if label != *group => Err(Status::permission_denied(format!(
                "`hello.consumer_group` is {:?}, and the pod's label names {:?}: they must be the same",
                group.name, label.name
            ))),
            _ => Ok(()),
        }
    }

    /// There is no such ConsumerGroup (yet): the sidecar stands by, and is pinged. Returns the clerk once there is one;
    /// `None` if the sidecar has gone.
    async fn wait(
        &self,
        inbound: &mut Streaming<v1::SidecarMessage>,
        caller: &mut Caller,
        pace: &mut Pace,
    ) -> Result<Option<Inbox>, Status> {
        let mut news = self.broker.news();
        let reason = StandByReason::NoConsumerGroup(caller.group.clone());
        let _ = self.outlet.send(wire::stand_by(&reason));
        let mut ping = tokio::time::interval(crate::slots::PING_EVERY);
        // Not those of the desk's pings: an answer that comes late must not be taken for one to them.
        let mut number = u64::MAX / 2;
        loop {
            news.mark_unchanged();
            if let Some(clerk) = self.broker.clerk(&caller.group, self.term)? {
                return Ok(Some(clerk));
            }
            tokio::select! {
                _ = news.changed() => {}
                _ = ping.tick() => {
                    self.check_label(&caller.group)?;
                    number += 1;
                    if !self.outlet.send(wire::ping(number)) {
                        return Err(Status::resource_exhausted("too much is unread on this stream"));
                    }
                }
                message = inbound.message() => match next(message, pace)? {
                    None => return Ok(None),
                    Some(Message::Report(report)) => caller.report = report,
                    Some(Message::PermitRequest(request)) => {
                        let refused = wire::unsigned(request.id, reason.to_string(), Duration::from_secs(10));
                        let _ = self.outlet.send(refused);
                    }
                    Some(_) => {}
                },
                () = self.outlet.ended() => return Ok(None),
            }
        }
    }

    /// The clerk has it. Returns whether the stream is over; if not, the clerk is, and another has to be found.
    async fn at_clerk(
        &self,
        clerk: &Inbox,
        inbound: &mut Streaming<v1::SidecarMessage>,
        caller: &mut Caller,
        pace: &mut Pace,
    ) -> Result<bool, Status> {
        let hello = Hello {
            pod: PodRef::new(&self.pod.uid, &self.pod.namespace, &self.pod.name),
            consumer_group: caller.group.clone(),
            order: caller.order,
            attempted_alone: caller.attempted_alone,
            report: wire::report(&caller.report),
        };
        let sent = clerk.send(Input::Hello {
            stream: caller.id,
            hello: Box::new(hello),
            version: caller.version.clone(),
            detail: caller.report.clone(),
            outlet: self.outlet.clone(),
        });
        if sent.is_err() {
            return Ok(false);
        }
        let over = loop {
            tokio::select! {
                message = inbound.message() => {
                    let input = match next(message, pace) {
                        Ok(Some(Message::Report(report))) => {
                            caller.report = report.clone();
                            Input::Report(caller.id, report)
                        }
                        Ok(Some(Message::Pong(pong))) => Input::Pong(caller.id, pong.number),
                        Ok(Some(Message::PermitRequest(request))) => Input::Permit(caller.id, request),
                        Ok(Some(Message::Hello(_))) => break Err(Status::invalid_argument("a second `hello`")),
                        Ok(None) => break Ok(true),
                        Err(status) => break Err(status),
                    };
                    if clerk.send(input).is_err() {
                        break Ok(false);
                    }
                }
                () = self.outlet.ended() => break Ok(true),
                () = clerk.closed() => break Ok(false),
            }
        };
        let _ = clerk.send(Input::Gone(caller.id));
        over
    }
}

/// The message in what has come; `None` at the end of the stream.
fn next(received: Result<Option<v1::SidecarMessage>, Status>, pace: &mut Pace) -> Result<Option<Message>, Status> {
    let Ok(Some(message)) = received else {
        // A connection that broke, and one that was closed, are the same here.
        return Ok(None);
    };
    if !pace.admit() {
        return Err(Status::resource_exhausted(format!("more than {PER_SECOND} messages in a second")));
    }
    message.message.map(Some).ok_or_else(|| Status::invalid_argument("a message that holds nothing"))
}

/// How much a stream says.
struct Pace {
    since: Instant,
    count: u32,
}

impl Pace {
    fn new() -> Self {
        Self { since: Instant::now(), count: 0 }
    }

    fn admit(&mut self) -> bool {
        if self.since.elapsed() >= Duration::from_secs(1) {
            *self = Self::new();
        }
        self.count += 1;
        self.count <= PER_SECOND
    }
}
