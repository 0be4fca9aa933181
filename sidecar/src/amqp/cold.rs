//! The performatives that come once on a connection, through fe2o3-amqp-types and `serde_amqp`, behind [`shape::check`].

use fe2o3_amqp_types::definitions::{
    AmqpError, ConnectionError, Error, ErrorCondition, Handle, ReceiverSettleMode, Role, SenderSettleMode,
};
use fe2o3_amqp_types::messaging::{Source, Target, TargetArchetype};
use fe2o3_amqp_types::performatives::{Attach, Begin, Close, Detach, End, Open};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_amqp::primitives::Symbol;
use sluice_cloud::sign::SaslCredentials;

use super::fault::{Fault, Renew};
use super::params::{Params, SESSION_WINDOW};
use super::{frame, shape};

/// The only channel and handle that a receiver-only client needs.
pub const CHANNEL: u16 = 0;
/// See [`CHANNEL`].
pub const HANDLE: u32 = 0;

/// Reads a performative (its descriptor included) after checking size and depth.
pub fn decode<T: DeserializeOwned>(performative: &'static str, body: &[u8]) -> Result<T, Fault> {
    let body = shape::check(body).map_err(|error| Fault::malformed(performative, error))?;
    serde_amqp::from_slice(&body).map_err(|error| Fault::Malformed { performative, error: error.to_string() })
}

/// Serialising these values into memory can't fail; should it, the peer sees an empty frame and says so.
fn body(value: &impl Serialize) -> Vec<u8> {
    serde_amqp::to_vec(value).unwrap_or_default()
}

fn write(out: &mut Vec<u8>, value: &impl Serialize) {
    frame::write(out, CHANNEL, |out| out.extend_from_slice(&body(value)));
}

/// Asks for SASL PLAIN with an empty authorisation identity (RFC 4616). The platform takes the authentication identity,
/// whatever its length (`PLATFORM.md 1.4`). Written by hand, since a general encoder would leave copies of the secrets in
/// memory that nobody clears; the caller clears `out`.
pub fn write_sasl_init(out: &mut Vec<u8>, credentials: &SaslCredentials, host: &str) {
    let response = [&[0], credentials.user_name.expose().as_bytes(), &[0], credentials.password.expose().as_bytes()];
    // Growing later would leave a copy behind, too.
    out.reserve(64 + host.len() + response.iter().map(|part| part.len()).sum::<usize>());
    frame::write_sasl(out, |out| {
        out.extend_from_slice(&[0x00, 0x53, 0x41, 0xd0]);
        sized(out, |out| {
            out.extend_from_slice(&3_u32.to_be_bytes());
            out.extend_from_slice(b"\xa3\x05PLAIN\xb0");
            sized(out, |out| response.iter().for_each(|part| out.extend_from_slice(part)));
            out.push(0xb1);
            sized(out, |out| out.extend_from_slice(host.as_bytes()));
        });
    });
}

/// Writes what `body` writes behind its size, in four bytes.
fn sized(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let size = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&size.to_be_bytes());
}

/// Open, Begin and Attach in one breath: the platform allows 15 s from one to the next (`PLATFORM.md 1.1`), and no answer
/// changes what is asked for.
pub fn write_opening(out: &mut Vec<u8>, params: &Params) {
    write(
        out,
        &Open {
            container_id: params.container_id.clone(),
            hostname: Some(params.host.clone()),
            max_frame_size: params.max_frame_size.into(),
            channel_max: fe2o3_amqp_types::performatives::ChannelMax(0),
            idle_time_out: Some(u32::try_from(params.idle_timeout.as_millis()).unwrap_or(u32::MAX)),
            outgoing_locales: None,
            incoming_locales: None,
            offered_capabilities: None,
            desired_capabilities: None,
            properties: None,
        },
    );
    write(
        out,
        &Begin {
            remote_channel: None,
            next_outgoing_id: 0,
            incoming_window: SESSION_WINDOW,
            outgoing_window: SESSION_WINDOW,
            handle_max: Handle(0),
            offered_capabilities: None,
            desired_capabilities: None,
            properties: None,
        },
    );
    write(
        out,
        &Attach {
            name: params.link_name.clone(),
            handle: Handle(HANDLE),
            role: Role::Receiver,
            snd_settle_mode: SenderSettleMode::Unsettled,
            rcv_settle_mode: ReceiverSettleMode::First,
            source: Some(Box::new(Source { address: Some(params.source_address.clone()), ..Source::default() })),
            target: Some(Box::new(TargetArchetype::Target(Target::default()))),
            unsettled: None,
            incomplete_unsettled: false,
            initial_delivery_count: None,
            max_message_size: Some(params.max_message_size),
            offered_capabilities: None,
            desired_capabilities: None,
            properties: None,
        },
    );
}

/// Gives up the link.
pub fn write_detach(out: &mut Vec<u8>) {
    write(out, &Detach { handle: Handle(HANDLE), closed: true, error: None });
}

/// Gives up the session.
pub fn write_end(out: &mut Vec<u8>) {
    write(out, &End { error: None });
}

/// Gives up the connection, with the reason if it is the peer's doing.
pub fn write_close(out: &mut Vec<u8>, fault: Option<&Fault>) {
    let error = fault.map(|fault| Error::new(condition(fault), fault.to_string(), None));
    write(out, &Close { error });
}

fn condition(fault: &Fault) -> ErrorCondition {
    match fault {
        Fault::Frame(_) => ConnectionError::FramingError.into(),
        Fault::Malformed { .. } => AmqpError::DecodeError.into(),
        Fault::Timeout(..) | Fault::Silent(_) => AmqpError::ResourceLimitExceeded.into(),
        _ => AmqpError::NotAllowed.into(),
    }
}

/// What the peer said when it ended `level`.
pub fn ended(level: Renew, error: Option<Error>) -> Fault {
    match error {
        Some(Error { condition, description, .. }) => {
            Fault::Ended { level, condition: condition_name(&condition), description }
        }
        None => Fault::Ended { level, condition: "no reason given".into(), description: None },
    }
}

fn condition_name(condition: &ErrorCondition) -> String {
    match condition {
        ErrorCondition::AmqpError(error) => Symbol::from(error),
        ErrorCondition::ConnectionError(error) => Symbol::from(error),
        ErrorCondition::SessionError(error) => Symbol::from(error),
        ErrorCondition::LinkError(error) => Symbol::from(error),
        ErrorCondition::Custom(name) => name.clone(),
    }
    .into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Empty, and says of what.
    const NO_SYMBOLS: [u8; 4] = [0xe0, 2, 0, 0xa3];

    fn described(code: u8, fields: &[&[u8]]) -> Vec<u8> {
        let content = fields.concat();
        let size = u32::try_from(content.len() + 4).unwrap().to_be_bytes();
        let count = u32::try_from(fields.len()).unwrap().to_be_bytes();
        [&[0x00, 0x53, code, 0xd0], &size[..], &count, &content].concat()
    }

    #[test]
    fn what_follows_an_empty_array_is_read() {
        let properties = [0xc1, 7, 2, 0xa3, 1, b'k', 0xa1, 1, b'v'];
        let open = [&[0xa1, 1, b'c'][..], &[0x40], &[0x52, 1], &[0x60, 0, 2], &[0x52, 3]];
        let arrays = [&NO_SYMBOLS[..], &[0xf0, 0, 0, 0, 5, 0, 0, 0, 0, 0xa3], &[0xe0, 1, 0], &NO_SYMBOLS];
        let body = described(0x10, &[&open[..], &arrays, &[&properties]].concat());
        let read: Open = decode("Open", &body).unwrap();
        assert_eq!((read.channel_max.0, read.idle_time_out), (2, Some(3)));
        assert_eq!(read.properties.unwrap().get(&Symbol::from("k")), Some(&serde_amqp::Value::String("v".into())));

        let source = described(0x28, &[&[&[0x40][..]; 9], &[&NO_SYMBOLS[..], &NO_SYMBOLS][..]].concat());
        let fields = [&[0xa1, 1, b'l'][..], &[0x52, 9], &[0x42], &[0x40], &[0x40], &source, &[0x40], &[0x40], &[0x40]];
        let body = described(0x12, &[&fields[..], &[&[0x52, 5], &[0x40], &NO_SYMBOLS]].concat());
        let read: Attach = decode("Attach", &body).unwrap();
        assert_eq!((read.handle.0, read.initial_delivery_count), (9, Some(5)));
    }

    #[test]
    fn an_array_that_would_be_misread_is_refused_by_its_name() {
        let fault = decode::<Close>("Close", &described(0x18, &[&[0xe0, 5, 1, 0xc1, 2, 1, 0x40]])).unwrap_err();
        let words = "the peer sent a malformed Close: an array of lists, maps, arrays or described values, which are not \
                     read here";
        assert_eq!(fault.to_string(), words);
    }
}
