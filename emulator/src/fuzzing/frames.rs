//! Clients of one group that say anything in any order: bytes, frames, performatives. Between them messages are published,
//! the platform gives orders, and time passes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fe2o3_amqp_types::performatives::{Close, End};
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

use super::performatives::{attach, begin, detach, disposition, flow, open};
use super::script::Script;
use super::setting::{GROUP, hub, profile};
use crate::amqp::encode;
use crate::amqp::frame::{self, Kind};
use crate::amqp::{Connection, Corruption, Failure, Hindrance, Order, Seat as _};
use crate::clock::Micros;
use crate::faults::Target;
use crate::hub::{GroupSeat, Hub};
use crate::limits::Limits;
use crate::message::Draft;
use crate::platform::Door;
use crate::profile::Profile;
use crate::terms::Terms;

/// More than ever waits for the socket: what makes it stop reading, a full queue of deliveries and the largest frame.
const OUT_LIMIT: usize = 2 * 1024 * 1024;
/// How often something may be due at one and the same time.
const DUE_LIMIT: usize = 100;
/// How often something is waited for in one script, at most.
const WAITS: usize = 20_000;
/// How many messages one script publishes, at most.
const MESSAGES: usize = 2_000;
/// Places for connections at the other end; one more than the group takes.
const CLIENTS: usize = 3;
/// By their places: the first two have the same client ID.
const CLIENT_IDS: [&str; CLIENTS] = ["a", "a", "b"];
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
/// How long a security token is good for.
const TOKEN: Duration = Duration::from_mins(10);

/// Plays a script in which three clients and the platform do what its bytes say, under one of the profiles, and looks at
/// the platform's books at its end.
///
/// # Panics
/// When what the emulator writes is no frame, when something is due again and again, when what waits for a client grows
/// without bound, or when the books are not in order: each is a bug.
pub fn fuzz_frames(script: &[u8]) {
    play(script);
}

fn play(script: &[u8]) -> Stage {
    let mut script = Script::new(script);
    let mut stage = Stage::new(profile(script.byte()));
    while !script.is_over() {
        stage.step(&mut script);
        stage.turn();
    }
    stage.look_at_the_books();
    stage
}

/// A client and the emulator's end of its connection.
struct Client {
    connection: Connection<GroupSeat>,
    /// What has come and was not read.
    input: BytesMut,
    /// What was written and not looked at. `None` once a frame was spoilt on purpose.
    heard: Option<BytesMut>,
}

struct Stage {
    /// Has the time, which stands still but in [`Stage::wait`].
    runtime: Runtime,
    hub: Arc<Hub>,
    terms: Arc<Terms>,
    clients: [Option<Client>; CLIENTS],
    /// When the platform is due.
    armed: Micros,
    waits: usize,
    /// The IDs of what was published.
    published: Vec<String>,
}

impl Stage {
    #[expect(clippy::expect_used, reason = "a runtime that has nothing but time takes nothing from the system")]
    fn new(profile: Profile) -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let limits = Limits { clients_per_group: 2, backlog_capacity: 64, fate_log_messages: 32, ..Limits::default() };
        let terms = Arc::new(Terms { limits, profile, ..Terms::default() });
        let hub = runtime.block_on(async { hub(&terms, 0) });
        let clients = [None, None, None];
        Self { runtime, hub, terms, clients, armed: Micros::default(), waits: 0, published: Vec::new() }
    }

    fn now(&self) -> Micros {
        let _time = self.runtime.enter();
        self.hub.clock().now().mono
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let what = script.byte();
        match what % 16 {
            12 => self.wait(Duration::from_millis(u64::from(script.short()) * 10)),
            13 => self.order(script),
            14 => self.publish(script),
            15 => self.arrange(script),
            what_it_says => self.speak(usize::from(what / 16) % CLIENTS, what_it_says, script),
        }
    }

    /// A client says something, or connects if it is not there.
    fn speak(&mut self, place: usize, what: u8, script: &mut Script<'_>) {
        if self.clients[place].is_none() {
            self.clients[place] = self.connect(CLIENT_IDS[place]);
        }
        let Some(client) = &mut self.clients[place] else { return };
        match what {
            0 => client.input.extend_from_slice(script.bytes()),
            1 => {
                let channel = u16::from(script.byte() % 4);
                let body = script.bytes();
                let size = u32::try_from(body.len() + 8).unwrap_or(8);
                client.input.extend_from_slice(&size.to_be_bytes());
                client.input.extend_from_slice(&[2, 0]);
                client.input.extend_from_slice(&channel.to_be_bytes());
                client.input.extend_from_slice(body);
            }
            2 => client.say(0, &open(script)),
            3 => client.say(u16::from(script.byte() % 9), &begin(script)),
            4 => client.say(u16::from(script.byte() % 4), &attach(script)),
            5 | 6 => client.say(u16::from(script.byte() % 4), &flow(script)),
            7 | 8 => client.say(u16::from(script.byte() % 4), &disposition(script)),
            9 => client.say(u16::from(script.byte() % 4), &detach(script)),
            10 => client.say(u16::from(script.byte() % 4), &End { error: None }),
            _ => match script.byte() % 4 {
                // Gone without a word.
                0 => self.clients[place] = None,
                _ => client.say(0, &Close { error: None }),
            },
        }
    }

    fn connect(&self, client_id: &str) -> Option<Client> {
        let _time = self.runtime.enter();
        let refused = self.hub.attempt(GROUP).err();
        let mut seat = GroupSeat::new(Arc::clone(&self.hub), GROUP.into(), client_id.into(), ADDRESS, refused);
        seat.pass(Door::Sasl).ok()?;
        let now = self.hub.clock().now().mono;
        let mut connection = Connection::new(seat, Arc::clone(&self.terms), now);
        connection.token_ends(now.after(TOKEN));
        Some(Client { connection, input: BytesMut::new(), heard: Some(BytesMut::new()) })
    }

    fn publish(&mut self, script: &mut Script<'_>) {
        let (count, size) = (script.byte() % 8, usize::from(script.short() / 4));
        if self.published.len() < MESSAGES {
            let draft = Draft { topic: "/p/d/user/t".into(), payload: Bytes::from(vec![7; size]), ..Draft::default() };
            let _time = self.runtime.enter();
            let ids = self.hub.publish(GROUP, &vec![draft; usize::from(count)]);
            self.published.extend(ids.unwrap_or_default());
        }
    }

    /// What an admin or the OpenAPI does to the group.
    fn arrange(&mut self, script: &mut Script<'_>) {
        let _time = self.runtime.enter();
        let choice = script.byte();
        match choice % 5 {
            0 => drop(self.hub.refuse_next(Some(GROUP), u32::from(choice / 5 % 4))),
            1 => {
                let place = usize::from(script.byte());
                if let Some(id) = self.published.get(place).filter(|_| self.published.len() < MESSAGES) {
                    self.published.extend(self.hub.repeat(id));
                }
            }
            2 => drop(self.hub.with_world(|world| world.platform.clear_backlog(GROUP, world.now))),
            3 => drop(self.hub.with_world(|world| world.platform.delete_group(GROUP, world.now))),
            _ => self.hub.with_world(|world| world.platform.add_group(GROUP, world.now.mono)),
        }
    }

    fn order(&mut self, script: &mut Script<'_>) {
        let order = order(script);
        if matches!(order, Order::Corrupt(_)) {
            self.clients.iter_mut().flatten().for_each(|client| client.heard = None);
        }
        let target = Target { group: Some(GROUP.into()), ..Target::default() };
        // There may be no group just now.
        let _ = self.hub.order(&target, &order, |_| true);
    }

    /// As the edges wait: each looks at what is its own whenever that is due.
    fn wait(&mut self, time: Duration) {
        let until = self.now().after(time);
        let mut times = 0;
        while self.waits < WAITS {
            self.waits += 1;
            let late = self.due().min(until).since(self.now());
            times = if late == 0 { times + 1 } else { 0 };
            assert!(times < DUE_LIMIT, "it is due again and again");
            self.runtime.block_on(tokio::time::advance(Duration::from_micros(late)));
            self.turn();
            if self.now() == until && self.due() > until {
                break;
            }
        }
    }

    /// When the next one is due.
    fn due(&self) -> Micros {
        let clients = self.clients.iter().flatten().map(|client| client.connection.deadline());
        clients.fold(self.armed, Micros::min)
    }

    /// What the edges do whenever something has happened.
    fn turn(&mut self) {
        let now = self.now();
        let _time = self.runtime.enter();
        self.armed = self.hub.tick();
        for place in &mut self.clients {
            if let Some(client) = place {
                client.turn(now);
            }
            // Giving up the seat is part of its end.
            place.take_if(|client| client.connection.is_over());
        }
    }

    fn look_at_the_books(&mut self) {
        let orderly = |hub: &Hub| {
            let audit = hub.audit();
            assert!(audit.consistent, "{:?}", audit.violations);
        };
        orderly(&self.hub);
        let _time = self.runtime.enter();
        self.clients = [None, None, None];
        orderly(&self.hub);
        if let Ok(counts) = self.hub.counts(GROUP) {
            assert_eq!((counts.clients, counts.surplus, counts.unsettled), (0, 0, 0), "nobody is there");
        }
    }
}

impl Client {
    fn say(&mut self, channel: u16, body: &impl Serialize) {
        // What can't be encoded can't be said.
        let _ = encode::put(&mut self.input, Kind::Amqp, channel, body);
    }

    /// What the edge does whenever something has happened.
    fn turn(&mut self, now: Micros) {
        self.connection.on_bytes(&mut self.input, now);
        self.connection.obey(now);
        self.connection.on_time(now);
        self.connection.pump(now);
        assert!(self.connection.unsent().len() < OUT_LIMIT, "{} bytes wait", self.connection.unsent().len());
        let count = self.connection.may_leave(now);
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

    /// A link of the first client under the default profile, credit for 31 messages, and three of them published.
    const UNDER_WAY: [u8; 36] = [
        0, // the profile
        2, 0, // Open
        3, 0, 0, 100, 100, // Begin
        4, 0, 0, 0, // Attach
        5, 0, 1, 0, 0, 31, 31, 0, 31, 0, 0, // Flow
        14, 3, 0, 160, // messages
        0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];

    #[test]
    fn a_script_can_get_as_far_as_messages() {
        let stage = play(&UNDER_WAY);
        let counts = stage.hub.counts(GROUP).unwrap();
        assert_eq!((counts.published, counts.pushed), (3, 3), "{counts:?}");
    }

    proptest! {
        #[test]
        fn no_script_brings_the_emulator_down(
            under_way in any::<bool>(),
            script in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let start = if under_way { &UNDER_WAY[..] } else { &[] };
            fuzz_frames(&[start, &script].concat());
        }
    }
}
