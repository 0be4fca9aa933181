//! The SASL layer: protocol headers, mechanisms, PLAIN, outcome (AMQP 1.0, part 5). Frames may be far larger than the 512
//! bytes of the specification, since a security token does not fit into those; a profile can have it otherwise.

use bytes::{Buf, Bytes, BytesMut};
use fe2o3_amqp_types::sasl::{SaslCode, SaslInit, SaslMechanisms, SaslOutcome};
use serde::de::DeserializeOwned;
use serde_amqp::from_slice;
use serde_amqp::primitives::{Array, Symbol};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::encode;
use super::frame::{self, BadFrame, Kind};
use super::preflight::{self, Malformed};
use crate::profile::SaslFrame;

pub(crate) const SASL_HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";
pub(crate) const AMQP_HEADER: [u8; 8] = *b"AMQP\x00\x01\x00\x00";

/// The largest SASL frame that is read: any that a security token fits in.
const MAX_SASL_FRAME: usize = 64 * 1024;
/// The largest that AMQP knows (5.3.1).
const MIN_MAX_FRAME: usize = 512;

/// Why the SASL layer ended before it was done. For the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaslError {
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("the peer began with {0:02x?} where {1} was due")]
    Header([u8; 8], &'static str),
    #[error("{0}")]
    Frame(#[from] BadFrame),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("not a sasl-init: {0}")]
    Decode(#[from] serde_amqp::Error),
    #[error("mechanism {0:?}, but only PLAIN is offered")]
    Mechanism(String),
    #[error("the initial response is not PLAIN's three parts in UTF-8")]
    Plain,
}

/// What PLAIN carries (RFC 4616). The authorisation identity is passed over, as official clients differ in it
/// (PLATFORM.md 1.4). Both may hold secrets, so this can't be printed.
pub(crate) struct Plain {
    response: Bytes,
    user_name_at: usize,
    password_at: usize,
}

impl Plain {
    fn parse(response: Bytes) -> Option<Self> {
        let user_name_at = response.iter().position(|&byte| byte == 0)? + 1;
        let password_at = user_name_at + response[user_name_at..].iter().position(|&byte| byte == 0)? + 1;
        str::from_utf8(&response).ok()?;
        Some(Self { response, user_name_at, password_at })
    }

    pub(crate) fn user_name(&self) -> &str {
        str::from_utf8(&self.response[self.user_name_at..self.password_at - 1]).unwrap_or_default()
    }

    pub(crate) fn password(&self) -> &str {
        str::from_utf8(&self.response[self.password_at..]).unwrap_or_default()
    }
}

/// Reads until 8 bytes are there and takes them.
async fn read_header<S: AsyncRead + Unpin>(stream: &mut S, input: &mut BytesMut) -> Result<[u8; 8], SaslError> {
    loop {
        if let Some(&header) = input.first_chunk::<8>() {
            input.advance(8);
            return Ok(header);
        }
        read_more(stream, input).await?;
    }
}

async fn read_more<S: AsyncRead + Unpin>(stream: &mut S, input: &mut BytesMut) -> Result<(), SaslError> {
    match stream.read_buf(input).await? {
        0 => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
        _ => Ok(()),
    }
}

/// Exchanges headers, offers PLAIN, and reads what the client answers. A client that does not begin with the SASL header
/// is shown it and left (AMQP 1.0, 2.2).
pub(crate) async fn negotiate<S>(stream: &mut S, input: &mut BytesMut, size: SaslFrame) -> Result<Plain, SaslError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let header = read_header(stream, input).await?;
    if header != SASL_HEADER {
        stream.write_all(&SASL_HEADER).await?;
        stream.flush().await?;
        return Err(SaslError::Header(header, "the SASL header"));
    }
    let mut out = BytesMut::from(&SASL_HEADER[..]);
    let mechanisms = SaslMechanisms { sasl_server_mechanisms: Array::from(vec![Symbol::from("PLAIN")]) };
    encode::put(&mut out, Kind::Sasl, 0, &mechanisms)?;
    stream.write_all(&out).await?;
    stream.flush().await?;
    let limit = match size {
        SaslFrame::AnySize => MAX_SASL_FRAME,
        SaslFrame::Within512 => MIN_MAX_FRAME,
    };
    let init: SaslInit = read_frame(stream, input, limit).await?;
    if init.mechanism.as_str() != "PLAIN" {
        return Err(SaslError::Mechanism(init.mechanism.to_string()));
    }
    let response = init.initial_response.map(serde_bytes_into).unwrap_or_default();
    Plain::parse(response).ok_or(SaslError::Plain)
}

fn serde_bytes_into(binary: serde_amqp::primitives::Binary) -> Bytes {
    Bytes::from(binary.into_vec())
}

async fn read_frame<S: AsyncRead + Unpin, T: DeserializeOwned>(
    stream: &mut S,
    input: &mut BytesMut,
    limit: usize,
) -> Result<T, SaslError> {
    loop {
        if let Some(frame) = frame::next(input, Kind::Sasl, limit)? {
            return Ok(from_slice(&preflight::readable(&frame.body, preflight::MAX_DEPTH)?)?);
        }
        read_more(stream, input).await?;
    }
}

/// Tells the client the outcome.
pub(crate) async fn conclude<S: AsyncWrite + Unpin>(stream: &mut S, code: SaslCode) -> Result<(), SaslError> {
    let mut out = BytesMut::new();
    encode::put(&mut out, Kind::Sasl, 0, &SaslOutcome { code, additional_data: None })?;
    stream.write_all(&out).await?;
    stream.flush().await?;
    Ok(())
}

/// Exchanges the AMQP headers that follow a good outcome. A client that speaks another protocol is shown ours and left.
pub(crate) async fn begin_amqp<S>(stream: &mut S, input: &mut BytesMut) -> Result<(), SaslError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let header = read_header(stream, input).await?;
    stream.write_all(&AMQP_HEADER).await?;
    stream.flush().await?;
    if header == AMQP_HEADER { Ok(()) } else { Err(SaslError::Header(header, "the AMQP header")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_is_three_parts_and_the_first_does_not_matter() {
        for response in [&b"\0user|a=b|\0pass=="[..], b"someone\0user|a=b|\0pass=="] {
            let plain = Plain::parse(Bytes::from_static(response)).unwrap();
            assert_eq!((plain.user_name(), plain.password()), ("user|a=b|", "pass=="));
        }
    }

    #[test]
    fn what_is_not_plain_is_refused() {
        for response in [&b""[..], b"user", b"\0user", b"\0\xff\0pass"] {
            assert!(Plain::parse(Bytes::from_static(response)).is_none());
        }
    }
}
