//! The rules of a connection that go by the clock, at times that are made up.

use super::*;
use crate::amqp::frame;
use crate::tests::client::{attach, begin, open};

/// A place where everything goes well and nothing happens.
#[derive(Debug, Default)]
struct QuietSeat;

impl Seat for QuietSeat {
    fn pass(&mut self, _: Door) -> Result<(), Refusal> {
        Ok(())
    }

    fn attach(&mut self) {}

    fn detach(&mut self) {}

    fn grant(&mut self, _: Credit) {}

    fn settle(&mut self, _: u32, _: u32, _: Outcome) {}

    fn fetch(&mut self, _: usize, _: &mut VecDeque<Outgoing>) {}

    fn orders(&mut self) -> Vec<Order> {
        Vec::new()
    }

    fn note(&mut self, _: Code, _: &str) {}

    fn leave(&mut self) {}
}

const START: Micros = Micros::new(7_000_000);

fn at(seconds: u64) -> Micros {
    START.after(Duration::from_secs(seconds))
}

/// The last moment before [`at`].
fn just_before(seconds: u64) -> Micros {
    Micros::new(at(seconds).get() - 1)
}

fn authenticated() -> Connection<QuietSeat> {
    Connection::new(QuietSeat, Arc::default(), START)
}

/// Opened at the start with an idle-time-out of a minute, with a session and, if wanted, a receiver link.
fn opened(with_link: bool) -> Connection<QuietSeat> {
    let mut connection = authenticated();
    hears(&mut connection, &open(60_000), START);
    hears(&mut connection, &begin(100), START);
    if with_link {
        hears(&mut connection, &attach(0, Role::Receiver), START);
    }
    said(&mut connection);
    connection
}

fn hears(connection: &mut Connection<QuietSeat>, body: &impl Serialize, now: Micros) {
    let mut bytes = BytesMut::new();
    encode::put(&mut bytes, Kind::Amqp, 0, body).unwrap();
    let frame = frame::next(&mut bytes, Kind::Amqp, 4_096).unwrap().unwrap();
    connection.on_frame(&frame, now);
}

fn hears_a_beat(connection: &mut Connection<QuietSeat>, now: Micros) {
    let mut bytes = BytesMut::new();
    encode::put_empty(&mut bytes);
    let frame = frame::next(&mut bytes, Kind::Amqp, 4_096).unwrap().unwrap();
    connection.on_frame(&frame, now);
}

/// What the connection has to say: each frame's name, and of a close its condition.
fn said(connection: &mut Connection<QuietSeat>) -> Vec<String> {
    let mut said = Vec::new();
    while let Some(frame) = frame::next(connection.out(), Kind::Amqp, 4_096).unwrap() {
        said.push(if frame.body.is_empty() {
            "beat".to_owned()
        } else {
            match from_slice(&frame.body).unwrap() {
                Performative::Open(_) => "open".to_owned(),
                Performative::Close(Close { error: Some(error) }) => format!("close {:?}", error.condition),
                other => format!("{other:?}"),
            }
        });
    }
    said
}

/// Lets time pass as the edge does, which looks at the connection whenever it is due.
fn until(connection: &mut Connection<QuietSeat>, now: Micros) -> Vec<String> {
    while connection.deadline() <= now {
        let due = connection.deadline();
        connection.on_time(due);
    }
    connection.on_time(now);
    said(connection)
}

fn forced() -> String {
    format!("close {:?}", ErrorCondition::from(ConnectionError::ConnectionForced))
}

#[test]
fn a_connection_that_never_opens_is_closed_after_15_s() {
    let mut connection = authenticated();
    assert!(until(&mut connection, just_before(15)).is_empty());
    assert_eq!(until(&mut connection, at(15)), ["open".to_owned(), forced()]);
}

#[test]
fn a_connection_without_a_receiver_link_is_closed_after_15_s() {
    let mut connection = opened(false);
    assert!(until(&mut connection, just_before(15)).is_empty());
    assert_eq!(until(&mut connection, at(15)), [forced()]);
}

#[test]
fn a_connection_with_a_receiver_link_is_not() {
    let mut connection = opened(true);
    hears_a_beat(&mut connection, at(50));
    assert_eq!(until(&mut connection, just_before(100)), ["beat"; 4]);
}

#[test]
fn after_a_detach_there_are_15_s_to_attach_again() {
    let mut connection = opened(true);
    hears(&mut connection, &Detach { handle: Handle(0), closed: true, error: None }, at(10));
    said(&mut connection);
    assert_eq!(until(&mut connection, just_before(25)), ["beat"]);
    assert_eq!(until(&mut connection, at(25)), [forced()]);
}

#[test]
fn a_beat_goes_out_every_third_of_the_clients_idle_time_out() {
    let mut connection = opened(true);
    for third in 1..10 {
        assert!(until(&mut connection, just_before(20 * third)).is_empty());
        assert_eq!(until(&mut connection, at(20 * third)), ["beat"]);
        hears_a_beat(&mut connection, at(20 * third));
    }
}

#[test]
fn a_client_that_is_silent_for_its_own_idle_time_out_is_closed() {
    let mut connection = opened(true);
    hears_a_beat(&mut connection, at(45));
    assert!(until(&mut connection, just_before(105)).iter().all(|frame| frame == "beat"));
    let exceeded = ErrorCondition::from(AmqpError::ResourceLimitExceeded);
    assert_eq!(until(&mut connection, at(105)), [format!("close {exceeded:?}")]);
}

#[test]
fn a_close_that_is_not_answered_is_the_end_after_2_s() {
    let mut connection = authenticated();
    until(&mut connection, at(15));
    until(&mut connection, just_before(17));
    assert!(!connection.is_over());
    until(&mut connection, at(17));
    assert!(connection.is_over());
}
