//! Clients that accept whatever comes: the sidecar's AMQP source, many times on one thread, each signing for itself.

use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use sluice_cloud::secret::SecretString;
use sluice_cloud::sign::{ClientId, ConnectIdentity, SaslCredentials, SignMethod};
use sluice_sidecar::amqp::engine::Incoming;
use sluice_sidecar::amqp::message::Message;
use sluice_tests::emulator::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, GROUP, INSTANCE};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::engine;
use crate::failure::Failure;
use crate::source::now_ns;

/// One message in so many has its latency looked at.
const SAMPLE: u64 = 64;

/// How long all may take to connect.
const BOUND: Duration = Duration::from_mins(1);

/// What devices write before the time of a message, in µs: in a property post, and elsewhere.
const SENT_AT: [&[u8]; 2] = [br#""sentAtUs":{"value":"#, br#""sentAtUs":"#];

/// The running clients. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Clients {
    /// What they are to do; they end with it.
    orders: watch::Sender<bool>,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
    /// The first of them that failed, and why.
    failure: Failure,
}

/// What they have seen, all together.
#[derive(Debug, Default)]
struct Seen {
    /// How many have a link.
    attached: AtomicU32,
    settled: AtomicU64,
    bytes: AtomicU64,
    latencies: Mutex<Vec<u64>>,
}

impl Clients {
    /// Connects so many, and returns when each has its link, but no credit.
    pub(super) fn connect(port: u16, authority: &Path, clients: u32, window: u32) -> Result<Self> {
        let connector = engine::connector(port, authority)?;
        let identities = (0..clients).map(|number| Ok((name(number), sign(number)?))).collect::<Result<Vec<_>>>()?;
        let (orders, go) = watch::channel(false);
        let (attached, all_attached) = mpsc::channel();
        let seen = Arc::new(Seen::default());
        let failure = Failure::default();
        let (theirs, their_failure) = (Arc::clone(&seen), failure.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::spawn(move || {
            let mut over = go.clone();
            let work = async {
                let mut links = JoinSet::new();
                for (client, credentials) in identities {
                    let connected = engine::connect(&connector, credentials).await;
                    let source = connected.with_context(|| format!("the client {client} can't connect"))?;
                    theirs.attached.fetch_add(1, Ordering::Relaxed);
                    let (seen, mut go) = (Arc::clone(&theirs), go.clone());
                    links.spawn(async move {
                        go.wait_for(|go| *go).await?;
                        let ended = engine::settle_all(source, window, |deliveries| seen.note(deliveries)).await;
                        ended.with_context(|| format!("the client {client} has lost its link"))
                    });
                }
                // Whoever waits for this may have given up.
                let _ = attached.send(());
                match links.join_next().await {
                    Some(ended) => ended?,
                    None => Ok(()),
                }
            };
            let ended: Result<()> = runtime.block_on(async {
                tokio::select! {
                    ended = work => ended,
                    // The sender is gone.
                    () = async { while over.changed().await.is_ok() {} } => Ok(()),
                }
            });
            their_failure.keep(ended);
        });
        let all = Self { orders, seen, thread: Some(thread), failure };
        if all_attached.recv_timeout(BOUND).is_err() {
            all.check()?;
            let attached = all.seen.attached.load(Ordering::Relaxed);
            bail!("of {clients} clients {attached} have a link after {BOUND:?}: {} does not get on", name(attached));
        }
        Ok(all)
    }

    /// Has them grant credit, and accept what comes.
    pub(super) fn go(&self) {
        self.orders.send_replace(true);
    }

    /// How many messages they have accepted.
    pub(super) fn settled(&self) -> u64 {
        self.seen.settled.load(Ordering::Relaxed)
    }

    /// Fails if one of them has, and says which and why.
    pub(super) fn check(&self) -> Result<()> {
        self.failure.check()
    }

    /// Forgets the latencies seen so far.
    pub(super) fn forget(&self) {
        self.seen.latencies.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Median and 99th percentile of the latencies of what devices said, in milliseconds.
    #[allow(clippy::cast_precision_loss, reason = "microseconds of seconds")]
    pub(super) fn latencies(&self) -> (Option<f64>, Option<f64>) {
        let mut seen = self.seen.latencies.lock().unwrap_or_else(PoisonError::into_inner).clone();
        seen.sort_unstable();
        let at = |percent: usize| seen.get(seen.len() * percent / 100).map(|us| *us as f64 / 1e3);
        (at(50), at(99))
    }

    /// Bytes of payload of a message, on average.
    #[allow(clippy::cast_precision_loss, reason = "gigabytes at most")]
    pub(super) fn mean_size(&self) -> f64 {
        self.seen.bytes.load(Ordering::Relaxed) as f64 / self.settled().max(1) as f64
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.orders = watch::Sender::new(false);
        if let Some(thread) = self.thread.take() {
            // A client that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Seen {
    fn note(&self, deliveries: &[Incoming]) {
        let payloads = || deliveries.iter().filter_map(|delivery| delivery.message.as_ref().ok()).map(Message::payload);
        let before = self.settled.fetch_add(deliveries.len() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(payloads().map(|payload| payload.len() as u64).sum(), Ordering::Relaxed);
        // The first of a batch has waited longest for the rest of it, and batches are of all sizes: samples are taken by number.
        let to_sample = (SAMPLE - before % SAMPLE) % SAMPLE;
        let sampled = usize::try_from(to_sample).ok().and_then(|index| payloads().nth(index));
        if let Some(sent_us) = sampled.and_then(sent_at) {
            let latency = (now_ns() / 1_000).saturating_sub(sent_us);
            self.latencies.lock().unwrap_or_else(PoisonError::into_inner).push(latency);
        }
    }
}

/// When a device sent this, in Unix µs.
fn sent_at(payload: &[u8]) -> Option<u64> {
    let digits = SENT_AT.iter().find_map(|words| {
        let at = payload.windows(words.len()).position(|window| window == *words)?;
        Some(&payload[at + words.len()..])
    })?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

fn name(number: u32) -> String {
    format!("bench-{number}")
}

fn sign(number: u32) -> Result<SaslCredentials> {
    let identity = ConnectIdentity {
        client_id: ClientId::try_new(name(number))?,
        iot_instance_id: Some(INSTANCE.to_owned()),
        consumer_group_id: GROUP.to_owned(),
        sign_method: SignMethod::HmacSha1,
        timestamp_ms: now_ns() / 1_000_000,
        access_key_id: ACCESS_KEY_ID.to_owned(),
        security_token: None,
    };
    identity.sign(&SecretString::new(ACCESS_KEY_SECRET)).context("the bench's own user name")
}
