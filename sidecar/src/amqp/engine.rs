//! One connection with one session and one receiver link, as a state machine without I/O.
//!
//! Bytes from the peer go into [`Engine::input`], bytes for it come out of [`Engine::output`], and [`Engine::tick`] is
//! called when [`Engine::next_deadline`] has come. Whoever owns the stream never stops reading it: what holds the peer
//! back is credit, which is granted here and is never lowered.

mod link;

use std::fmt;
use std::time::{Duration, Instant};

use fe2o3_amqp_types::definitions::SenderSettleMode;
use fe2o3_amqp_types::performatives::{Attach, Begin, Close, Detach, End, Open};
use fe2o3_amqp_types::sasl::{SaslCode, SaslMechanisms, SaslOutcome};
use sluice_cloud::sign::SaslCredentials;
use zeroize::{Zeroize as _, Zeroizing};

use super::cold::{self, CHANNEL, HANDLE};
use super::fault::{Fault, Renew, Wait};
use super::frame::{self, Frame, Kind};
use super::hot::{self, Disposition, Flow, Outcome, code};
use super::params::Params;
use super::reader::Reader;
use super::serial::Serial;
use link::Link;

pub use link::Incoming;

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    SaslHeader,
    SaslMechanisms,
    SaslOutcome,
    AmqpHeader,
    Open,
    Begin,
    Attach,
    Attached,
    Closing,
    Closed,
}

/// See the module's description.
pub struct Engine {
    params: Params,
    /// Until they are sent.
    credentials: Option<SaslCredentials>,
    phase: Phase,
    /// When the present phase began; every wait for the peer is bounded from here.
    phase_since: Instant,
    peer_open: Option<Box<Open>>,
    link: Link,
    /// Cleared when dropped: the credentials pass through it.
    out: Zeroizing<Vec<u8>>,
    written: usize,
    last_heard: Instant,
    last_written: Instant,
    heartbeat_every: Duration,
    fault: Option<Fault>,
}

impl Engine {
    /// A connection that is about to speak: its first bytes are in [`output`](Self::output).
    pub fn new(params: Params, credentials: SaslCredentials, now: Instant) -> Self {
        let heartbeat_every = params.idle_timeout / 3;
        let link = Link::new(HANDLE, params.max_message_size);
        Self {
            params,
            credentials: Some(credentials),
            phase: Phase::SaslHeader,
            phase_since: now,
            peer_open: None,
            link,
            out: Zeroizing::new(frame::SASL_HEADER.to_vec()),
            written: 0,
            last_heard: now,
            last_written: now,
            heartbeat_every,
            fault: None,
        }
    }

    // ---- What its owner sees -------------------------------------------------------------------------------------

    /// Whether the link stands: credit can be granted and deliveries settled.
    pub fn is_attached(&self) -> bool {
        self.phase == Phase::Attached
    }

    /// Whether the connection has been closed by both sides.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// The first error of connection, session or link.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// The peer's Open, once it has come: its container ID, limits and properties.
    pub fn peer_open(&self) -> Option<&Open> {
        self.peer_open.as_deref()
    }

    /// The largest frame that the peer may send, in bytes.
    pub fn max_frame_size(&self) -> u32 {
        self.params.max_frame_size
    }

    /// How many deliveries the peer may still begin.
    pub fn outstanding_credit(&self) -> u32 {
        self.link.outstanding()
    }

    /// Whether the peer has been asked to use its credit up or forfeit it, and has not done so yet.
    pub fn is_draining(&self) -> bool {
        self.link.is_draining()
    }

    // ---- Bytes and time in ---------------------------------------------------------------------------------------

    /// Takes what the peer sent; whole frames only: returns how many bytes were used, the rest is to come again with more
    /// behind it. Deliveries are appended to `deliveries`.
    pub fn input(&mut self, now: Instant, bytes: &[u8], deliveries: &mut Vec<Incoming>) -> Result<usize, Fault> {
        self.consume(now, bytes, deliveries).map_err(|fault| self.fail(now, fault))
    }

    /// What is to be done because time has passed: heartbeats, and the bounds on the peer's silence.
    pub fn tick(&mut self, now: Instant) -> Result<(), Fault> {
        if self.phase == Phase::Closed {
            return Ok(());
        }
        if let Some(wait) = self.waits_for()
            && now >= self.phase_since + self.params.step_timeout
        {
            return Err(self.fail(now, Fault::Timeout(wait, self.params.step_timeout)));
        }
        if now >= self.last_heard + self.silence_limit() {
            return Err(self.fail(now, Fault::Silent(self.silence_limit())));
        }
        if self.opened() && self.output().is_empty() && now >= self.last_written + self.heartbeat_every {
            self.out.extend_from_slice(&frame::HEARTBEAT);
        }
        Ok(())
    }

    /// When [`tick`](Self::tick) is to be called next.
    pub fn next_deadline(&self) -> Instant {
        let mut at = self.last_heard + self.silence_limit();
        if self.waits_for().is_some() {
            at = at.min(self.phase_since + self.params.step_timeout);
        }
        if self.opened() && self.output().is_empty() {
            at = at.min(self.last_written + self.heartbeat_every);
        }
        at
    }

    // ---- Bytes out -----------------------------------------------------------------------------------------------

    /// What is to be written to the peer.
    pub fn output(&self) -> &[u8] {
        &self.out[self.written..]
    }

    /// `n` bytes of [`output`](Self::output) have been written.
    pub fn wrote(&mut self, now: Instant, n: usize) {
        if n > 0 {
            self.last_written = now;
        }
        self.written = (self.written + n).min(self.out.len());
        if self.written == self.out.len() {
            if self.phase == Phase::SaslOutcome {
                // The credentials were in it.
                self.out.zeroize();
            }
            self.out.clear();
            self.written = 0;
        }
    }

    // ---- Verbs ---------------------------------------------------------------------------------------------------

    /// Lets the peer send up to `credit` deliveries from now on, one whose first frames have come already among them. Never
    /// takes back what was granted before: a lowered limit would cross deliveries on their way.
    pub fn grant(&mut self, credit: u32) {
        if self.phase == Phase::Attached && self.link.grant(credit) {
            self.write_flow();
        }
    }

    /// Asks the peer to use up what credit it has, or to forfeit it.
    pub fn drain(&mut self) {
        if self.phase == Phase::Attached && self.link.drain() {
            self.write_flow();
        }
    }

    /// Settles a range of deliveries with one outcome.
    pub fn settle(&mut self, first: u32, last: u32, outcome: Outcome) {
        if self.phase != Phase::Attached {
            return;
        }
        let (first, last) = (Serial(first), Serial(last));
        if self.params.settle_singly {
            for step in 0..=last.since(first) {
                let id = first.plus(step);
                hot::write_settlement(&mut self.out, CHANNEL, id, id, outcome);
            }
        } else {
            hot::write_settlement(&mut self.out, CHANNEL, first, last, outcome);
        }
    }

    /// Ends link, session and connection in good order. [`is_closed`](Self::is_closed) tells when the peer has agreed.
    pub fn close(&mut self, now: Instant) {
        match self.phase {
            Phase::Closing | Phase::Closed => {}
            Phase::Attached => {
                cold::write_detach(&mut self.out);
                cold::write_end(&mut self.out);
                cold::write_close(&mut self.out, None);
                self.enter(Phase::Closing, now);
            }
            Phase::Open | Phase::Begin | Phase::Attach => {
                cold::write_close(&mut self.out, None);
                self.enter(Phase::Closing, now);
            }
            Phase::SaslHeader | Phase::SaslMechanisms | Phase::SaslOutcome | Phase::AmqpHeader => {
                self.enter(Phase::Closed, now);
            }
        }
    }

    // ---- Inside --------------------------------------------------------------------------------------------------

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.phase_since = now;
    }

    /// Keeps the first fault, and says goodbye with it if the peer still listens.
    fn fail(&mut self, now: Instant, fault: Fault) -> Fault {
        if self.opened() && self.phase != Phase::Closing {
            let accusation = Some(&fault).filter(|fault| !matches!(fault, Fault::Ended { .. }));
            cold::write_close(&mut self.out, accusation);
        }
        self.enter(Phase::Closed, now);
        self.fault.get_or_insert(fault).clone()
    }

    /// What the peer owes before the link stands, or ends.
    pub fn waits_for(&self) -> Option<Wait> {
        match self.phase {
            Phase::SaslHeader | Phase::SaslMechanisms => Some(Wait::Sasl),
            Phase::SaslOutcome => Some(Wait::Authentication),
            Phase::AmqpHeader | Phase::Open => Some(Wait::Open),
            Phase::Begin | Phase::Attach => Some(Wait::Attach),
            Phase::Closing => Some(Wait::Close),
            Phase::Attached | Phase::Closed => None,
        }
    }

    /// Whether our Open has been sent and our Close has not.
    fn opened(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Begin | Phase::Attach | Phase::Attached | Phase::Closing)
    }

    /// The peer owes a frame within the idle-time-out that we announced; half as much again is for the way.
    fn silence_limit(&self) -> Duration {
        self.params.idle_timeout + self.params.idle_timeout / 2
    }

    fn consume(&mut self, now: Instant, bytes: &[u8], deliveries: &mut Vec<Incoming>) -> Result<usize, Fault> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            if rest.is_empty() || self.phase == Phase::Closed {
                return Ok(used);
            }
            self.last_heard = now;
            let step = if matches!(self.phase, Phase::SaslHeader | Phase::AmqpHeader) {
                self.protocol_header(now, rest)?
            } else {
                match frame::read(rest, self.params.max_frame_size)? {
                    None => 0,
                    Some(frame) => {
                        self.frame(now, &frame, deliveries)?;
                        frame.size
                    }
                }
            };
            if step == 0 {
                return Ok(used);
            }
            used += step;
        }
    }

    fn protocol_header(&mut self, now: Instant, bytes: &[u8]) -> Result<usize, Fault> {
        let (expected, next) = if self.phase == Phase::SaslHeader {
            (frame::SASL_HEADER, Phase::SaslMechanisms)
        } else {
            (frame::AMQP_HEADER, Phase::Open)
        };
        let Some(found) = bytes.first_chunk::<8>() else {
            return Ok(0);
        };
        if *found != expected {
            return Err(Fault::NotAmqp { found: *found });
        }
        self.enter(next, now);
        Ok(expected.len())
    }

    fn frame(&mut self, now: Instant, frame: &Frame<'_>, deliveries: &mut Vec<Incoming>) -> Result<(), Fault> {
        let mut body = Reader::new(frame.body);
        match (frame.kind, self.phase) {
            (Kind::Sasl, Phase::SaslMechanisms | Phase::SaslOutcome) => return self.sasl(now, frame.body),
            (Kind::Amqp, Phase::SaslMechanisms | Phase::SaslOutcome) | (Kind::Sasl, _) => {
                return Err(Fault::Protocol("a frame of the wrong type for this point of the connection"));
            }
            _ if body.is_empty() => return Ok(()),
            _ => {}
        }
        let descriptor = body.descriptor().map_err(|error| Fault::malformed("performative", error))?;
        if self.phase == Phase::Closing {
            return self.farewell(now, descriptor, frame.body);
        }
        match (descriptor, self.phase) {
            (code::TRANSFER, Phase::Attached) => self.link.transfer(frame.channel, body, deliveries),
            (code::FLOW, Phase::Attach | Phase::Attached) => self.flow(&mut body),
            (code::DISPOSITION, Phase::Attached) => disposition(&mut body),
            (code::OPEN, Phase::Open) => self.open(now, frame.body),
            (code::BEGIN, Phase::Begin) => self.begin(now, frame),
            (code::ATTACH, Phase::Attach) => self.attach(now, frame.body),
            (code::DETACH, Phase::Attached | Phase::Attach) => {
                let detach: Detach = cold::decode("Detach", frame.body)?;
                cold::write_detach(&mut self.out);
                Err(cold::ended(Renew::Link, detach.error))
            }
            (code::END, Phase::Begin | Phase::Attach | Phase::Attached) => {
                let end: End = cold::decode("End", frame.body)?;
                cold::write_end(&mut self.out);
                Err(cold::ended(Renew::Session, end.error))
            }
            (code::CLOSE, Phase::Open | Phase::Begin | Phase::Attach | Phase::Attached) => {
                let close: Close = cold::decode("Close", frame.body)?;
                Err(cold::ended(Renew::Connection, close.error))
            }
            _ => Err(Fault::Protocol("a performative that does not belong at this point of the connection")),
        }
    }

    /// While closing, only the peer's Close matters. Transfers that were on their way stay unsettled: the platform pushes
    /// them again.
    fn farewell(&mut self, now: Instant, descriptor: u64, body: &[u8]) -> Result<(), Fault> {
        if descriptor == code::CLOSE {
            let close: Close = cold::decode("Close", body)?;
            self.enter(Phase::Closed, now);
            if close.error.is_some() {
                self.fault.get_or_insert(cold::ended(Renew::Connection, close.error));
            }
        }
        Ok(())
    }

    fn sasl(&mut self, now: Instant, body: &[u8]) -> Result<(), Fault> {
        let descriptor = Reader::new(body).descriptor().map_err(|error| Fault::malformed("SASL frame", error))?;
        match (descriptor, self.phase) {
            (code::SASL_MECHANISMS, Phase::SaslMechanisms) => {
                let offered: SaslMechanisms = cold::decode("SASL mechanisms", body)?;
                let names: Vec<&str> =
                    offered.sasl_server_mechanisms.0.iter().map(fe2o3_amqp_types::primitives::Symbol::as_str).collect();
                if !names.contains(&"PLAIN") {
                    return Err(Fault::NoPlain { offered: names.join(", ") });
                }
                let credentials = self.credentials.take().ok_or(Fault::Protocol("SASL mechanisms a second time"))?;
                cold::write_sasl_init(&mut self.out, &credentials, &self.params.host);
                self.enter(Phase::SaslOutcome, now);
                Ok(())
            }
            (code::SASL_OUTCOME, Phase::SaslOutcome) => {
                let outcome: SaslOutcome = cold::decode("SASL outcome", body)?;
                match outcome.code {
                    SaslCode::Ok => {
                        self.out.extend_from_slice(&frame::AMQP_HEADER);
                        cold::write_opening(&mut self.out, &self.params);
                        self.enter(Phase::AmqpHeader, now);
                        Ok(())
                    }
                    SaslCode::Auth => Err(Fault::Refused { code: 1 }),
                    other => Err(Fault::AuthenticationFailed { code: other as u8 }),
                }
            }
            (code::SASL_CHALLENGE, _) => Err(Fault::Protocol("a SASL challenge, which PLAIN does not have")),
            _ => Err(Fault::Protocol("a SASL frame out of order")),
        }
    }

    fn open(&mut self, now: Instant, body: &[u8]) -> Result<(), Fault> {
        let open: Open = cold::decode("Open", body)?;
        if let Some(theirs) = open.idle_time_out.filter(|ms| *ms > 0) {
            let smaller = self.params.idle_timeout.min(Duration::from_millis(u64::from(theirs)));
            self.heartbeat_every = smaller / 3;
        }
        self.peer_open = Some(Box::new(open));
        self.enter(Phase::Begin, now);
        Ok(())
    }

    fn begin(&mut self, now: Instant, frame: &Frame<'_>) -> Result<(), Fault> {
        let begin: Begin = cold::decode("Begin", frame.body)?;
        if begin.remote_channel != Some(CHANNEL) {
            return Err(Fault::Protocol("a Begin that does not answer ours"));
        }
        self.link.begun(frame.channel, begin.next_outgoing_id);
        self.enter(Phase::Attach, now);
        Ok(())
    }

    fn attach(&mut self, now: Instant, body: &[u8]) -> Result<(), Fault> {
        let attach: Attach = cold::decode("Attach", body)?;
        if attach.role != fe2o3_amqp_types::definitions::Role::Sender {
            return Err(Fault::Protocol("an Attach as a receiver, which answers no link of ours"));
        }
        if attach.source.is_none() {
            // The link is refused; the Detach that follows says why (part 2.6.3).
            return Ok(());
        }
        if attach.snd_settle_mode == SenderSettleMode::Settled {
            return Err(Fault::SettleMode("pre-settled deliveries"));
        }
        self.link.attached(attach.handle.0, attach.initial_delivery_count.unwrap_or(0));
        self.enter(Phase::Attached, now);
        Ok(())
    }

    fn flow(&mut self, body: &mut Reader<'_>) -> Result<(), Fault> {
        let flow = Flow::read(body).map_err(|error| Fault::malformed("Flow", error))?;
        if self.link.flow(&flow)? && self.phase == Phase::Attached {
            self.write_flow();
        }
        Ok(())
    }

    fn write_flow(&mut self) {
        self.link.state().write(CHANNEL, &mut self.out);
    }
}

/// Without the bytes to be written: the credentials pass through them.
impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("params", &self.params)
            .field("phase", &self.phase)
            .field("peer_open", &self.peer_open)
            .field("link", &self.link)
            .field("to_write", &self.output().len())
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

/// A disposition of the peer asks for nothing: what it settles by itself, the ledger's clock covers. Its range may span all
/// 2³² numbers, so it is checked and not walked.
fn disposition(body: &mut Reader<'_>) -> Result<(), Fault> {
    let disposition = Disposition::read(body).map_err(|error| Fault::malformed("Disposition", error))?;
    if disposition.from_receiver {
        return Err(Fault::Protocol("a Disposition as a receiver, although we send nothing"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
