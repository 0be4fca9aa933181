//! Any frames, in any pieces, into an engine whose link stands: no panic, exact credit, and the same end however the bytes
//! are cut.
//!
//! The input is a script of commands; frames get their header here, so that what is behind it is reached.

#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use sluice_cloud::secret::SecretString;
use sluice_cloud::sign::SaslCredentials;
use sluice_fuzz::amqp::engine::{Engine, Incoming};
use sluice_fuzz::amqp::fault::Fault;
use sluice_fuzz::amqp::hot::Outcome;
use sluice_fuzz::amqp::params::Params;

/// The largest message that the link takes, small enough for a fuzzer to exceed.
const MAX_MESSAGE_SIZE: u64 = 64;

/// What the peer says until the link stands: SASL, Open, Begin on its channel 0, Attach under its handle 0 with an initial
/// delivery-count shortly before the wrap.
const OPENING: &[u8] = b"AMQP\x03\x01\x00\x00\
    \x00\x00\x00\x15\x02\x01\x00\x00\x00\x53\x40\xc0\x08\x01\xa3\x05PLAIN\
    \x00\x00\x00\x10\x02\x01\x00\x00\x00\x53\x44\xc0\x03\x01\x50\x00\
    AMQP\x00\x01\x00\x00\
    \x00\x00\x00\x11\x02\x00\x00\x00\x00\x53\x10\xc0\x04\x01\xa1\x01p\
    \x00\x00\x00\x19\x02\x00\x00\x00\x00\x53\x11\xc0\x0c\x04\x60\x00\x00\x43\x70\x00\x00\x08\x00\x52\x7f\
    \x00\x00\x00\x26\x02\x00\x00\x00\x00\x53\x12\xc0\x19\x0a\xa1\x01l\x43\x42\x50\x00\x50\x00\
    \x00\x53\x28\x45\x00\x53\x29\x45\x40\x42\x70\xff\xff\xff\xfe";

fn attached(now: Instant) -> Engine {
    let params = Params {
        container_id: "c".to_owned(),
        host: "h".to_owned(),
        link_name: "l".to_owned(),
        source_address: "s".to_owned(),
        idle_timeout: Duration::from_secs(60),
        max_frame_size: 4096,
        max_message_size: MAX_MESSAGE_SIZE,
        step_timeout: Duration::from_secs(10),
        settle_singly: false,
    };
    let credentials = SaslCredentials { user_name: SecretString::new("u"), password: SecretString::new("p") };
    let mut engine = Engine::new(params, credentials, now);
    let used = engine.input(now, OPENING, &mut Vec::new());
    assert_eq!(used, Ok(OPENING.len()));
    assert!(engine.is_attached());
    engine
}

/// What happens to an engine.
enum Command<'a> {
    /// The peer sends bytes.
    Bytes(&'a [u8]),
    /// The peer sends a frame with this body, on its channel.
    Frame(&'a [u8]),
    Grant(u32),
    Drain,
    Settle(u32),
    Wait(Duration),
    Close,
}

/// Takes a command from the front of a script: a byte that says which one, and one that is its argument or its length.
fn next<'a>(script: &mut &'a [u8]) -> Option<Command<'a>> {
    let [which, argument, rest @ ..] = *script else { return None };
    let (bytes, behind) = rest.split_at(usize::from(*argument).min(rest.len()));
    *script = if which % 16 < 10 { behind } else { rest };
    Some(match which % 16 {
        0 => Command::Bytes(bytes),
        1..=9 => Command::Frame(bytes),
        10 | 11 => Command::Grant(u32::from(*argument)),
        12 => Command::Drain,
        13 => Command::Settle(u32::from(*argument)),
        14 => Command::Wait(Duration::from_secs(u64::from(*argument))),
        _ => Command::Close,
    })
}

/// An engine, and all that can be seen of it.
struct Run {
    engine: Engine,
    now: Instant,
    /// How many of the peer's bytes come at a time.
    piece: usize,
    /// Heard, but not yet a whole frame.
    unused: Vec<u8>,
    deliveries: Vec<Incoming>,
    /// All credit ever granted.
    granted: u64,
}

impl Run {
    fn new(piece: usize) -> Self {
        let now = Instant::now();
        Self { engine: attached(now), now, piece, unused: Vec::new(), deliveries: Vec::new(), granted: 0 }
    }

    fn follow(&mut self, mut script: &[u8]) {
        while let Some(command) = next(&mut script) {
            match command {
                Command::Bytes(bytes) => self.hear(bytes),
                Command::Frame(body) => {
                    let size = u32::try_from(body.len() + 8).expect("a script's frames are short");
                    self.hear(&[&size.to_be_bytes()[..], &[2, 0, 0, 0], body].concat());
                }
                Command::Grant(credit) => self.grant(credit),
                Command::Drain => self.engine.drain(),
                Command::Settle(id) => self.engine.settle(id, id, Outcome::Accepted),
                Command::Wait(time) => self.wait(time),
                Command::Close => self.engine.close(self.now),
            }
            let used = self.deliveries.len() as u64 + u64::from(self.engine.outstanding_credit());
            assert!(used <= self.granted, "{used} of {} were used", self.granted);
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(self.piece) {
            self.unused.extend_from_slice(piece);
            match self.engine.input(self.now, &self.unused, &mut self.deliveries) {
                Ok(used) => drop(self.unused.drain(..used)),
                Err(fault) => {
                    assert_eq!(self.engine.fault(), Some(&fault));
                    assert!(self.engine.is_closed());
                    return;
                }
            }
        }
    }

    fn grant(&mut self, credit: u32) {
        let before = self.engine.outstanding_credit();
        self.engine.grant(credit);
        let after = self.engine.outstanding_credit();
        assert!(before <= after && after <= before.max(credit), "{before}, granted {credit}, is {after}");
        self.granted += u64::from(after - before);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        if self.engine.tick(self.now).is_ok() && self.engine.output().is_empty() && !self.engine.is_closed() {
            assert!(self.engine.next_deadline() > self.now, "what was due has been done");
        }
    }

    fn seen(&self) -> (&[Incoming], &[u8], u32, Option<&Fault>) {
        (&self.deliveries, self.engine.output(), self.engine.outstanding_credit(), self.engine.fault())
    }
}

fuzz_target!(|script: &[u8]| {
    let mut whole = Run::new(usize::MAX);
    let mut cut = Run::new(3);
    whole.follow(script);
    cut.follow(script);
    assert_eq!(whole.seen(), cut.seen());
});
