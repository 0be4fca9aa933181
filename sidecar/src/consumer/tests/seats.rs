//! Slots that come and go: what the consumer does by its orders.

use super::*;
use crate::saturation::permille;

const STAND_BY: &str = "all 64 client slots are held";

fn stand_by() -> Seating {
    Seating::StandBy { reason: STAND_BY.to_owned() }
}

fn using(epoch: u64, slots: &[u32]) -> Seating {
    Seating::Use { epoch, slots: slots.to_vec() }
}

fn leave(epoch: u64, within: Duration) -> Seating {
    Seating::Leave { epoch, until: clock::now() + within, reason: "given back".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn without_a_slot_there_is_no_attempt_and_the_application_hears_why() {
    let platform = Platform::default();
    let _link = platform.link();
    let world = World::seated(platform, Policy::default(), stand_by());
    let mut application = world.attach("a").await.unwrap();
    assert_eq!(application.link_state(v1::link_state::State::Connecting).await, STAND_BY);
    sleep(Duration::from_secs(600)).await;
    assert_eq!(world.platform.told(), []);
    world.order(using(3, &[7]), Policy::default());
    application.link_state(v1::link_state::State::Up).await;
    assert_eq!(world.platform.attempts(), 1);
    let snapshot = world.status.borrow().clone();
    assert!(snapshot.seated && snapshot.was_up && snapshot.followed == 2, "{snapshot:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_left_once_what_is_in_hand_is_answered_and_the_link_is_closed() {
    let (world, link, mut application) = attached().await;
    link.send(Ok(vec![incoming(0), incoming(1)])).unwrap();
    let deliveries = application.deliveries().await;
    world.order(leave(1, Duration::from_secs(20)), Policy::default());
    settle_down().await;
    let grants = world.platform.told().len();
    application.ack(&[deliveries[0].delivery_id]).await;
    settle_down().await;
    assert!(world.status.borrow().seated, "one is not answered");
    application.ack(&[deliveries[1].delivery_id]).await;
    assert_eq!(application.results().await.settled.len() + application.results().await.settled.len(), 2);
    settle_down().await;
    let told = world.platform.told();
    assert!(!told[grants..].iter().any(|told| matches!(told, Told::Grant(_))), "no more credit: {told:?}");
    assert_eq!(told.last(), Some(&Told::Closed));
    let snapshot = world.status.borrow().clone();
    assert!(!snapshot.seated && snapshot.followed == 2 && snapshot.unconfirmed.is_none(), "{snapshot:?}");
    sleep(Duration::from_secs(120)).await;
    assert_eq!(world.platform.attempts(), 1, "no slot, no attempt");
    // The stream stays, and has its messages again with the next slot.
    let _next = world.platform.link();
    world.order(using(2, &[5]), Policy::default());
    application.link_state(v1::link_state::State::Up).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_answered_when_the_time_is_up_is_handed_back() {
    let (world, link, mut application) = attached().await;
    link.send(Ok(vec![incoming(0)])).unwrap();
    let deliveries = application.deliveries().await;
    world.order(leave(1, Duration::from_secs(3)), Policy::default());
    sleep(Duration::from_secs(4)).await;
    let told = world.platform.told();
    assert!(told.ends_with(&[Told::Settle(0, 0, hot::Outcome::Released), Told::Closed]), "{told:?}");
    assert!(!world.status.borrow().seated);
    application.ack(&[deliveries[0].delivery_id]).await;
    let results = application.results().await;
    assert!(results.settled.is_empty(), "{results:?}");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_the_platform_does_not_confirm_is_told() {
    let (world, _link, _application) = attached().await;
    world.platform.block(true);
    world.order(leave(1, Duration::ZERO), Policy::default());
    sleep(Duration::from_secs(5)).await;
    let snapshot = world.status.borrow().clone();
    assert!(!snapshot.seated && snapshot.unconfirmed.is_some(), "{snapshot:?}");
}

#[tokio::test(start_paused = true)]
async fn orders_to_leave_what_was_never_taken_are_followed() {
    let world = World::seated(Platform::default(), Policy::default(), stand_by());
    world.order(leave(4, Duration::from_secs(9)), Policy::default());
    settle_down().await;
    let snapshot = world.status.borrow().clone();
    assert!(!snapshot.seated && snapshot.followed == 2, "{snapshot:?}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_under_way_is_given_up_with_the_slot() {
    // There is no link for it: it is under way for ever.
    let world = World::new(Platform::default(), Policy::default());
    let _application = world.attach("a").await.unwrap();
    settle_down().await;
    assert_eq!(world.platform.attempts(), 1);
    world.order(leave(1, Duration::ZERO), Policy::default());
    settle_down().await;
    let snapshot = world.status.borrow().clone();
    assert!(!snapshot.seated && snapshot.unconfirmed.is_some(), "the platform may know of it: {snapshot:?}");
}

#[tokio::test(start_paused = true)]
async fn only_an_attempt_that_the_platform_has_ended_is_known_to_it() {
    use std::io::ErrorKind;
    let ended = |kind| ConnectError::Amqp(Fault::Lost { kind, reason: "while Open was on its way".to_owned() });
    let lapsed = ConnectError::Lapsed { address: "amqp.example:5671".to_owned(), step: "the TLS handshake" };
    for (error, confirmed) in [
        (ended(ErrorKind::UnexpectedEof), true),
        (ended(ErrorKind::ConnectionReset), true),
        (ended(ErrorKind::ConnectionAborted), true),
        (ended(ErrorKind::BrokenPipe), true),
        (ended(ErrorKind::NetworkUnreachable), false),
        (ended(ErrorKind::HostUnreachable), false),
        (ended(ErrorKind::TimedOut), false),
        (lapsed, true),
    ] {
        let what = format!("{error:?}");
        let platform = Platform::default();
        platform.refuse(error);
        let world = World::new(platform, Policy::default());
        let _application = world.attach("a").await.unwrap();
        settle_down().await;
        world.order(leave(1, Duration::ZERO), Policy::default());
        settle_down().await;
        let snapshot = world.status.borrow().clone();
        assert!(!snapshot.seated, "{what}");
        assert_eq!(snapshot.unconfirmed.is_none(), confirmed, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn several_links_feed_one_window_and_each_message_is_settled_on_its_own() {
    let platform = Platform::default();
    let (first, second) = (platform.link(), platform.link());
    let policy = Policy { max_in_flight: 10, ..Policy::default() };
    let world = World::seated(platform, policy, using(1, &[3, 9]));
    let mut application = world.attach("a").await.unwrap();
    application.link_state(v1::link_state::State::Up).await;
    // Figures are renewed now and then.
    sleep(Duration::from_secs(2)).await;
    let snapshot = world.status.borrow().clone();
    assert_eq!((snapshot.links.len(), snapshot.link, world.platform.attempts()), (2, LinkPhase::Up, 2));
    assert_eq!(snapshot.credit, 10, "together no more than the window");

    // The same delivery-id on both: two messages.
    first.send(Ok(vec![incoming(0)])).unwrap();
    second.send(Ok(vec![Incoming { delivery_id: 0, ..incoming(77) }])).unwrap();
    let mut ids: Vec<u64> = Vec::new();
    while ids.len() < 2 {
        ids.extend(application.deliveries().await.iter().map(|delivery| delivery.delivery_id));
    }
    // One link goes: what came on it is told as lost, the other goes on.
    first.send(Err(lost("cut"))).unwrap();
    settle_down().await;
    assert_eq!(world.status.borrow().link, LinkPhase::Connecting);
    application.ack(&ids).await;
    let mut results = application.results().await;
    while results.settled.len() + results.link_lost.len() < 2 {
        let more = application.results().await;
        results.settled.extend(more.settled);
        results.link_lost.extend(more.link_lost);
    }
    assert_eq!((results.settled.len(), results.link_lost.len()), (1, 1));
    assert_eq!(world.platform.settled(), [Told::Settle(0, 0, hot::Outcome::Accepted)]);
}

#[tokio::test(start_paused = true)]
async fn a_smaller_window_grants_no_more_until_it_has_room_and_a_larger_one_reaches_streams_that_are_attached() {
    let (world, link, mut application) = attached().await;
    link.send(Ok((0..8).map(incoming).collect())).unwrap();
    let ids: Vec<u64> = application.deliveries().await.iter().map(|delivery| delivery.delivery_id).collect();
    world.order(using(1, &[0]), Policy { max_in_flight: 2, ..Policy::default() });
    settle_down().await;
    let before = world.platform.told().len();
    application.ack(&ids[..4]).await;
    settle_down().await;
    let granted = |from: usize| world.platform.told()[from..].iter().filter(|t| matches!(t, Told::Grant(_))).count();
    assert_eq!(granted(before), 0, "four are still in hand, and two may be");
    assert_eq!(world.platform.attempts(), 1, "the link stays");
}

#[tokio::test(start_paused = true)]
async fn a_drain_on_request_ends_streams_and_links_and_leaves_the_process() {
    let (world, link, mut application) = attached().await;
    link.send(Ok(vec![incoming(0)])).unwrap();
    let deliveries = application.deliveries().await;
    let ask = || {
        let (reply, answer) = oneshot::channel();
        let drain = Command::Drain { within: Duration::from_secs(20), reply };
        world.handle.commands.try_send(drain).unwrap();
        answer
    };
    let (first, second) = (ask(), ask());
    settle_down().await;
    assert!(world.attach("b").await.is_err());
    application.ack(&[deliveries[0].delivery_id]).await;
    assert_eq!(application.results().await.settled, [deliveries[0].delivery_id]);
    assert_eq!(application.end().await.code(), Code::Unavailable);
    drop(application);
    assert_eq!((first.await, second.await, ask().await), (Ok(0), Ok(0), Ok(0)));
    assert_eq!(world.platform.told().last(), Some(&Told::Closed));
    assert!(!world.consumer.is_finished() && !world.status.borrow().seated);
    let begun = clock::now();
    world.shutdown.send_replace(Some(begun + Duration::from_secs(600)));
    assert!(world.consumer.await.unwrap());
    assert!(clock::now() < begun + Duration::from_secs(1), "nothing is left to be done");
}

#[tokio::test(start_paused = true)]
async fn a_drain_whose_time_is_up_says_how_much_was_handed_back() {
    let (world, link, mut application) = attached().await;
    link.send(Ok(vec![incoming(0), incoming(1)])).unwrap();
    let deliveries = application.deliveries().await;
    let (reply, answer) = oneshot::channel();
    world.handle.commands.send(Command::Drain { within: Duration::from_secs(5), reply }).await.unwrap();
    application.ack(&[deliveries[0].delivery_id]).await;
    assert_eq!(answer.await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn an_application_that_has_all_it_declared_is_saturated() {
    let platform = Platform::default();
    let link = platform.link();
    let world = World::new(platform, Policy::default());
    let mut application = Application::attach(&world.handle, "a", 2).await.unwrap();
    application.link_state(v1::link_state::State::Up).await;
    let share = |from: Instant, before: Duration| {
        let total = world.status.borrow().saturation.total(clock::now());
        permille(total.saturating_sub(before), clock::now() - from)
    };
    let start = clock::now();
    sleep(Duration::from_secs(4)).await;
    assert_eq!(share(start, Duration::ZERO), 0, "nothing to do");
    link.send(Ok(vec![incoming(0)])).unwrap();
    let first = application.deliveries().await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(share(start, Duration::ZERO), 0, "one more could be given");
    link.send(Ok(vec![incoming(1)])).unwrap();
    application.deliveries().await;
    let full = clock::now();
    sleep(Duration::from_secs(3)).await;
    application.ack(&[first[0].delivery_id]).await;
    sleep(Duration::from_secs(3)).await;
    let of_six = share(full, Duration::ZERO);
    assert!((490..=510).contains(&of_six), "{of_six}");
}
