//! The engine, driven frame by frame by a peer that the test plays.
//!
//! The peer's frames are made, and the engine's are read, with fe2o3-amqp-types and `serde_amqp` and with framing of this
//! file's own, so that no mistake of ours can hide behind itself. The engine reads what comes once on a connection with the
//! same library; that is tested against strangers' implementations, end to end.

mod chunks;
mod credit;
mod endings;
mod handshake;
mod time;
mod transfers;

use std::time::{Duration, Instant};

use fe2o3_amqp_types::definitions::{Error, Handle, ReceiverSettleMode, Role, SenderSettleMode};
use fe2o3_amqp_types::messaging::message::__private::Serializable;
use fe2o3_amqp_types::messaging::{ApplicationProperties, DeliveryState, Message as PeerMessage, Source, Target};
use fe2o3_amqp_types::performatives::{Attach, Begin, Close, Detach, Disposition, End, Flow, Open, Transfer};
use fe2o3_amqp_types::primitives::{Array, Symbol};
use fe2o3_amqp_types::sasl::{SaslCode, SaslInit, SaslMechanisms, SaslOutcome};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_cloud::secret::SecretString;
use sluice_cloud::sign::SaslCredentials;

use super::*;
use crate::amqp::message::Unreadable;

/// The peer's channel and handle: not ours, so that mixing them up shows.
const PEER_CHANNEL: u16 = 5;
const PEER_HANDLE: u32 = 9;

const STEP: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);

fn params() -> Params {
    Params {
        container_id: "sidecar-0".to_owned(),
        host: "amqp.example".to_owned(),
        link_name: "link-0".to_owned(),
        source_address: "default".to_owned(),
        idle_timeout: IDLE,
        max_frame_size: 64 * 1024,
        max_message_size: 256 * 1024,
        step_timeout: STEP,
        settle_singly: false,
    }
}

fn credentials() -> SaslCredentials {
    SaslCredentials { user_name: SecretString::new("user"), password: SecretString::new("open sesame") }
}

/// What the engine sent.
#[derive(Debug, PartialEq)]
enum Sent {
    Header([u8; 8]),
    Heartbeat,
    SaslInit { mechanism: String, hostname: Option<String>, response: Vec<u8> },
    Open(Box<Open>),
    Begin(Box<Begin>),
    Attach(Box<Attach>),
    Flow(Box<Flow>),
    Disposition(Disposition),
    Detach(Detach),
    End(End),
    Close(Close),
}

/// An engine, the time, and what has come of it.
struct Link {
    engine: Engine,
    now: Instant,
    deliveries: Vec<Incoming>,
}

impl Link {
    fn new(params: Params) -> Self {
        Self::with_credentials(params, credentials())
    }

    fn with_credentials(params: Params, credentials: SaslCredentials) -> Self {
        let now = Instant::now();
        Self { engine: Engine::new(params, credentials, now), now, deliveries: Vec::new() }
    }

    /// A link that stands, with nothing left to be written.
    fn attached() -> Self {
        Self::attached_with(params(), &peer_begin(), &peer_attach())
    }

    fn attached_with(params: Params, begin: &Begin, attach: &Attach) -> Self {
        let mut link = Self::new(params);
        link.hears(&[login(), AMQP.to_vec(), frame(0, &peer_open())].concat()).unwrap();
        link.hears(&[frame(PEER_CHANNEL, begin), frame(PEER_CHANNEL, attach)].concat()).unwrap();
        assert!(link.engine.is_attached());
        link.says();
        link
    }

    /// Attached, with `credit` granted.
    fn granted(credit: u32) -> Self {
        let mut link = Self::attached();
        link.engine.grant(credit);
        link.says();
        link
    }

    /// The peer's bytes, all of which must be used unless there is a fault.
    fn hears(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let used = self.engine.input(self.now, bytes, &mut self.deliveries)?;
        assert_eq!(used, bytes.len(), "whole frames were given, so all of them are to be used");
        Ok(())
    }

    /// What the engine has to say, all of it written at once.
    fn says(&mut self) -> Vec<Sent> {
        let bytes = self.engine.output().to_vec();
        self.engine.wrote(self.now, bytes.len());
        assert!(self.engine.output().is_empty());
        parse(&bytes)
    }

    fn waits(&mut self, time: Duration) -> Result<(), Fault> {
        self.now += time;
        self.engine.tick(self.now)
    }

    /// Of each delivery so far its number and its payload.
    fn payloads(&self) -> Vec<(u32, Vec<u8>)> {
        let payload = |incoming: &Incoming| incoming.message.as_ref().unwrap().payload().to_vec();
        self.deliveries.iter().map(|incoming| (incoming.delivery_id, payload(incoming))).collect()
    }
}

// ---- The peer's side -------------------------------------------------------------------------------------------------

const SASL: [u8; 8] = *b"AMQP\x03\x01\x00\x00";
const AMQP: [u8; 8] = *b"AMQP\x00\x01\x00\x00";

fn framed(kind: u8, channel: u16, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(8 + body.len()).unwrap();
    [&size.to_be_bytes()[..], &[2, kind], &channel.to_be_bytes(), body].concat()
}

fn frame(channel: u16, performative: &impl Serialize) -> Vec<u8> {
    framed(0, channel, &serde_amqp::to_vec(performative).unwrap())
}

fn sasl(performative: &impl Serialize) -> Vec<u8> {
    framed(1, 0, &serde_amqp::to_vec(performative).unwrap())
}

fn mechanisms(names: &[&str]) -> SaslMechanisms {
    let names: Vec<Symbol> = names.iter().map(|name| Symbol::from(*name)).collect();
    SaslMechanisms { sasl_server_mechanisms: Array::from(names) }
}

fn outcome(code: SaslCode) -> SaslOutcome {
    SaslOutcome { code, additional_data: None }
}

/// All that the peer says until the credentials are taken.
fn login() -> Vec<u8> {
    [SASL.to_vec(), sasl(&mechanisms(&["ANONYMOUS", "PLAIN"])), sasl(&outcome(SaslCode::Ok))].concat()
}

fn peer_open() -> Open {
    Open {
        container_id: "platform".to_owned(),
        hostname: None,
        max_frame_size: 65_536.into(),
        channel_max: fe2o3_amqp_types::performatives::ChannelMax(10),
        idle_time_out: None,
        outgoing_locales: None,
        incoming_locales: None,
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    }
}

fn peer_begin() -> Begin {
    Begin {
        remote_channel: Some(0),
        next_outgoing_id: 0,
        incoming_window: 2048,
        outgoing_window: 2048,
        handle_max: Handle(7),
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    }
}

fn peer_attach() -> Attach {
    Attach {
        name: "link-0".to_owned(),
        handle: Handle(PEER_HANDLE),
        role: Role::Sender,
        snd_settle_mode: SenderSettleMode::Unsettled,
        rcv_settle_mode: ReceiverSettleMode::First,
        source: Some(Box::new(Source { address: Some("default".to_owned()), ..Source::default() })),
        target: Some(Box::new(Target::default().into())),
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: Some(0),
        max_message_size: None,
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    }
}

/// A transfer that is a whole delivery.
fn transfer(id: u32) -> Transfer {
    Transfer {
        handle: Handle(PEER_HANDLE),
        delivery_id: Some(id),
        delivery_tag: Some(id.to_be_bytes().to_vec().into()),
        message_format: Some(0),
        settled: Some(false),
        more: false,
        rcv_settle_mode: None,
        state: None,
        resume: false,
        aborted: false,
        batchable: false,
    }
}

/// A further frame of a delivery, with no more fields than it needs.
fn continuation(more: bool) -> Transfer {
    Transfer { delivery_id: None, delivery_tag: None, message_format: None, settled: None, more, ..transfer(0) }
}

fn transfer_frame(transfer: &Transfer, payload: &[u8]) -> Vec<u8> {
    framed(0, PEER_CHANNEL, &[serde_amqp::to_vec(transfer).unwrap(), payload.to_vec()].concat())
}

/// The sections of a message with `payload` as its Data.
fn message(payload: &[u8]) -> Vec<u8> {
    let properties =
        ApplicationProperties::builder().insert("topic", "/pk/dn/user/up").insert("messageId", "1").build();
    let message = PeerMessage::builder().application_properties(properties).data(payload.to_vec()).build();
    serde_amqp::to_vec(&Serializable(message)).unwrap()
}

fn delivery(id: u32, payload: &[u8]) -> Vec<u8> {
    transfer_frame(&transfer(id), &message(payload))
}

/// A flow of the sender.
fn peer_flow(delivery_count: u32) -> Flow {
    Flow {
        next_incoming_id: Some(0),
        incoming_window: 2048,
        next_outgoing_id: 0,
        outgoing_window: 2048,
        handle: Some(Handle(PEER_HANDLE)),
        delivery_count: Some(delivery_count),
        link_credit: Some(0),
        available: Some(0),
        drain: false,
        echo: false,
        properties: None,
    }
}

// ---- Reading what the engine says ------------------------------------------------------------------------------------

fn parse(mut bytes: &[u8]) -> Vec<Sent> {
    let mut sent = Vec::new();
    while !bytes.is_empty() {
        if bytes.starts_with(b"AMQP") {
            let (header, rest) = bytes.split_first_chunk().unwrap();
            sent.push(Sent::Header(*header));
            bytes = rest;
            continue;
        }
        let size = u32::from_be_bytes(*bytes.first_chunk().unwrap()) as usize;
        let (whole, rest) = bytes.split_at(size);
        bytes = rest;
        sent.push(sent_frame(whole));
    }
    sent
}

fn sent_frame(frame: &[u8]) -> Sent {
    assert_eq!(frame[4], 2, "no extended header");
    assert_eq!(frame[6..8], [0, 0], "our only channel");
    let body = &frame[8..];
    if body.is_empty() {
        return Sent::Heartbeat;
    }
    assert_eq!(body[..2], [0x00, 0x53]);
    assert_eq!(frame[5], u8::from(body[2] == 0x41), "SASL frames are marked as such");
    match body[2] {
        0x41 => {
            let SaslInit { mechanism, hostname, initial_response } = read(body);
            let response = initial_response.unwrap().into_vec();
            Sent::SaslInit { mechanism: mechanism.into_inner(), hostname, response }
        }
        0x10 => Sent::Open(read(body)),
        0x11 => Sent::Begin(read(body)),
        0x12 => Sent::Attach(read(body)),
        0x13 => Sent::Flow(read(body)),
        0x15 => Sent::Disposition(read(body)),
        0x16 => Sent::Detach(read(body)),
        0x17 => Sent::End(read(body)),
        0x18 => Sent::Close(read(body)),
        other => panic!("a receiver has no business with {other:#04x}"),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> T {
    serde_amqp::from_slice(body).unwrap()
}

/// What the engine grants or says of its credit: delivery-count, link-credit, drain.
fn flows(sent: &[Sent]) -> Vec<(u32, u32, bool)> {
    sent.iter()
        .map(|sent| match sent {
            Sent::Flow(flow) => {
                assert_eq!(flow.handle, Some(Handle(0)), "the flow is about our link");
                assert!(!flow.echo, "our flows need no answer");
                (flow.delivery_count.unwrap(), flow.link_credit.unwrap(), flow.drain)
            }
            other => panic!("expected a flow, found {other:?}"),
        })
        .collect()
}

/// The ranges that the engine settled, and how.
fn settled(sent: &[Sent]) -> Vec<(u32, u32, DeliveryState)> {
    sent.iter()
        .map(|sent| match sent {
            Sent::Disposition(disposition) => {
                assert_eq!(disposition.role, Role::Receiver);
                assert!(disposition.settled);
                let first = disposition.first;
                (first, disposition.last.unwrap_or(first), disposition.state.clone().unwrap())
            }
            other => panic!("expected a disposition, found {other:?}"),
        })
        .collect()
}

/// The condition and description of an error that the engine gives its peer.
fn accusation(error: Option<&Error>) -> Option<(String, String)> {
    error.map(|error| {
        let Fault::Ended { condition, .. } = cold::ended(Renew::Link, Some(error.clone())) else { unreachable!() };
        (condition, error.description.clone().unwrap_or_default())
    })
}
