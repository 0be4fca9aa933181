//! An application that acknowledges everything and looks at next to nothing, so that it keeps up with the sidecar on the
//! machine's other core. It reads the numbers of deliveries out of the protobuf without decoding the rest.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use prost::Message as _;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use sluice_proto::v1::{ConsumeRequest, Subscribe, Verdicts, consume_request};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

use crate::failure::Failure;
use crate::source::now_ns;

/// The running application, on a thread of its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Application {
    /// The latencies seen so far, one of each batch, in nanoseconds.
    latencies: Arc<Mutex<Vec<u64>>>,
    failure: Failure,
}

impl Application {
    /// How many latencies have been seen.
    pub(crate) fn samples(&self) -> usize {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Median and 99th percentile of the latencies since `from`, in milliseconds.
    #[allow(clippy::cast_precision_loss, reason = "nanoseconds of seconds")]
    pub(crate) fn latencies(&self, from: usize) -> (Option<f64>, Option<f64>) {
        let mut seen = self.latencies.lock().unwrap_or_else(PoisonError::into_inner)[from..].to_vec();
        seen.sort_unstable();
        let at = |percent: usize| seen.get(seen.len() * percent / 100).map(|ns| *ns as f64 / 1e6);
        (at(50), at(99))
    }

    /// Fails if it has ended, which it should not before the sidecar does.
    pub(crate) fn check(&self) -> Result<()> {
        self.failure.check().context("the application")
    }
}

/// Starts the application.
pub(crate) fn start(address: &str) -> Result<Application> {
    let path = PathBuf::from(address.strip_prefix("unix://").context("the sidecar listens on no Unix socket")?);
    let application = Application::default();
    let theirs = application.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        // The run's end takes the sidecar away, and nobody asks any more.
        theirs.failure.keep(runtime.block_on(consume(path, &theirs.latencies)));
    });
    Ok(application)
}

/// Acknowledges what comes, until the sidecar is gone.
async fn consume(path: PathBuf, latencies: &Mutex<Vec<u64>>) -> Result<()> {
    let channel = Endpoint::from_shared(format!("unix://{}", path.display()))?
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .connect()
        .await?;
    let (requests, outgoing) = mpsc::unbounded_channel();
    let subscribe = Subscribe { client_id: "bench".into(), ..Subscribe::default() };
    requests.send(consume_request::Request::Subscribe(subscribe))?;
    let mut client: Grpc<Channel> = Grpc::new(channel);
    client.ready().await?;
    let mut responses = client
        .streaming(
            tonic::Request::new(UnboundedReceiverStream::new(outgoing)),
            PathAndQuery::from_static("/sluice.v1.Consumer/Consume"),
            SkimCodec,
        )
        .await?
        .into_inner();
    while let Some(Skimmed { ids, sent_at_ns }) = responses.message().await? {
        if ids.is_empty() {
            continue;
        }
        latencies.lock().unwrap_or_else(PoisonError::into_inner).push(now_ns().saturating_sub(sent_at_ns));
        requests.send(consume_request::Request::Verdicts(Verdicts { ack_delivery_ids: ids, retry: Vec::new() }))?;
    }
    bail!("the sidecar has ended its stream")
}

/// What is read of a response.
#[derive(Debug, Default)]
struct Skimmed {
    /// The deliveries in it.
    ids: Vec<u64>,
    /// When the first of them was sent.
    sent_at_ns: u64,
}

#[derive(Debug, Clone, Copy)]
struct SkimCodec;

impl Codec for SkimCodec {
    type Encode = consume_request::Request;
    type Decode = Skimmed;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for SkimCodec {
    type Item = consume_request::Request;
    type Error = Status;

    fn encode(&mut self, request: consume_request::Request, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let request = ConsumeRequest { request: Some(request) };
        request.encode(out).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for SkimCodec {
    type Item = Skimmed;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Skimmed>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        skim(&bytes).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// Reads `response.deliveries.deliveries[].delivery_id`, and the head of the first payload.
fn skim(mut response: &[u8]) -> Result<Skimmed, prost::DecodeError> {
    let mut skimmed = Skimmed::default();
    while !response.is_empty() {
        let (field, wire_type) = decode_key(&mut response)?;
        if field != 1 {
            skip_field(wire_type, field, &mut response, DecodeContext::default())?;
            continue;
        }
        let mut batch = delimited(&mut response)?;
        while !batch.is_empty() {
            decode_key(&mut batch)?;
            let mut delivery = delimited(&mut batch)?;
            while !delivery.is_empty() {
                let (field, wire_type) = decode_key(&mut delivery)?;
                match (field, wire_type) {
                    (1, WireType::Varint) => skimmed.ids.push(decode_varint(&mut delivery)?),
                    (8, _) if skimmed.sent_at_ns == 0 => {
                        let payload = delimited(&mut delivery)?;
                        skimmed.sent_at_ns = payload.first_chunk().map_or(1, |head| u64::from_be_bytes(*head));
                    }
                    _ if skimmed.sent_at_ns != 0 => break,
                    _ => skip_field(wire_type, field, &mut delivery, DecodeContext::default())?,
                }
            }
        }
    }
    Ok(skimmed)
}

/// The bytes of a length-delimited field.
fn delimited<'a>(from: &mut &'a [u8]) -> Result<&'a [u8], prost::DecodeError> {
    let length = usize::try_from(decode_varint(from)?).unwrap_or(usize::MAX);
    let (head, tail) = from.split_at_checked(length).unwrap_or((*from, &[]));
    *from = tail;
    Ok(head)
}
