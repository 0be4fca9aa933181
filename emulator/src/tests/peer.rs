//! The emulator's end of a connection at times that are made up, and a client that says what a test tells it and reads
//! what comes: no socket, no clock, and a seat that writes down what is asked of it.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fe2o3_amqp_types::definitions::{Error, Role};
use fe2o3_amqp_types::performatives::Performative;
use serde::Serialize;
use serde_amqp::from_slice;

use super::client::{attach, begin, flow, open, symbol};
use crate::amqp::encode;
use crate::amqp::frame::{self, Kind};
use crate::amqp::{Connection, Order, Seat};
use crate::clock::Micros;
use crate::platform::{Code, Credit, Door, Outcome, Outgoing, Refusal};
use crate::terms::Terms;

/// When every connection here is authenticated.
pub(crate) const START: Micros = Micros::new(7_000_000);

pub(crate) fn at(seconds: u64) -> Micros {
    START.after(Duration::from_secs(seconds))
}

/// The last moment before [`at`].
pub(crate) fn just_before(seconds: u64) -> Micros {
    Micros::new(at(seconds).get() - 1)
}

/// What a seat was asked, and what it is to answer.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Who is refused at which door.
    pub(crate) refuses: Option<(Door, Refusal)>,
    pub(crate) orders: Vec<Order>,
    pub(crate) outgoing: VecDeque<Outgoing>,
    pub(crate) passed: Vec<Door>,
    pub(crate) attached: bool,
    pub(crate) grants: Vec<Credit>,
    pub(crate) settled: Vec<(u32, u32, Outcome)>,
    pub(crate) notes: Vec<(Code, String)>,
    pub(crate) left: bool,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Desk(Rc<RefCell<Book>>);

impl Seat for Desk {
    fn pass(&mut self, door: Door) -> Result<(), Refusal> {
        let mut book = self.0.borrow_mut();
        book.passed.push(door);
        book.refuses.filter(|(at, _)| *at == door).map_or(Ok(()), |(_, refusal)| Err(refusal))
    }

    fn attach(&mut self) {
        self.0.borrow_mut().attached = true;
    }

    fn detach(&mut self) {
        self.0.borrow_mut().attached = false;
    }

    fn grant(&mut self, credit: Credit) {
        self.0.borrow_mut().grants.push(credit);
    }

    fn settle(&mut self, first: u32, last: u32, outcome: Outcome) {
        self.0.borrow_mut().settled.push((first, last, outcome));
    }

    fn fetch(&mut self, limit: usize, into: &mut VecDeque<Outgoing>) {
        let outgoing = &mut self.0.borrow_mut().outgoing;
        into.extend(outgoing.drain(..limit.min(outgoing.len())));
    }

    fn orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.0.borrow_mut().orders)
    }

    fn note(&mut self, code: Code, words: &str) {
        self.0.borrow_mut().notes.push((code, words.to_owned()));
    }

    fn leave(&mut self) {
        self.0.borrow_mut().left = true;
    }
}

/// See the module.
pub(crate) struct Peer {
    pub(crate) connection: Connection<Desk>,
    desk: Desk,
    /// What the client has read and not looked at.
    read: BytesMut,
    now: Micros,
}

impl Peer {
    /// Authenticated at [`START`], and nothing said yet.
    pub(crate) fn authenticated(terms: Terms) -> Self {
        let desk = Desk::default();
        let connection = Connection::new(desk.clone(), Arc::new(terms), START);
        Self { connection, desk, read: BytesMut::new(), now: START }
    }

    /// Opened at the start with an idle-time-out of a minute, with a session.
    pub(crate) fn begun(terms: Terms) -> Self {
        let mut peer = Self::authenticated(terms);
        peer.hears(&open(60_000));
        peer.hears(&begin(1_000));
        peer.said();
        peer
    }

    /// The same with a receiver link.
    pub(crate) fn attached(terms: Terms) -> Self {
        let mut peer = Self::begun(terms);
        peer.hears(&attach(0, Role::Receiver));
        peer.hears(&flow(0, 1_000));
        peer.said();
        peer
    }

    pub(crate) fn book(&self) -> Ref<'_, Book> {
        self.desk.0.borrow()
    }

    pub(crate) fn book_mut(&mut self) -> RefMut<'_, Book> {
        self.desk.0.borrow_mut()
    }

    /// The client says this on channel 0, now.
    pub(crate) fn hears(&mut self, body: &impl Serialize) {
        self.hears_on(0, body);
    }

    pub(crate) fn hears_on(&mut self, channel: u16, body: &impl Serialize) {
        let mut bytes = BytesMut::new();
        encode::put(&mut bytes, Kind::Amqp, channel, body).unwrap();
        self.hears_bytes(&mut bytes);
    }

    pub(crate) fn hears_a_beat(&mut self) {
        let mut bytes = BytesMut::new();
        encode::put_empty(&mut bytes);
        self.hears_bytes(&mut bytes);
    }

    /// The emulator reads these, as far as it will.
    pub(crate) fn hears_bytes(&mut self, bytes: &mut BytesMut) {
        self.connection.on_bytes(bytes, self.now);
        self.connection.pump(self.now);
    }

    /// The platform has these to push.
    pub(crate) fn pushes(&mut self, count: u32, body: &'static [u8]) {
        let pushes = (0..count).map(|number| Outgoing::Push { number, body: Bytes::from_static(body) });
        self.book_mut().outgoing.extend(pushes);
        self.connection.pump(self.now);
    }

    /// The platform orders this.
    pub(crate) fn ordered(&mut self, order: Order) {
        self.book_mut().orders.push(order);
        self.connection.obey(self.now);
    }

    /// Lets time pass as the edge does, which looks at the connection whenever it is due.
    pub(crate) fn until(&mut self, now: Micros) -> Vec<String> {
        while self.connection.deadline() <= now {
            self.now = self.connection.deadline();
            self.connection.on_time(self.now);
        }
        self.now = now;
        self.connection.on_time(now);
        self.said()
    }

    /// The frames that the client can read now; a frame that it can't is the last.
    pub(crate) fn frames(&mut self) -> Vec<Result<(u16, Bytes), String>> {
        let count = self.connection.may_leave(self.now);
        self.read.extend_from_slice(&self.connection.unsent()[..count]);
        self.connection.left(count);
        let mut frames = Vec::new();
        loop {
            match frame::next(&mut self.read, Kind::Amqp, 1 << 20) {
                Ok(Some(frame)) => frames.push(Ok((frame.channel, frame.body))),
                Ok(None) => return frames,
                Err(error) => {
                    self.read.clear();
                    frames.push(Err(error.to_string()));
                    return frames;
                }
            }
        }
    }

    /// The performatives among them; those that can't be decoded are left out.
    pub(crate) fn performatives(&mut self) -> Vec<Performative> {
        self.frames().into_iter().filter_map(|frame| from_slice(&frame.ok()?.1).ok()).collect()
    }

    /// The frames by their names, with the conditions of those that end something.
    pub(crate) fn said(&mut self) -> Vec<String> {
        let name = |frame: Result<(u16, Bytes), String>| match frame {
            Ok((_, body)) if body.is_empty() => "beat".to_owned(),
            Ok((_, body)) => from_slice(&body).map_or_else(|_| "undecodable".to_owned(), |it| name(&it)),
            Err(error) => format!("no frame: {error}"),
        };
        self.frames().into_iter().map(name).collect()
    }
}

fn name(performative: &Performative) -> String {
    let ended = |what: &str, error: Option<&Error>| match error {
        Some(error) => format!("{what} {}", symbol(&error.condition)),
        None => what.to_owned(),
    };
    match performative {
        Performative::Open(_) => "open".to_owned(),
        Performative::Begin(_) => "begin".to_owned(),
        Performative::Attach(attach) if attach.source.is_none() || attach.target.is_none() => {
            "attach without terminus".to_owned()
        }
        Performative::Attach(_) => "attach".to_owned(),
        Performative::Flow(_) => "flow".to_owned(),
        Performative::Transfer(_) => "transfer".to_owned(),
        Performative::Disposition(_) => "disposition".to_owned(),
        Performative::Detach(detach) => ended("detach", detach.error.as_ref()),
        Performative::End(end) => ended("end", end.error.as_ref()),
        Performative::Close(close) => ended("close", close.error.as_ref()),
    }
}
