//! The rules and values that a connection keeps.

#![expect(clippy::needless_pass_by_value, reason = "every proof is handed its terms")]

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fe2o3_amqp_types::definitions::Role;
use fe2o3_amqp_types::messaging::message::DecodeIntoMessage as _;
use fe2o3_amqp_types::messaging::{Body, Message, MessageId};
use fe2o3_amqp_types::performatives::{Open, Performative};
use fe2o3_amqp_types::primitives::SimpleValue;
use rustls::version::{TLS12, TLS13};
use serde_amqp::primitives::Symbol;
use serde_amqp::read::SliceReader;
use serde_amqp::{Value, to_vec};
use sluice_cloud::sign::ConnectIdentity;

use super::{Proof, ensure};
use crate::accounts::Accounts;
use crate::amqp::admission::admit;
use crate::amqp::{Order, Seat as _};
use crate::config::AccessKeyEntry;
use crate::hub::GroupSeat;
use crate::platform::{Credit, Door, Outgoing, Refusal};
use crate::rules::Rule;
use crate::terms::Terms;
use crate::tests::client::{attach, identity, open};
use crate::tests::peer::{Peer, at, just_before};
use crate::tests::wire::{Stage, at_made_up_times, hub};
use crate::tests::{GROUP, draft};

pub(super) const PROOFS: &[Proof] = &[
    Proof::rule(Rule::AuthDeadline, auth_deadline),
    Proof::rule(Rule::LinkDeadline, link_deadline),
    Proof::rule(Rule::IdleRange, idle_range),
    Proof::rule(Rule::IdleKept, idle_kept),
    Proof::rule(Rule::OneReceiver, one_receiver),
    Proof::rule(Rule::NoSender, no_sender),
    Proof::rule(Rule::SaslSignature, sasl_signature),
    Proof::rule(Rule::MaxFrame, max_frame),
    Proof::rule(Rule::FrameDepth, frame_depth),
    Proof::rule(Rule::OutBound, out_bound),
    Proof::value("tokenExpiry", "LivesOn", |terms| token_expires(terms, &[])),
    Proof::value("tokenExpiry", "Closes", |terms| token_expires(terms, &["close amqp:unauthorized-access"])),
    Proof::value("timestamp", "Any", |terms| timestamp(terms, true)),
    Proof::value("timestamp", "Fresh", |terms| timestamp(terms, false)),
    Proof::value("saslFrame", "AnySize", |terms| sasl_frame(terms, true)),
    Proof::value("saslFrame", "Within512", |terms| sasl_frame(terms, false)),
    Proof::value("openIdleTimeOut", "Half", |terms| open_idle_time_out(terms, Some(30_000))),
    Proof::value("openIdleTimeOut", "Absent", |terms| open_idle_time_out(terms, None)),
    Proof::value("openIdleTimeOut", "Equal", |terms| open_idle_time_out(terms, Some(60_000))),
    Proof::value("openProperties", "Small", |terms| open_size(terms, 0, 512)),
    Proof::value("openProperties", "Large", |terms| open_size(terms, 4_096, 8_192)),
    Proof::value("tlsVersions", "Both", |terms| tls_versions(terms, true)),
    Proof::value("tlsVersions", "Only12", |terms| tls_versions(terms, false)),
    Proof::value("generateTime", "Long", generate_time_is_a_long),
    Proof::value("generateTime", "String", generate_time_is_a_string),
    Proof::value("messageId", "Absent", |terms| message_id(terms, false)),
    Proof::value("messageId", "Present", |terms| message_id(terms, true)),
    Proof::value("closingWords", "Standard", |terms| {
        closing_words(
            terms,
            [" amqp:resource-limit-exceeded", " amqp:invalid-field", " amqp:not-allowed", " amqp:connection:forced"],
        )
    }),
    Proof::value("closingWords", "Vendor", |terms| {
        closing_words(terms, [" iot:9600", " iot:9601", " iot:9602", " iot:9602"])
    }),
    Proof::value("closingWords", "Bare", |terms| closing_words(terms, [""; 4])),
];

/// `Err` unless this is what a client heard.
fn heard(found: &[String], expected: &[&str]) -> Result<(), String> {
    ensure(found == expected, format!("{found:?} instead of {expected:?}"))
}

fn auth_deadline(terms: Terms) -> Result<(), String> {
    at_made_up_times(async {
        let mut guest = Stage::new(terms).guest().await?;
        let took = guest.ended_after().await?;
        let (least, most) = (Duration::from_millis(14_990), Duration::from_secs(16));
        ensure((least..most).contains(&took), format!("cut off after {took:?}"))
    })
}

fn link_deadline(terms: Terms) -> Result<(), String> {
    let mut peer = Peer::begun(terms);
    heard(&peer.until(just_before(15)), &[])?;
    heard(&peer.until(at(15)), &["close amqp:connection:forced"])
}

fn idle_range(terms: Terms) -> Result<(), String> {
    for (idle_time_out, fits) in
        [(Some(30_000), true), (Some(300_000), true), (Some(29_999), false), (Some(300_001), false), (None, false)]
    {
        let mut peer = Peer::authenticated(terms.clone());
        peer.hears(&Open { idle_time_out, ..open(0) });
        heard(&peer.said(), if fits { &["open"] } else { &["open", "close amqp:invalid-field"] })?;
    }
    Ok(())
}

fn idle_kept(terms: Terms) -> Result<(), String> {
    let mut peer = Peer::attached(terms);
    heard(&peer.until(just_before(60)), &["beat"; 2])?;
    heard(&peer.until(at(60)), &["close amqp:resource-limit-exceeded"])
}

fn one_receiver(terms: Terms) -> Result<(), String> {
    let mut peer = Peer::attached(terms);
    peer.hears(&attach(1, Role::Receiver));
    heard(&peer.said(), &["attach without terminus", "detach amqp:not-allowed"])
}

fn no_sender(terms: Terms) -> Result<(), String> {
    let mut peer = Peer::attached(terms);
    peer.hears(&attach(1, Role::Sender));
    heard(&peer.said(), &["attach without terminus", "detach amqp:not-allowed"])
}

/// Tries to get in with what this secret signs, at this time.
fn admitted(terms: &Terms, identity: &ConnectIdentity, secret: &str, now_ms: u64) -> bool {
    let keys = [AccessKeyEntry::new("testid", "testsecret")];
    let accounts = Arc::new(Mutex::new(Accounts::new("1", &keys, &[], Vec::new(), Vec::new())));
    identity
        .sign(&secret.into())
        .is_ok_and(|signed| admit(&accounts, identity, signed.password.expose(), "1", terms, now_ms).is_ok())
}

fn sasl_signature(terms: Terms) -> Result<(), String> {
    let now_ms = identity("c").timestamp_ms;
    ensure(admitted(&terms, &identity("c"), "testsecret", now_ms), "the right secret is refused")?;
    ensure(!admitted(&terms, &identity("c"), "othersecret", now_ms), "a wrong secret is admitted")
}

fn timestamp(terms: Terms, any: bool) -> Result<(), String> {
    let (stamp, window) = (identity("c").timestamp_ms, 15 * 60 * 1_000);
    for (now_ms, fresh) in [
        (stamp, true),
        (stamp + window, true),
        (stamp - window, true),
        (stamp + window + 1, false),
        (stamp - window - 1, false),
    ] {
        let found = admitted(&terms, &identity("c"), "testsecret", now_ms);
        ensure(found == (fresh || any), format!("{stamp} at {now_ms}: {found}"))?;
    }
    Ok(())
}

/// An Open that is as large as a padding of this many bytes makes it.
fn padded(bytes: usize) -> Open {
    let padding = (Symbol::from("padding"), Value::String("x".repeat(bytes)));
    Open { properties: Some([padding].into_iter().collect()), ..open(60_000) }
}

fn max_frame(terms: Terms) -> Result<(), String> {
    let mut peer = Peer::authenticated(terms.clone());
    peer.hears(&padded(60_000));
    heard(&peer.said(), &["open"])?;
    let mut peer = Peer::authenticated(terms);
    peer.hears(&padded(66_000));
    heard(&peer.said(), &["open", "close amqp:connection:framing-error"])
}

fn frame_depth(terms: Terms) -> Result<(), String> {
    for (depth, fits) in [(20, true), (40, false)] {
        let value = (0..depth).fold(Value::Null, |inner, _| Value::List(vec![inner]));
        let properties = [(Symbol::from("deep"), value)].into_iter().collect();
        let mut peer = Peer::authenticated(terms.clone());
        peer.hears(&Open { properties: Some(properties), ..open(60_000) });
        heard(&peer.said(), if fits { &["open"] } else { &["open", "close amqp:decode-error"] })?;
    }
    Ok(())
}

/// A link that is refused has its name sent back: the cheapest way to have much written.
fn out_bound(terms: Terms) -> Result<(), String> {
    const BOUND: usize = 1024 * 1024;
    let mut peer = Peer::attached(terms);
    for handle in 1..60 {
        let mut attach = attach(handle, Role::Receiver);
        attach.name = "n".repeat(32 * 1024);
        peer.hears(&attach);
    }
    let waits = peer.connection.unsent().len();
    ensure(waits < BOUND + 64 * 1024, format!("{waits} bytes wait"))?;
    ensure(!peer.connection.may_read(), "it is read from")?;
    peer.said();
    ensure(peer.connection.may_read(), "it is not read from although it has read everything")
}

fn token_expires(terms: Terms, expected: &[&str]) -> Result<(), String> {
    let mut by_time = Peer::attached(terms.clone());
    by_time.connection.token_ends(at(10));
    heard(&by_time.until(just_before(10)), &[])?;
    heard(&by_time.until(at(10)), expected)?;
    let mut by_order = Peer::attached(terms);
    by_order.ordered(Order::Expire);
    heard(&by_order.said(), expected)
}

fn sasl_frame(terms: Terms, any_size: bool) -> Result<(), String> {
    at_made_up_times(async {
        let stage = Stage::new(terms);
        for (length, fits) in [(300, true), (2_000, any_size)] {
            let outcome = stage.guest().await?.plain(&"u".repeat(length), "password").await?;
            ensure(outcome.is_some() == fits, format!("a user name of {length} bytes: {outcome:?}"))?;
        }
        Ok(())
    })
}

/// The emulator's Open in answer to one with an idle-time-out of a minute.
fn opened(terms: Terms) -> Result<Open, String> {
    let mut peer = Peer::authenticated(terms);
    peer.hears(&open(60_000));
    match peer.performatives().pop() {
        Some(Performative::Open(open)) => Ok(open),
        other => Err(format!("{other:?} instead of an open")),
    }
}

fn open_idle_time_out(terms: Terms, expected: Option<u32>) -> Result<(), String> {
    let found = opened(terms.clone())?.idle_time_out;
    ensure(found == expected, format!("it says {found:?}"))?;
    // Whatever it says of itself, what it keeps is the client's.
    let mut peer = Peer::attached(terms);
    ensure(peer.until(just_before(60)).iter().all(|frame| frame == "beat"), "closed too early")?;
    heard(&peer.until(at(60)), &["close amqp:resource-limit-exceeded"])
}

fn open_size(terms: Terms, least: usize, most: usize) -> Result<(), String> {
    let size = to_vec(&opened(terms)?).map_err(|error| error.to_string())?.len();
    ensure((least..most).contains(&size), format!("an open of {size} bytes"))
}

fn tls_versions(terms: Terms, both: bool) -> Result<(), String> {
    at_made_up_times(async {
        let stage = Stage::new(terms);
        ensure(stage.dial(&[&TLS12]).await.is_ok(), "TLS 1.2 is not taken")?;
        ensure(stage.dial(&[&TLS13]).await.is_ok() == both, format!("TLS 1.3 is taken: {}", !both))
    })
}

/// A message as it arrives.
fn message(terms: Terms) -> Result<Message<Body<Value>>, String> {
    let hub = hub(&Arc::new(terms));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    // The default group's address is its name, with the instance's when it is not of the first one.
    let (group, _) = hub.find_group(Some("iot-emulator"), GROUP).map_err(|error| error.to_string())?;
    let mut seat = GroupSeat::new(Arc::clone(&hub), group.clone(), "c".to_owned(), address, None);
    for door in [Door::Sasl, Door::Open, Door::Attach] {
        seat.pass(door).map_err(|error| error.to_string())?;
    }
    seat.attach();
    seat.grant(Credit { delivery_count: None, link_credit: 1, drain: false });
    hub.publish(&group, &[draft(b"x")]).map_err(|error| error.to_string())?;
    let mut outgoing = VecDeque::new();
    seat.fetch(1, &mut outgoing);
    let Some(Outgoing::Push { body, .. }) = outgoing.pop_front() else { return Err("nothing is pushed".to_owned()) };
    Body::decode_message_from_reader(SliceReader::new(&body)).map_err(|error| error.to_string())
}

fn application_property(message: &Message<Body<Value>>, name: &str) -> Option<SimpleValue> {
    message.application_properties.as_ref()?.get(name).cloned()
}

fn generate_time_is_a_long(terms: Terms) -> Result<(), String> {
    let found = application_property(&message(terms)?, "generateTime");
    ensure(matches!(found, Some(SimpleValue::Long(millis)) if millis > 1_600_000_000_000), format!("{found:?}"))
}

fn generate_time_is_a_string(terms: Terms) -> Result<(), String> {
    let found = application_property(&message(terms)?, "generateTime");
    let digits =
        matches!(&found, Some(SimpleValue::String(text)) if text.parse::<i64>().is_ok_and(|it| it > 1_600_000_000_000));
    ensure(digits, format!("{found:?}"))
}

fn message_id(terms: Terms, present: bool) -> Result<(), String> {
    let message = message(terms)?;
    let Some(SimpleValue::String(id)) = application_property(&message, "messageId") else {
        return Err("there is no messageId".to_owned());
    };
    let found = message.properties.and_then(|properties| properties.message_id);
    let expected = present.then_some(MessageId::String(id));
    ensure(found == expected, format!("message-id is {found:?}"))
}

/// What ends things says, after its name: a client too many, a bad heartbeat, a link that is not allowed, an order.
fn closing_words(terms: Terms, words: [&str; 4]) -> Result<(), String> {
    let [surplus, heartbeat, link, order] = words;
    let mut peer = Peer::authenticated(terms.clone());
    peer.book_mut().refuses = Some((Door::Open, Refusal::TooManyClients { limit: 64 }));
    peer.hears(&open(60_000));
    heard(&peer.said(), &["open", &format!("close{surplus}")])?;
    let mut peer = Peer::authenticated(terms.clone());
    peer.hears(&open(1));
    heard(&peer.said(), &["open", &format!("close{heartbeat}")])?;
    let mut peer = Peer::attached(terms);
    peer.hears(&attach(1, Role::Sender));
    heard(&peer.said(), &["attach without terminus", &format!("detach{link}")])?;
    let forced = crate::amqp::Failure::named("amqp:connection:forced", "load balancing");
    peer.ordered(Order::Detach { failure: Some(forced.clone()), closed: true });
    heard(&peer.said(), &[&format!("detach{order}")])?;
    peer.ordered(Order::Close(Some(forced)));
    heard(&peer.said(), &[&format!("close{order}")])
}
