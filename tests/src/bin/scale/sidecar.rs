//! What the broker sees of a sidecar: a stream that reports, answers pings, takes a slot, and asks for a permit for it. No
//! AMQP: the link is up once the permit has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use sluice_proto::control::v1::broker_message::Message as Said;
use sluice_proto::control::v1::control_client::ControlClient;
use sluice_proto::control::v1::link::Phase;
use sluice_proto::control::v1::sidecar_message::Message;
use sluice_proto::control::v1::{Figures, Hello, Link, PermitRequest, Pong, Report, SidecarMessage};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::transport::Endpoint;

/// What all of them together have come to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Streams that are open.
    pub(crate) open: AtomicUsize,
    /// Links that are up.
    pub(crate) up: AtomicUsize,
    /// Reports that were sent.
    pub(crate) reports: AtomicUsize,
    /// Pings that were answered.
    pub(crate) pongs: AtomicUsize,
}

/// One sidecar.
pub(crate) struct Sidecar {
    /// Where the broker is.
    pub(crate) endpoint: Endpoint,
    /// The pod's token.
    pub(crate) token: String,
    /// The ConsumerGroup.
    pub(crate) group: String,
    /// How often it reports.
    pub(crate) every: Duration,
    /// Its number, so that not all say the same at the same time.
    pub(crate) number: usize,
    /// Where it is counted.
    pub(crate) tally: Arc<Tally>,
}

impl Sidecar {
    /// Runs until the stream ends, which is an error.
    pub(crate) async fn run(self) -> Result<()> {
        let channel = self.endpoint.connect().await?;
        let (out, outward) = mpsc::channel(16);
        let mut report = Report { wants_slot: true, link: Some(Link::default()), ..Report::default() };
        let say = async |message: Message| {
            out.send(SidecarMessage { message: Some(message) }).await.context("the stream has ended")
        };
        say(Message::Hello(Hello {
            protocol_min: 1,
            protocol_max: 1,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            consumer_group: self.group.clone(),
            process: 1,
            stream: 1,
            report: Some(report.clone()),
            attempted_alone: false,
        }))
        .await?;
        let mut request = Request::new(ReceiverStream::new(outward));
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token).parse()?);
        let mut inward = ControlClient::new(channel).connect(request).await?.into_inner();
        let share = u64::try_from(self.number % 50)?;
        let first = Instant::now() + self.every.mul_f64(f64::from(u32::try_from(share)?) / 50.0);
        let mut due = interval_at(first, self.every);
        let (mut asked, mut ask_at, mut slot, mut round) = (0, None, 0, share);
        self.tally.open.fetch_add(1, Ordering::Relaxed);
        loop {
            tokio::select! {
                said = inward.message() => match said?.and_then(|said| said.message) {
                    None => bail!("the broker has ended the stream"),
                    Some(Said::Ping(ping)) => {
                        say(Message::Pong(Pong { number: ping.number })).await?;
                        self.tally.pongs.fetch_add(1, Ordering::Relaxed);
                    }
                    Some(Said::SlotGranted(grant)) if grant.epoch != report.held_epoch => {
                        (report.held_epoch, report.seen_epoch) = (grant.epoch, grant.epoch);
                        slot = grant.slots.first().copied().unwrap_or_default();
                        report.link = Some(Link { phase: Phase::Connecting.into(), ..Link::default() });
                        say(Message::Report(report.clone())).await?;
                        ask_at = Some(Instant::now());
                    }
                    Some(Said::PermitRefused(refused)) => {
                        ask_at = Some(Instant::now() + Duration::from_millis(refused.retry_after_ms.into()));
                    }
                    Some(Said::Permit(_)) => {
                        report.link = Some(Link { phase: Phase::Up.into(), was_up: true, ..Link::default() });
                        say(Message::Report(report.clone())).await?;
                        self.tally.up.fetch_add(1, Ordering::Relaxed);
                    }
                    Some(_) => {}
                },
                () = sleep_until(ask_at.unwrap_or(first)), if ask_at.is_some() => {
                    (asked, ask_at) = (asked + 1, None);
                    say(Message::PermitRequest(PermitRequest { id: asked, epoch: report.held_epoch, slot })).await?;
                }
                _ = due.tick() => {
                    round += 1;
                    let received = 500 + round * 7919 % 200;
                    let in_flight = u32::try_from(received / 50)?;
                    let interval_ms = u32::try_from(self.every.as_millis())?;
                    let figures = Figures { interval_ms, received, accepted: received, in_flight, saturation_permille: 300, streams: 1 };
                    say(Message::Report(Report { figures: Some(figures), ..report.clone() })).await?;
                    self.tally.reports.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}
