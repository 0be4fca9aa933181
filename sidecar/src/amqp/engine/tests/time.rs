//! Heartbeats, the peer's silence, and a bound on every wait.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(1);
/// A moment less than a step may take.
const ALMOST_A_STEP: Duration = Duration::from_millis(9_999);

/// Everything the peer says until the link stands, a step at a time, and what is waited for after each.
fn steps() -> Vec<(Wait, Vec<u8>)> {
    vec![
        (Wait::Sasl, SASL.to_vec()),
        (Wait::Sasl, sasl(&mechanisms(&["PLAIN"]))),
        (Wait::Authentication, sasl(&outcome(SaslCode::Ok))),
        (Wait::Open, AMQP.to_vec()),
        (Wait::Open, frame(0, &peer_open())),
        (Wait::Attach, frame(PEER_CHANNEL, &peer_begin())),
        (Wait::Attach, frame(PEER_CHANNEL, &peer_attach())),
    ]
}

/// A link that a peer announcing `idle_time_out` has attached.
fn attached_to(idle_time_out: Option<u32>) -> Link {
    let mut link = Link::new(params());
    let open = Open { idle_time_out, ..peer_open() };
    link.hears(&[login(), AMQP.to_vec(), frame(0, &open)].concat()).unwrap();
    link.hears(&[frame(PEER_CHANNEL, &peer_begin()), frame(PEER_CHANNEL, &peer_attach())].concat()).unwrap();
    link.says();
    link
}

#[test]
fn every_step_until_the_link_stands_is_bounded() {
    for stuck in 0..steps().len() {
        let mut link = Link::new(params());
        for (_, bytes) in &steps()[..stuck] {
            // A peer that takes just not too long for each step is borne with.
            link.waits(ALMOST_A_STEP).unwrap();
            link.hears(bytes).unwrap();
            link.says();
        }
        let (wait, _) = steps()[stuck];
        assert!(link.engine.next_deadline() <= link.now + STEP, "{wait:?}");
        link.waits(ALMOST_A_STEP).unwrap();
        assert_eq!(link.waits(MOMENT), Err(Fault::Timeout(wait, STEP)), "{wait:?}");
        assert!(link.engine.is_closed());
        assert_eq!(link.engine.fault().map(Fault::renew), Some(Renew::Connection));
    }
}

#[test]
fn a_peer_that_dribbles_does_not_stretch_a_step() {
    let mut link = Link::new(params());
    let greeting = sasl(&mechanisms(&["PLAIN"]));
    link.hears(&SASL).unwrap();
    for n in 1..10 {
        link.waits(SECOND).unwrap();
        assert_eq!(link.engine.input(link.now, &greeting[..n], &mut link.deliveries), Ok(0));
    }
    assert_eq!(link.waits(SECOND), Err(Fault::Timeout(Wait::Sasl, STEP)));
}

#[test]
fn a_refused_link_whose_detach_never_comes_is_given_up() {
    let mut link = Link::new(params());
    link.hears(&[login(), AMQP.to_vec(), frame(0, &peer_open()), frame(3, &peer_begin())].concat()).unwrap();
    link.hears(&frame(3, &Attach { source: None, ..peer_attach() })).unwrap();
    assert_eq!(link.waits(STEP), Err(Fault::Timeout(Wait::Attach, STEP)));
}

#[test]
fn a_heartbeat_goes_out_every_third_of_the_smaller_time_out() {
    for (theirs, every) in [(None, 20), (Some(0), 20), (Some(300_000), 20), (Some(30_000), 10), (Some(3_000), 1)] {
        let mut link = attached_to(theirs);
        let (every, almost) = (SECOND * every, Duration::from_millis(1_000 * u64::from(every) - 1));
        for _ in 0..3 {
            assert_eq!(link.engine.next_deadline(), link.now + every, "{theirs:?}");
            link.waits(almost).unwrap();
            assert_eq!(link.says(), [], "{theirs:?}: not yet");
            // `says` has written nothing, so it has not put the heartbeat off either.
            link.waits(MOMENT).unwrap();
            link.hears(&frame::HEARTBEAT).unwrap();
            assert_eq!(link.says(), [Sent::Heartbeat], "{theirs:?}");
        }
    }
}

#[test]
fn whatever_is_written_puts_the_heartbeat_off() {
    let mut link = attached_to(None);
    link.waits(SECOND * 15).unwrap();
    link.engine.grant(1);
    link.says();
    link.waits(SECOND * 15).unwrap();
    assert_eq!(link.says(), []);
    link.waits(SECOND * 5).unwrap();
    assert_eq!(link.says(), [Sent::Heartbeat]);
}

#[test]
fn heartbeats_do_not_pile_up_before_a_peer_that_does_not_read() {
    let mut link = attached_to(None);
    for _ in 0..10 {
        link.waits(SECOND * 20).unwrap();
        link.hears(&frame::HEARTBEAT).unwrap();
    }
    assert_eq!(link.says(), [Sent::Heartbeat]);
}

#[test]
fn a_peer_that_has_fallen_silent_is_given_up() {
    let mut link = attached_to(None);
    for _ in 0..4 {
        link.waits(SECOND * 20).unwrap();
        link.says();
    }
    link.waits(Duration::from_millis(9_999)).unwrap();
    assert!(link.engine.next_deadline() <= link.now + MOMENT);
    assert_eq!(link.waits(MOMENT), Err(Fault::Silent(IDLE + IDLE / 2)));
    assert_eq!(link.engine.fault().map(Fault::renew), Some(Renew::Connection));
}

#[test]
fn any_sign_of_life_counts() {
    let mut link = attached_to(None);
    let whole = delivery(0, b"x");
    for n in 1..10 {
        link.waits(SECOND * 80).unwrap();
        assert_eq!(link.engine.input(link.now, &whole[..n], &mut link.deliveries), Ok(0));
    }
    link.waits(SECOND * 80).unwrap();
    link.hears(&frame::HEARTBEAT).unwrap();
    link.waits(SECOND * 80).unwrap();
}

#[test]
fn the_wait_for_the_close_is_bounded() {
    let mut link = Link::attached();
    link.engine.close(link.now);
    link.waits(ALMOST_A_STEP).unwrap();
    assert!(!link.engine.is_closed());
    assert_eq!(link.waits(MOMENT), Err(Fault::Timeout(Wait::Close, STEP)));
    assert!(link.engine.is_closed());
}

#[test]
fn a_closed_connection_asks_for_nothing_more() {
    let mut link = Link::attached();
    link.hears(&frame(0, &Close { error: None })).unwrap_err();
    link.says();
    link.waits(SECOND * 10_000).unwrap();
    assert_eq!(link.says(), []);
}
