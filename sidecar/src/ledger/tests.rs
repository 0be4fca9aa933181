//! The promises of the ledger, one by one.

use std::time::{Duration, Instant};

use super::*;
use crate::repeat::RepeatPolicy;

const LINK: LinkEpoch = LinkEpoch(1);
const ONE: StreamId = StreamId(1);
const TWO: StreamId = StreamId(2);
const ANY_SIZE: u32 = u32::MAX;
/// The platform's ACK timeout (PLATFORM.md 1.7).
const ACK_TIMEOUT: Duration = Duration::from_secs(30);
const ACK: Verdict = Verdict::Ack;

/// A ledger with a link, and the clock it sees.
struct Bench {
    ledger: Ledger<&'static str>,
    start: Instant,
    now: Instant,
    next_delivery: u32,
}

impl Bench {
    fn new() -> Self {
        Self::with(Policy::default())
    }

    fn with(policy: Policy) -> Self {
        let mut ledger = Ledger::new(policy, LeaseId(1));
        ledger.link_up(LINK);
        let now = Instant::now();
        Self { ledger, start: now, now, next_delivery: u32::MAX - 1 }
    }

    fn offer_on(&mut self, epoch: LinkEpoch, message: &'static str, size: u32) -> (Transfer, Offered) {
        let transfer = Transfer { epoch, delivery_id: self.next_delivery };
        self.next_delivery = self.next_delivery.wrapping_add(1);
        let key = message.strip_prefix('#').map(|id| RepeatKey { identity: id.len() as u64, payload: id.len() as u64 });
        (transfer, self.ledger.offer(self.now, transfer, key, size, message))
    }

    /// Messages that begin with `#` have an ID: their length.
    fn offer(&mut self, message: &'static str) -> Transfer {
        let (transfer, offered) = self.offer_on(LINK, message, 10);
        assert!(matches!(offered, Offered::Queued | Offered::Joined), "{offered:?}");
        transfer
    }

    fn lease(&mut self, stream: StreamId) -> LeaseId {
        self.ledger.lease(self.now, stream, ANY_SIZE).expect("something is queued").id
    }

    fn verdict(&mut self, stream: StreamId, id: LeaseId, verdict: Verdict) -> VerdictResult {
        self.ledger.verdict(self.now, stream, id, verdict)
    }

    fn after(&mut self, time: Duration) -> Vec<(StreamId, LeaseId)> {
        self.now += time;
        let mut expired = Vec::new();
        self.ledger.tick(self.now, &mut expired);
        expired
    }

    fn after_secs(&mut self, seconds: u64) -> Vec<(StreamId, LeaseId)> {
        self.after(Duration::from_secs(seconds))
    }

    fn settled(&mut self) -> Vec<(Transfer, Outcome)> {
        let mut settlements = Vec::new();
        self.ledger.drain_settlements(&mut settlements);
        settlements.into_iter().map(|settlement| (settlement.transfer, settlement.outcome)).collect()
    }
}

#[test]
fn nothing_is_accepted_before_the_ack() {
    let mut bench = Bench::new();
    let transfer = bench.offer("a");
    let id = bench.lease(ONE);
    assert_eq!(bench.settled(), []);
    assert_eq!(bench.verdict(ONE, id, ACK), VerdictResult::Accepting);
    assert_eq!(bench.settled(), [(transfer, Outcome::Accepted)]);
    assert!(bench.ledger.is_empty());
    assert_eq!(bench.ledger.next_deadline(), None);
}

#[test]
fn leases_are_numbered_in_sequence_and_tell_what_the_application_needs() {
    let mut bench = Bench::new();
    bench.offer("a");
    bench.offer("b");
    let deadline = bench.now + Duration::from_secs(25);
    bench.after_secs(3);
    let lease = bench.ledger.lease(bench.now, ONE, ANY_SIZE).expect("queued");
    assert_eq!((lease.id, lease.attempt, *lease.message, lease.size), (LeaseId(1), 1, "a", 10));
    assert_eq!(lease.deadline, deadline);
    assert!(!lease.possible_repeat);
    assert_eq!(bench.lease(ONE), LeaseId(2));
    assert!(bench.ledger.lease(bench.now, ONE, ANY_SIZE).is_none());
}

#[test]
fn an_expired_lease_is_released_before_the_platform_times_out() {
    let mut bench = Bench::new();
    let transfer = bench.offer("a");
    let id = bench.lease(ONE);
    while bench.settled().is_empty() {
        let next = bench.ledger.next_deadline().expect("something is due");
        let expired = bench.after(next - bench.now);
        if !expired.is_empty() {
            assert_eq!(expired, [(ONE, id)]);
            assert!(bench.now < bench.start + ACK_TIMEOUT);
            assert_eq!(bench.settled(), [(transfer, Outcome::Released)]);
            break;
        }
    }
    assert!(bench.ledger.is_empty());
    assert_eq!(bench.verdict(ONE, id, ACK), VerdictResult::Expired);
    assert_eq!(bench.settled(), []);
}

#[test]
fn a_message_is_left_to_expire_when_the_policy_says_so() {
    let mut bench = Bench::with(Policy { hand_back: HandBack::Expire, ..Policy::default() });
    let transfer = bench.offer("a");
    bench.lease(ONE);
    bench.after_secs(25);
    assert_eq!(bench.settled(), [(transfer, Outcome::LeftToExpire)]);
}

#[test]
fn what_waits_too_long_in_the_queue_is_handed_back_and_not_leased() {
    let mut bench = Bench::new();
    let early = bench.offer("a");
    bench.after_secs(1);
    bench.offer("b");
    bench.after_secs(19);
    assert_eq!(bench.settled(), [(early, Outcome::Released)]);
    // Without a tick, too.
    bench.now += Duration::from_secs(1);
    assert!(bench.ledger.lease(bench.now, ONE, ANY_SIZE).is_none());
    assert_eq!(bench.settled().len(), 1);
}

#[test]
fn a_repeat_of_a_message_in_hand_shares_its_verdict() {
    let mut bench = Bench::new();
    let first = bench.offer("#a");
    let id = bench.lease(ONE);
    let (second, offered) = bench.offer_on(LINK, "#a", 10);
    assert_eq!(offered, Offered::Joined);
    assert!(bench.ledger.lease(bench.now, TWO, ANY_SIZE).is_none());
    bench.verdict(ONE, id, ACK);
    let mut settled = bench.settled();
    settled.sort_by_key(|(transfer, _)| transfer.delivery_id);
    assert_eq!(settled, [(first, Outcome::Accepted), (second, Outcome::Accepted)]);
}

#[test]
fn each_transfer_is_handed_back_at_its_own_deadline_and_the_lease_ends_with_the_last() {
    let mut bench = Bench::new();
    let first = bench.offer("#a");
    let id = bench.lease(ONE);
    bench.after_secs(10);
    let second = bench.offer("#a");
    assert_eq!(bench.after_secs(15), []);
    assert_eq!(bench.settled(), [(first, Outcome::Released)]);
    assert_eq!(bench.after_secs(10), [(ONE, id)]);
    assert_eq!(bench.settled(), [(second, Outcome::Released)]);
}

#[test]
fn a_repeat_of_an_acked_message_is_accepted_without_the_application() {
    let mut bench = Bench::new();
    bench.offer("#a");
    let id = bench.lease(ONE);
    bench.verdict(ONE, id, ACK);
    bench.settled();
    let (transfer, offered) = bench.offer_on(LINK, "#a", 10);
    assert_eq!(offered, Offered::Repeat);
    assert_eq!(bench.settled(), [(transfer, Outcome::Accepted)]);
    bench.after_secs(601);
    assert_eq!(bench.offer_on(LINK, "#a", 10).1, Offered::Queued, "the window is over");
}

#[test]
fn messages_without_an_id_are_never_repeats() {
    let mut bench = Bench::new();
    for _ in 0..2 {
        bench.offer("a");
        assert_eq!(bench.offer_on(LINK, "a", 10).1, Offered::Queued);
        let id = bench.lease(ONE);
        bench.verdict(ONE, id, ACK);
    }
}

#[test]
fn the_window_hands_back_what_the_peer_had_no_credit_for() {
    let mut bench = Bench::with(Policy { max_in_flight: 2, max_in_flight_bytes: 100, ..Policy::default() });
    assert_eq!(bench.offer_on(LINK, "large", 500).1, Offered::Queued, "one is always admitted");
    let (transfer, offered) = bench.offer_on(LINK, "b", 1);
    assert_eq!(offered, Offered::Overflow);
    assert_eq!(bench.settled(), [(transfer, Outcome::Released)]);
    let id = bench.lease(ONE);
    bench.verdict(ONE, id, ACK);
    bench.offer("c");
    bench.offer("d");
    assert_eq!(bench.offer_on(LINK, "e", 1).1, Offered::Overflow);
    assert_eq!(bench.ledger.held(), Held { messages: 2, bytes: 20, queued: 2, leased: 0, transfers: 2 });
}

#[test]
fn a_lost_link_takes_its_undrained_settlements_along() {
    let mut bench = Bench::new();
    bench.offer("#a");
    let id = bench.lease(ONE);
    assert_eq!(bench.verdict(ONE, id, ACK), VerdictResult::Accepting);
    bench.ledger.link_lost(bench.now, LINK);
    assert_eq!(bench.settled(), []);
    bench.ledger.link_up(LinkEpoch(2));
    assert_eq!(bench.offer_on(LINK, "#a", 10).1, Offered::StaleLink);
    let (transfer, offered) = bench.offer_on(LinkEpoch(2), "#a", 10);
    assert_eq!(offered, Offered::Repeat, "its ack still counts");
    assert_eq!(bench.settled(), [(transfer, Outcome::Accepted)]);
}

#[test]
fn a_lost_link_empties_the_queue_but_leaves_leases_their_time() {
    let mut bench = Bench::new();
    bench.offer("#a");
    let id = bench.lease(ONE);
    bench.offer("#bb");
    bench.ledger.link_lost(bench.now, LINK);
    assert_eq!(bench.ledger.held(), Held { messages: 1, bytes: 10, queued: 0, leased: 1, transfers: 1 });
    assert_eq!(bench.verdict(ONE, id, ACK), VerdictResult::LinkLost);
    assert!(bench.ledger.is_empty());
    bench.ledger.link_up(LinkEpoch(2));
    assert_eq!(bench.offer_on(LinkEpoch(2), "#a", 10).1, Offered::Repeat);
    assert_eq!(bench.offer_on(LinkEpoch(2), "#bb", 10).1, Offered::Queued);
}

#[test]
fn a_lease_without_a_link_ends_at_its_deadline_in_silence() {
    let mut bench = Bench::new();
    bench.offer("a");
    let id = bench.lease(ONE);
    bench.ledger.link_lost(bench.now, LINK);
    assert_eq!(bench.after_secs(25), [(ONE, id)]);
    assert_eq!(bench.settled(), []);
    assert!(bench.ledger.is_empty());
}

#[test]
fn a_message_pushed_again_after_a_lost_link_joins_its_lease() {
    let mut bench = Bench::new();
    bench.offer("#a");
    let id = bench.lease(ONE);
    bench.ledger.link_lost(bench.now, LINK);
    bench.ledger.link_up(LinkEpoch(2));
    bench.after_secs(20);
    let (transfer, offered) = bench.offer_on(LinkEpoch(2), "#a", 10);
    assert_eq!(offered, Offered::Joined);
    assert_eq!(bench.after_secs(20), [], "it has the time of the new transfer");
    assert_eq!(bench.verdict(ONE, id, ACK), VerdictResult::Accepting);
    assert_eq!(bench.settled(), [(transfer, Outcome::Accepted)]);
}

#[test]
fn what_the_loss_of_a_second_link_leaves_without_a_useful_lease_is_handed_back() {
    let mut bench = Bench::new();
    let first = bench.offer("#a");
    bench.ledger.link_up(LinkEpoch(2));
    bench.after_secs(15);
    bench.offer_on(LinkEpoch(2), "#a", 10);
    bench.after_secs(6);
    assert_eq!(bench.settled(), []);
    bench.ledger.link_lost(bench.now, LinkEpoch(2));
    assert_eq!(bench.settled(), [(first, Outcome::Released)]);
}

#[test]
fn an_ack_after_the_lease_still_counts_for_repeats() {
    let mut bench = Bench::new();
    bench.offer("#a");
    let id = bench.lease(ONE);
    bench.after_secs(25);
    assert_eq!(bench.verdict(TWO, id, ACK), VerdictResult::Unknown, "not its lease");
    assert_eq!(bench.verdict(ONE, id, ACK), VerdictResult::Expired);
    assert_eq!(bench.verdict(ONE, id, ACK), VerdictResult::Unknown, "has had its verdict");
    assert_eq!(bench.offer_on(LINK, "#a", 10).1, Offered::Repeat);
}

#[test]
fn an_ack_after_the_lease_accepts_the_message_if_it_is_queued_again() {
    let mut bench = Bench::new();
    bench.offer("#a");
    let id = bench.lease(ONE);
    bench.after_secs(25);
    bench.settled();
    let again = bench.offer("#a");
    assert_eq!(bench.verdict(ONE, id, ACK), VerdictResult::Accepting);
    assert_eq!(bench.settled(), [(again, Outcome::Accepted)]);
    assert!(bench.ledger.is_empty());
}

#[test]
fn an_ack_after_the_lease_spares_the_message_the_failure_of_its_next_holder() {
    let mut bench = Bench::new();
    let transfer = bench.offer("#a");
    let former = bench.lease(ONE);
    bench.ledger.stream_gone(bench.now, ONE);
    bench.ledger.stream_back(bench.now, ONE, false);
    let present = bench.lease(TWO);
    assert_eq!(bench.verdict(ONE, former, ACK), VerdictResult::Expired);
    assert_eq!(bench.settled(), [], "another stream has it");
    assert_eq!(bench.verdict(TWO, present, Verdict::Retry { delay: None }), VerdictResult::Accepting);
    assert_eq!(bench.settled(), [(transfer, Outcome::Accepted)]);
}

#[test]
fn a_message_that_was_given_out_before_is_marked_as_a_possible_repeat() {
    let mut bench = Bench::new();
    bench.offer("#a");
    bench.lease(ONE);
    bench.after_secs(25);
    bench.offer("#a");
    let lease = bench.ledger.lease(bench.now, TWO, ANY_SIZE).expect("queued");
    assert!(lease.possible_repeat);
    assert_eq!(lease.attempt, 1);
}

#[test]
fn a_retry_comes_after_its_delay_with_the_next_attempt_under_a_new_id() {
    let mut bench = Bench::new();
    bench.offer("a");
    let first = bench.lease(ONE);
    assert_eq!(bench.verdict(ONE, first, Verdict::Retry { delay: None }), VerdictResult::RetryScheduled);
    assert!(bench.ledger.lease(bench.now, ONE, ANY_SIZE).is_none());
    assert_eq!(bench.ledger.next_deadline(), Some(bench.now + Duration::from_millis(200)));
    bench.after(Duration::from_millis(200));
    let lease = bench.ledger.lease(bench.now, TWO, ANY_SIZE).expect("queued again");
    assert_eq!((lease.id, lease.attempt, lease.possible_repeat), (LeaseId(2), 2, false));
    assert_eq!(bench.verdict(ONE, first, ACK), VerdictResult::Unknown, "it has had its verdict");
    assert_eq!(bench.verdict(TWO, LeaseId(2), Verdict::Retry { delay: None }), VerdictResult::RetryScheduled);
    assert_eq!(bench.ledger.next_deadline(), Some(bench.now + Duration::from_millis(400)), "the backoff doubles");
}

#[test]
fn a_retry_that_leaves_no_useful_lease_is_handed_back() {
    let retry = |seconds| Verdict::Retry { delay: Some(Duration::from_secs(seconds)) };
    let mut bench = Bench::new();
    let transfer = bench.offer("a");
    let id = bench.lease(ONE);
    assert_eq!(bench.verdict(ONE, id, retry(20)), VerdictResult::HandingBack);
    assert_eq!(bench.settled(), [(transfer, Outcome::Released)]);
    bench.offer("b");
    let id = bench.lease(ONE);
    assert_eq!(bench.verdict(ONE, id, retry(19)), VerdictResult::RetryScheduled);
    bench.offer("c");
    let id = bench.lease(ONE);
    let never = Verdict::Retry { delay: Some(Duration::MAX) };
    assert_eq!(bench.verdict(ONE, id, never), VerdictResult::HandingBack);
}

#[test]
fn a_stream_that_returns_in_time_takes_its_leases_up_again() {
    let mut bench = Bench::new();
    let transfer = bench.offer("a");
    let id = bench.lease(ONE);
    bench.ledger.stream_gone(bench.now, ONE);
    bench.after_secs(4);
    assert!(bench.ledger.lease(bench.now, TWO, ANY_SIZE).is_none(), "it waits for its holder");
    assert_eq!(bench.ledger.stream_back(bench.now, ONE, true), InFlight { messages: 1, bytes: 10 });
    bench.after_secs(10);
    assert_eq!(bench.verdict(ONE, id, ACK), VerdictResult::Accepting);
    assert_eq!(bench.settled(), [(transfer, Outcome::Accepted)]);
}

#[test]
fn the_messages_of_a_stream_that_stays_away_go_to_another_oldest_first() {
    let mut bench = Bench::new();
    for message in ["a", "b", "c"] {
        bench.offer(message);
    }
    let id = bench.lease(ONE);
    bench.lease(ONE);
    bench.ledger.stream_gone(bench.now, ONE);
    assert_eq!(bench.ledger.next_deadline(), Some(bench.now + Duration::from_secs(5)));
    bench.after_secs(5);
    for (message, attempt, repeat) in [("a", 2, true), ("b", 2, true), ("c", 1, false)] {
        let lease = bench.ledger.lease(bench.now, TWO, ANY_SIZE).expect("queued");
        assert_eq!((*lease.message, lease.attempt, lease.possible_repeat), (message, attempt, repeat));
    }
    assert_eq!(bench.ledger.stream_back(bench.now, ONE, true), InFlight::default(), "too late");
    assert_eq!(bench.verdict(ONE, id, ACK), VerdictResult::Expired);
}

#[test]
fn a_stream_that_returns_after_its_grace_starts_empty_even_before_the_tick() {
    let mut bench = Bench::new();
    bench.offer("a");
    bench.lease(ONE);
    bench.ledger.stream_gone(bench.now, ONE);
    bench.now += Duration::from_secs(5);
    assert_eq!(bench.ledger.stream_back(bench.now, ONE, true), InFlight::default());
    bench.lease(TWO);
}

#[test]
fn a_stream_passes_over_what_is_too_large_for_it() {
    let mut bench = Bench::new();
    for (message, size) in [("a", 50), ("b", 20), ("c", 40), ("d", 5)] {
        bench.offer_on(LINK, message, size);
    }
    let mut lease = |largest| bench.ledger.lease(bench.now, ONE, largest).map(|lease| *lease.message);
    assert_eq!(lease(10), Some("d"));
    assert_eq!(lease(10), None);
    assert_eq!(lease(45), Some("b"));
    assert_eq!(lease(45), Some("c"));
    assert_eq!(lease(45), None);
    assert_eq!(lease(50), Some("a"));
}

#[test]
fn everything_unsettled_is_handed_back_at_the_end() {
    let mut bench = Bench::new();
    let transfers = [bench.offer("a"), bench.offer("b"), bench.offer("c")];
    let id = bench.lease(ONE);
    let retried = bench.lease(ONE);
    bench.verdict(ONE, retried, Verdict::Retry { delay: None });
    bench.ledger.hand_back_all(bench.now);
    let mut settled = bench.settled();
    settled.sort_by_key(|(transfer, _)| transfers.iter().position(|other| other == transfer));
    assert_eq!(settled, transfers.map(|transfer| (transfer, Outcome::Released)));
    assert!(bench.ledger.is_empty());
    assert_eq!(bench.ledger.next_deadline(), None);
    assert_eq!(bench.verdict(ONE, id, ACK), VerdictResult::Expired);
}

#[test]
fn a_shorter_lease_holds_for_what_comes_and_leaves_what_was_promised() {
    let mut bench = Bench::new();
    let first = bench.offer("a");
    let long = bench.lease(ONE);
    bench.ledger.set_policy(Policy { lease: Duration::from_secs(10), ..Policy::default() }, 0);
    let second = bench.offer("b");
    let short = bench.lease(ONE);
    assert_eq!(bench.after_secs(10), [(ONE, short)]);
    assert_eq!(bench.settled(), [(second, Outcome::Released)]);
    assert_eq!(bench.after_secs(15), [(ONE, long)]);
    assert_eq!(bench.settled(), [(first, Outcome::Released)]);
}

#[test]
fn what_comes_on_credit_of_a_larger_window_is_taken() {
    let mut bench = Bench::with(Policy { max_in_flight: 4, ..Policy::default() });
    bench.offer("a");
    bench.ledger.set_policy(Policy { max_in_flight: 1, ..Policy::default() }, 3);
    for message in ["b", "c", "d"] {
        bench.offer(message);
    }
    assert_eq!(bench.offer_on(LINK, "e", 10).1, Offered::Overflow, "more than was promised");
    // Once all that was promised has come, the new window counts.
    bench.ledger.outstanding(0);
    let ids: Vec<_> = (0..4).map(|_| bench.lease(ONE)).collect();
    for id in ids {
        bench.verdict(ONE, id, ACK);
    }
    bench.settled();
    bench.offer("f");
    assert_eq!(bench.offer_on(LINK, "g", 10).1, Offered::Overflow);
}

#[test]
fn a_lease_is_found_however_many_have_passed_since() {
    let mut bench = Bench::with(Policy {
        max_in_flight: 3_000,
        repeats: RepeatPolicy { max_entries: 0, ..RepeatPolicy::default() },
        ..Policy::default()
    });
    // Every hundredth lease stays: some in the ring, some moved out of it, some taken back in when it grew.
    let mut kept = Vec::new();
    for number in 0..20_000 {
        bench.offer("a");
        let id = bench.lease(ONE);
        if number % 100 == 0 || (5_000..7_000).contains(&number) {
            kept.push(id);
        } else {
            assert_eq!(bench.verdict(ONE, id, ACK), VerdictResult::Accepting);
        }
    }
    assert_eq!(bench.ledger.held().leased, kept.len());
    for id in kept {
        assert_eq!(bench.verdict(ONE, id, ACK), VerdictResult::Accepting);
        assert_eq!(bench.verdict(ONE, id, ACK), VerdictResult::Unknown);
    }
    assert_eq!(bench.settled().len(), 20_000);
    assert!(bench.ledger.is_empty());
}
