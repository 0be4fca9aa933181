//! A connection that is told anything in any order: bytes, frames, performatives, the platform's orders, and time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fe2o3_amqp_types::definitions::{Handle, ReceiverSettleMode, Role, SenderSettleMode};
use fe2o3_amqp_types::messaging::{Accepted, DeliveryState, Received, Rejected, Released};
use fe2o3_amqp_types::performatives::{Attach, Begin, Close, Detach, Disposition, End, Flow, Open};
use serde::Serialize;

use crate::amqp::encode;
use crate::amqp::frame::{self, Kind};
use crate::amqp::{Connection, Corruption, Failure, Hindrance, Order, Seat};
use crate::clock::Micros;
use crate::platform::{Code, Credit, Door, Outcome, Outgoing, Refusal};
use crate::profile::{ClosingWords, Profile, TokenExpiry};
use crate::terms::Terms;

/// More than ever waits for the socket: what makes it stop reading, a full queue of deliveries and the largest frame.
const OUT_LIMIT: usize = 2 * 1024 * 1024;
/// How often a connection may be due while some minutes pass.
const DUE_LIMIT: usize = 1_000;

/// Feeds a connection with what `script` says, from its Open or what stands in its place.
pub fn fuzz_connection(script: &[u8]) {
    play(script);
}

fn play(script: &[u8]) -> Talk {
    let mut script = Script(script);
    let mut profile = Profile::default();
    let choice = script.byte();
    if choice & 1 == 1 {
        profile.token_expiry = TokenExpiry::Closes;
    }
    profile.closing_words =
        [ClosingWords::Standard, ClosingWords::Vendor, ClosingWords::Bare][usize::from(choice >> 1) % 3];
    let terms = Arc::new(Terms { profile, ..Terms::default() });
    let desk = Desk::default();
    let mut talk = Talk {
        connection: Connection::new(desk.clone(), terms, Micros::default()),
        desk,
        input: BytesMut::new(),
        heard: Some(BytesMut::new()),
        now: Micros::default(),
    };
    talk.connection.token_ends(Micros::default().after(Duration::from_mins(10)));
    while !script.0.is_empty() && !talk.connection.is_over() {
        talk.step(&mut script);
        talk.turn();
    }
    talk
}

/// What is left of a script. At its end it goes on with zeros.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Mostly a small number, at times one near the ends.
    fn number(&mut self) -> u32 {
        match self.byte() {
            255 => u32::MAX - u32::from(self.byte()),
            254 => i32::MAX.cast_unsigned() + u32::from(self.byte()),
            small => u32::from(small % 32),
        }
    }

    fn bytes(&mut self) -> &[u8] {
        let count = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes
    }
}

#[derive(Debug, Default)]
struct Tray {
    orders: Vec<Order>,
    outgoing: VecDeque<Outgoing>,
    pushed: u32,
    attached: bool,
    refuses: Option<Door>,
}

/// A seat where a script says what happens.
#[derive(Debug, Default, Clone)]
struct Desk(Rc<RefCell<Tray>>);

impl Seat for Desk {
    fn pass(&mut self, door: Door) -> Result<(), Refusal> {
        let refuses = self.0.borrow_mut().refuses.take_if(|at| *at == door);
        if refuses.is_some() { Err(Refusal::TooManyClients { limit: 64 }) } else { Ok(()) }
    }

    fn attach(&mut self) {
        let mut tray = self.0.borrow_mut();
        (tray.pushed, tray.attached) = (0, true);
    }

    fn detach(&mut self) {
        let mut tray = self.0.borrow_mut();
        tray.outgoing.clear();
        tray.attached = false;
    }

    fn grant(&mut self, credit: Credit) {
        if credit.drain {
            self.0.borrow_mut().outgoing.push_back(Outgoing::Drained { by: credit.link_credit });
        }
    }

    fn settle(&mut self, _: u32, _: u32, _: Outcome) {}

    fn fetch(&mut self, limit: usize, into: &mut VecDeque<Outgoing>) {
        let outgoing = &mut self.0.borrow_mut().outgoing;
        into.extend(outgoing.drain(..limit.min(outgoing.len())));
    }

    fn orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.0.borrow_mut().orders)
    }

    fn note(&mut self, _: Code, _: &str) {}

    fn leave(&mut self) {
        self.0.borrow_mut().outgoing.clear();
    }
}

struct Talk {
    connection: Connection<Desk>,
    desk: Desk,
    /// What has come and was not read.
    input: BytesMut,
    /// What was written and not looked at. `None` once a frame was spoilt on purpose.
    heard: Option<BytesMut>,
    now: Micros,
}

impl Talk {
    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 16 {
            0 => self.input.extend_from_slice(script.bytes()),
            1 => {
                let channel = u16::from(script.byte() % 4);
                let body = script.bytes();
                let size = u32::try_from(body.len() + 8).unwrap_or(8);
                self.input.extend_from_slice(&size.to_be_bytes());
                self.input.extend_from_slice(&[2, 0]);
                self.input.extend_from_slice(&channel.to_be_bytes());
                self.input.extend_from_slice(body);
            }
            2 => self.say(0, &open(script)),
            3 => self.say(u16::from(script.byte() % 9), &begin(script)),
            4 => self.say(u16::from(script.byte() % 4), &attach(script)),
            5 | 6 => self.say(u16::from(script.byte() % 4), &flow(script)),
            7 | 8 => self.say(u16::from(script.byte() % 4), &disposition(script)),
            9 => {
                let detach = Detach { handle: Handle(script.number()), closed: script.byte() & 1 == 1, error: None };
                self.say(u16::from(script.byte() % 4), &detach);
            }
            10 => self.say(u16::from(script.byte() % 4), &End { error: None }),
            11 => self.say(0, &Close { error: None }),
            12 => self.wait(Duration::from_millis(u64::from(script.short()) * 10)),
            13 => {
                let order = order(script);
                if matches!(order, Order::Corrupt(_)) {
                    self.heard = None;
                }
                self.desk.0.borrow_mut().orders.push(order);
            }
            14 => self.push(script),
            _ => {
                let door = if script.byte() & 1 == 1 { Door::Open } else { Door::Attach };
                self.desk.0.borrow_mut().refuses = Some(door);
            }
        }
    }

    fn say(&mut self, channel: u16, body: &impl Serialize) {
        // What can't be encoded can't be said.
        let _ = encode::put(&mut self.input, Kind::Amqp, channel, body);
    }

    fn push(&mut self, script: &mut Script<'_>) {
        let (count, size) = (script.byte() % 8, usize::from(script.short()));
        let body = Bytes::from(vec![7; size]);
        let mut tray = self.desk.0.borrow_mut();
        for _ in 0..count {
            let number = tray.pushed;
            tray.outgoing.push_back(Outgoing::Push { number, body: body.clone() });
            tray.pushed = number.wrapping_add(1);
        }
    }

    /// As the edge waits: it looks at the connection whenever it is due.
    fn wait(&mut self, time: Duration) {
        let until = self.now.after(time);
        let mut times = 0;
        while self.connection.deadline() <= until {
            self.now = self.now.max(self.connection.deadline());
            self.turn();
            times += 1;
            assert!(times < DUE_LIMIT, "it is due again and again");
        }
        self.now = until;
    }

    /// What the edge does whenever something has happened.
    fn turn(&mut self) {
        self.connection.on_bytes(&mut self.input, self.now);
        self.connection.obey(self.now);
        self.connection.on_time(self.now);
        self.connection.pump(self.now);
        assert!(self.connection.unsent().len() < OUT_LIMIT, "{} bytes wait", self.connection.unsent().len());
        let count = self.connection.may_leave(self.now);
        if let Some(heard) = &mut self.heard {
            heard.extend_from_slice(&self.connection.unsent()[..count]);
            loop {
                let next = frame::next(heard, Kind::Amqp, OUT_LIMIT);
                assert!(next.is_ok(), "the emulator writes what is not a frame: {next:?}");
                let Ok(Some(frame)) = next else { break };
                assert!(frame.body.is_empty() || frame.body.starts_with(&[0x00, 0x53]), "no performative");
            }
        }
        self.connection.left(count);
    }
}

fn open(script: &mut Script<'_>) -> Open {
    let choice = script.byte();
    Open {
        container_id: "c".to_owned(),
        hostname: None,
        max_frame_size: if choice & 7 == 7 { script.number().into() } else { (512 << (choice & 7)).into() },
        channel_max: u16::MAX.into(),
        idle_time_out: if choice & 0x18 == 0x18 { Some(script.number()) } else { Some(30_000 << (choice >> 6)) },
        outgoing_locales: None,
        incoming_locales: None,
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    }
}

fn begin(script: &mut Script<'_>) -> Begin {
    Begin {
        remote_channel: None,
        next_outgoing_id: script.number(),
        incoming_window: script.number(),
        outgoing_window: script.number(),
        handle_max: Handle(u32::MAX),
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    }
}

fn attach(script: &mut Script<'_>) -> Attach {
    let choice = script.byte();
    Attach {
        name: "n".repeat(usize::from(choice)),
        handle: Handle(script.number()),
        role: if choice & 3 == 3 { Role::Sender } else { Role::Receiver },
        snd_settle_mode: SenderSettleMode::Mixed,
        rcv_settle_mode: ReceiverSettleMode::First,
        source: None,
        target: None,
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: None,
        max_message_size: (choice & 0x0c == 0x0c).then(|| u64::from(script.number())),
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    }
}

fn flow(script: &mut Script<'_>) -> Flow {
    let choice = script.byte();
    let mut maybe = |bit: u8| (choice & bit == 0).then(|| script.number());
    Flow {
        next_incoming_id: maybe(1),
        handle: maybe(2).map(Handle),
        delivery_count: maybe(4),
        link_credit: maybe(8),
        available: None,
        incoming_window: script.number(),
        next_outgoing_id: script.number(),
        outgoing_window: script.number(),
        drain: choice & 0x30 == 0x30,
        echo: choice & 0x40 == 0x40,
        properties: None,
    }
}

fn disposition(script: &mut Script<'_>) -> Disposition {
    let choice = script.byte();
    let state = match choice & 7 {
        0..=2 => Some(DeliveryState::Accepted(Accepted {})),
        3 => Some(DeliveryState::Released(Released {})),
        4 => Some(DeliveryState::Rejected(Rejected { error: None })),
        5 => Some(DeliveryState::Received(Received { section_number: 0, section_offset: 0 })),
        _ => None,
    };
    Disposition {
        role: if choice & 0x18 == 0x18 { Role::Sender } else { Role::Receiver },
        first: script.number(),
        last: (choice & 0x20 == 0).then(|| script.number()),
        settled: choice & 0x40 == 0,
        state,
        batchable: false,
    }
}

fn order(script: &mut Script<'_>) -> Order {
    let choice = script.byte();
    let failure = (choice & 0x80 == 0).then(|| Failure::named("vendor:x", "as the script says"));
    let lasts = Duration::from_millis(u64::from(script.short()));
    match choice % 12 {
        0 => Order::Close(failure),
        1 => Order::End(failure),
        2 => Order::Detach { failure, closed: true },
        3 => Order::Detach { failure, closed: false },
        4 => Order::Drop,
        5 => Order::Expire,
        6 => Order::Hinder { what: Hindrance::NoReading, lasts },
        7 => Order::Hinder { what: Hindrance::NoWriting, lasts },
        8 => Order::Hinder { what: Hindrance::Delay(lasts / 4), lasts },
        9 => Order::Corrupt(Corruption::Size),
        10 => Order::Corrupt(Corruption::DataOffset),
        _ => Order::Corrupt(if choice & 0x40 == 0 { Corruption::FormatCode } else { Corruption::Truncate }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An open, a begin and an attach that are right, so that what follows gets further.
    const ATTACHED: [u8; 14] = [0, 2, 0, 3, 0, 0, 100, 100, 4, 0, 0, 0, 5, 0];

    #[test]
    fn a_script_can_get_as_far_as_a_link() {
        let talk = play(&ATTACHED);
        assert!(talk.desk.0.borrow().attached && !talk.connection.is_over());
    }

    proptest! {
        #[test]
        fn no_script_does_a_connection_harm(
            attached in any::<bool>(),
            script in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let start = if attached { &ATTACHED[..] } else { &[] };
            fuzz_connection(&[start, &script].concat());
        }
    }
}
