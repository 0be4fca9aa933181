//! A platform that costs next to nothing: it checks no password, keeps no message, and sends frames that were encoded
//! before, with only their numbers written anew. It heeds credit, and counts what is settled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use fe2o3_amqp_types::definitions::{Handle, ReceiverSettleMode, Role, SenderSettleMode};
use fe2o3_amqp_types::messaging::{Source as Terminus, Target, TargetArchetype};
use fe2o3_amqp_types::performatives::{Attach, Begin, ChannelMax, Open};
use fe2o3_amqp_types::sasl::{SaslCode, SaslMechanisms, SaslOutcome};
use sluice_sidecar::amqp::frame;
use sluice_sidecar::amqp::hot::{Disposition, Flow, code};
use sluice_sidecar::amqp::reader::Reader;
use sluice_sidecar::amqp::serial::Serial;
use sluice_tests::certificates::Certificates;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::failure::Failure;

/// Frames written at a time.
const CHUNK: usize = 64;

/// How fast messages come.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Load {
    /// As credit allows.
    AsFastAsItTakes,
    /// Evenly, so many a second.
    PerSecond(u32),
}

/// The running source, on a thread of its own.
#[derive(Debug)]
pub(crate) struct Source {
    port: u16,
    shared: Arc<Shared>,
    failure: Failure,
}

/// What the two directions of the connection tell one another.
#[derive(Debug, Default)]
struct Shared {
    /// The delivery-count up to which credit reaches, since the link began.
    limit: AtomicU64,
    settled: AtomicU64,
    granted: Notify,
}

impl Source {
    /// Listens on loopback and serves one connection.
    pub(crate) fn start(certificates: &Certificates, size: usize, load: Load) -> Result<Self> {
        let acceptor = TlsAcceptor::from(certificates.server_config()?);
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let failure = Failure::default();
        let (theirs, its_failure) = (Arc::clone(&shared), failure.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            // It ends with the connection, which ends with the run.
            its_failure.keep(runtime.block_on(async {
                let (tcp, _) = TcpListener::from_std(listener)?.accept().await?;
                tcp.set_nodelay(true)?;
                let mut tls = acceptor.accept(tcp).await?;
                greet(&mut tls).await?;
                let (reader, writer) = split(tls);
                tokio::try_join!(hear(reader, &theirs), send(writer, &theirs, size, load)).map(drop)
            }));
        });
        Ok(Self { port, shared, failure })
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Fails if its connection has ended.
    pub(crate) fn check(&self) -> Result<()> {
        self.failure.check().context("the connection to the platform that is measured with")
    }

    /// Deliveries settled so far.
    pub(crate) fn settled(&self) -> u64 {
        self.shared.settled.load(Ordering::Relaxed)
    }
}

fn frame_of(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    let body = serde_amqp::to_vec(value)?;
    let mut out = Vec::new();
    frame::write(&mut out, 0, |out| out.extend_from_slice(&body));
    Ok(out)
}

fn sasl_frame_of(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    let body = serde_amqp::to_vec(value)?;
    let mut out = Vec::new();
    frame::write_sasl(&mut out, |out| out.extend_from_slice(&body));
    Ok(out)
}

/// Does what must be done before messages flow; believes everything.
async fn greet(tls: &mut TlsStream<TcpStream>) -> Result<()> {
    let mut header = [0; 8];
    tls.read_exact(&mut header).await?;
    tls.write_all(&frame::SASL_HEADER).await?;
    let mechanisms = SaslMechanisms { sasl_server_mechanisms: vec!["PLAIN".into()].into() };
    tls.write_all(&sasl_frame_of(&mechanisms)?).await?;
    skip_frame(tls).await?;
    tls.write_all(&sasl_frame_of(&SaslOutcome { code: SaslCode::Ok, additional_data: None })?).await?;
    tls.read_exact(&mut header).await?;
    for _ in ["Open", "Begin", "Attach"] {
        skip_frame(tls).await?;
    }
    tls.write_all(&frame::AMQP_HEADER).await?;
    let open = Open {
        container_id: "bench".into(),
        hostname: None,
        max_frame_size: u32::MAX.into(),
        channel_max: ChannelMax(0),
        idle_time_out: None,
        outgoing_locales: None,
        incoming_locales: None,
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    };
    let begin = Begin {
        remote_channel: Some(0),
        next_outgoing_id: 0,
        incoming_window: u32::MAX,
        outgoing_window: u32::MAX,
        handle_max: Handle(0),
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    };
    let attach = Attach {
        name: "bench".into(),
        handle: Handle(0),
        role: Role::Sender,
        snd_settle_mode: SenderSettleMode::Unsettled,
        rcv_settle_mode: ReceiverSettleMode::First,
        source: Some(Box::new(Terminus::default())),
        target: Some(Box::new(TargetArchetype::Target(Target::default()))),
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: Some(0),
        max_message_size: None,
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    };
    tls.write_all(&[frame_of(&open)?, frame_of(&begin)?, frame_of(&attach)?].concat()).await?;
    Ok(tls.flush().await?)
}

async fn skip_frame(tls: &mut TlsStream<TcpStream>) -> Result<()> {
    let size = tls.read_u32().await?;
    let mut rest = vec![0; size.saturating_sub(4) as usize];
    tls.read_exact(&mut rest).await?;
    Ok(())
}

/// Reads flows and dispositions.
async fn hear(mut reader: ReadHalf<TlsStream<TcpStream>>, shared: &Shared) -> Result<()> {
    let mut buffer = Vec::with_capacity(1 << 16);
    loop {
        if reader.read_buf(&mut buffer).await? == 0 {
            bail!("the peer is gone");
        }
        let mut used = 0;
        while let Some(frame) = frame::read(&buffer[used..], 1 << 20)? {
            let mut body = Reader::new(frame.body);
            match if body.is_empty() { 0 } else { body.descriptor()? } {
                code::FLOW => {
                    let flow = Flow::read(&mut body)?;
                    let count = flow.delivery_count.unwrap_or_default().0;
                    let limit = u64::from(count.wrapping_add(flow.link_credit.unwrap_or(0)));
                    shared.limit.fetch_max(limit, Ordering::Release);
                    shared.granted.notify_one();
                }
                code::DISPOSITION => {
                    let disposition = Disposition::read(&mut body)?;
                    let Serial(steps) = Serial(disposition.last.since(disposition.first));
                    shared.settled.fetch_add(u64::from(steps) + 1, Ordering::Relaxed);
                }
                _ => {}
            }
            used += frame.size;
        }
        buffer.drain(..used);
    }
}

/// One transfer, encoded, and where its numbers stand in it.
struct Template {
    bytes: Vec<u8>,
    delivery_id: usize,
    delivery_tag: usize,
    message_id: usize,
    sent_at: usize,
}

/// Digits of a message ID, as many as the platform's have.
const ID_DIGITS: usize = 19;

impl Template {
    /// A transfer whose payload begins with the time of its sending, in nanoseconds.
    fn new(size: usize) -> Result<Self> {
        let text = |out: &mut Vec<u8>, text: &[u8]| -> Result<()> {
            out.extend_from_slice(&[0xa1, u8::try_from(text.len())?]);
            out.extend_from_slice(text);
            Ok(())
        };
        let mut bytes = Vec::new();
        let (mut delivery_id, mut delivery_tag, mut message_id, mut sent_at) = (0, 0, 0, 0);
        let mut failed = None;
        frame::write(&mut bytes, 0, |out| {
            let mut build = || -> Result<()> {
                out.extend_from_slice(&[0x00, 0x53, 0x14, 0xc0, 0, 6, 0x43, 0x70]);
                let list = out.len() - 4;
                delivery_id = out.len();
                out.extend_from_slice(&[0; 4]);
                out.extend_from_slice(&[0xa0, 4]);
                delivery_tag = out.len();
                out.extend_from_slice(&[0; 4]);
                out.extend_from_slice(&[0x43, 0x42, 0x42]);
                out[list] = u8::try_from(out.len() - list - 1)?;

                out.extend_from_slice(&[0x00, 0x53, 0x74, 0xc1, 0, 6]);
                let map = out.len() - 2;
                text(out, b"topic")?;
                text(out, b"/a1B2c3D4e5F/meter-00042/thing/event/property/post")?;
                text(out, b"messageId")?;
                text(out, &[b'1'; ID_DIGITS])?;
                message_id = out.len() - ID_DIGITS;
                text(out, b"generateTime")?;
                out.push(0x81);
                out.extend_from_slice(&1_763_600_000_000_i64.to_be_bytes());
                out[map] = u8::try_from(out.len() - map - 1)?;

                out.extend_from_slice(&[0x00, 0x53, 0x75, 0xb0]);
                out.extend_from_slice(&u32::try_from(size)?.to_be_bytes());
                sent_at = out.len();
                out.extend(std::iter::repeat_n(b'x', size));
                Ok(())
            };
            failed = build().err();
        });
        match failed {
            Some(error) => Err(error).context("the message can't be encoded"),
            None => Ok(Self { bytes, delivery_id, delivery_tag, message_id, sent_at }),
        }
    }
}

/// Writes messages as long as there is credit.
async fn send(mut writer: WriteHalf<TlsStream<TcpStream>>, shared: &Shared, size: usize, load: Load) -> Result<()> {
    let template = Template::new(size)?;
    let length = template.bytes.len();
    let mut chunk = template.bytes.repeat(CHUNK);
    let begun = Instant::now();
    let mut next: u64 = 0;
    loop {
        let due = match load {
            Load::AsFastAsItTakes => u64::MAX,
            Load::PerSecond(rate) => u64::try_from(begun.elapsed().as_micros())? * u64::from(rate) / 1_000_000,
        };
        let limit = shared.limit.load(Ordering::Acquire);
        let ready = usize::try_from(limit.min(due).saturating_sub(next))?.min(CHUNK);
        if ready == 0 {
            if limit <= next {
                shared.granted.notified().await;
            } else {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            continue;
        }
        let now = now_ns();
        for frame in chunk.chunks_exact_mut(length).take(ready) {
            #[allow(clippy::cast_possible_truncation, reason = "delivery-ids wrap")]
            let number = (next as u32).to_be_bytes();
            frame[template.delivery_id..][..4].copy_from_slice(&number);
            frame[template.delivery_tag..][..4].copy_from_slice(&number);
            write_digits(&mut frame[template.message_id..][..ID_DIGITS], next);
            frame[template.sent_at..][..8].copy_from_slice(&now.to_be_bytes());
            next += 1;
        }
        writer.write_all(&chunk[..ready * length]).await?;
        writer.flush().await?;
        // The other direction must be heard too.
        tokio::task::yield_now().await;
    }
}

/// Writes the last ten digits of a number that are there for it.
fn write_digits(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev().take(10) {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

/// The time as both ends of a run on one machine see it.
pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
