//! The invariants of the ledger over random interleavings of all operations: small windows, few messages, several
//! links and streams, virtual time. A model of the world around the ledger (what the platform pushed, what applications
//! were given and said) judges every answer and every settlement; it shares no code with the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::repeat::RepeatPolicy;

/// What happens next. Indices are taken modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    LinkUp,
    LinkLost { link: usize },
    Offer { link: usize, content: u8, size: u32 },
    Lease { stream: u64, largest: u32 },
    Verdict { lease: usize, wrong_stream: bool, verdict: Verdict },
    StreamGone { stream: u64 },
    StreamBack { stream: u64, resume: bool },
    Advance { millis: u64 },
    Drain,
    SetPolicy { max_in_flight: u32, max_in_flight_bytes: u64, lease: u64 },
    HandBackAll,
}

/// Contents below this have a message ID: offering one again is a repeat.
const KEYED: u8 = 5;

fn step() -> impl Strategy<Value = Step> {
    let verdict = prop_oneof![
        3 => Just(Verdict::Ack),
        1 => Just(Verdict::Retry { delay: None }),
        1 => (0..30_000_u64).prop_map(|delay| Verdict::Retry { delay: Some(Duration::from_millis(delay)) }),
        1 => Just(Verdict::Retry { delay: Some(Duration::ZERO) }),
    ];
    prop_oneof![
        2 => Just(Step::LinkUp),
        2 => any::<usize>().prop_map(|link| Step::LinkLost { link }),
        14 => (any::<usize>(), 0..KEYED + 3, prop::sample::select(vec![0, 9, 20, 31, 60]))
            .prop_map(|(link, content, size)| Step::Offer { link, content, size }),
        12 => (0..3_u64, prop::sample::select(vec![u32::MAX, 60, 25, 10]))
            .prop_map(|(stream, largest)| Step::Lease { stream, largest }),
        10 => (any::<usize>(), prop::bool::weighted(0.1), verdict)
            .prop_map(|(lease, wrong_stream, verdict)| Step::Verdict { lease, wrong_stream, verdict }),
        2 => (0..3_u64).prop_map(|stream| Step::StreamGone { stream }),
        2 => (0..3_u64, any::<bool>()).prop_map(|(stream, resume)| Step::StreamBack { stream, resume }),
        8 => prop_oneof![3 => 0..2_000_u64, 2 => 0..10_000_u64, 1 => Just(25_000_u64)]
            .prop_map(|millis| Step::Advance { millis }),
        6 => Just(Step::Drain),
        1 => (1..6_u32, 20..200_u64, 15..26_u64).prop_map(|(max_in_flight, max_in_flight_bytes, lease)| {
            Step::SetPolicy { max_in_flight, max_in_flight_bytes, lease }
        }),
        1 => prop::bool::weighted(0.2).prop_map(|all| if all { Step::HandBackAll } else { Step::Drain }),
    ]
}

/// A delivery that the platform pushed.
#[derive(Debug)]
struct Pushed {
    item: Option<u32>,
    key: Option<u8>,
    deadline: Instant,
    live: bool,
    outcome: Option<Outcome>,
    /// Handing it back needs no further reason.
    may_go_back: bool,
}

/// A message that the ledger took in as new, named by a serial number that is the message itself.
#[derive(Debug)]
struct Taken {
    key: Option<u8>,
    size: u32,
    /// Those that hold its time.
    transfers: Vec<Transfer>,
    leases: u32,
    retry_at: Option<Instant>,
    late_ack: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lent {
    Out,
    Answered,
    EndedAt(Instant),
}

#[derive(Debug)]
struct Loan {
    stream: StreamId,
    item: u32,
    state: Lent,
}

struct World {
    now: Instant,
    policy: Policy,
    longest_useful: Duration,
    ledger: Ledger<u32>,
    links: Vec<LinkEpoch>,
    next_epoch: u64,
    next_delivery: u32,
    next_item: u32,
    pushed: BTreeMap<(u64, u32), Pushed>,
    taken: BTreeMap<u32, Taken>,
    loans: BTreeMap<LeaseId, Loan>,
    absent: BTreeMap<StreamId, Instant>,
    /// When a message was acked, or its lease ended if the ack came later.
    acked: BTreeMap<u8, Instant>,
    acked_items: BTreeSet<u32>,
    /// What the next drain must contain.
    expected: BTreeSet<(u64, u32)>,
}

fn name(transfer: Transfer) -> (u64, u32) {
    (transfer.epoch.0, transfer.delivery_id)
}

impl World {
    fn new(hand_back: HandBack) -> Self {
        let policy = Policy {
            max_in_flight: 4,
            max_in_flight_bytes: 120,
            hand_back,
            repeats: RepeatPolicy { window: Duration::from_mins(10), max_entries: 1_000 },
            ..Policy::default()
        };
        Self {
            now: Instant::now(),
            longest_useful: policy.useful_lease(),
            ledger: Ledger::new(policy.clone(), LeaseId(1)),
            policy,
            links: Vec::new(),
            next_epoch: 1,
            // About to wrap: it is a serial number.
            next_delivery: u32::MAX - 5,
            next_item: 0,
            pushed: BTreeMap::new(),
            taken: BTreeMap::new(),
            loans: BTreeMap::new(),
            absent: BTreeMap::new(),
            acked: BTreeMap::new(),
            acked_items: BTreeSet::new(),
            expected: BTreeSet::new(),
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::LinkUp => {
                let epoch = LinkEpoch(self.next_epoch);
                self.next_epoch += 1;
                self.links.push(epoch);
                self.ledger.link_up(epoch);
            }
            Step::LinkLost { link } => self.lose_link(link),
            Step::Offer { link, content, size } => self.offer(link, content, size),
            Step::Lease { stream, largest } => self.lease(StreamId(stream), largest),
            Step::Verdict { lease, wrong_stream, verdict } => self.verdict(lease, wrong_stream, verdict),
            Step::StreamGone { stream } => {
                self.ledger.stream_gone(self.now, StreamId(stream));
                self.absent.insert(StreamId(stream), self.now + self.policy.resume_grace);
            }
            Step::StreamBack { stream, resume } => self.stream_back(StreamId(stream), resume),
            Step::Advance { millis } => self.advance(Duration::from_millis(millis)),
            Step::Drain => self.drain(),
            Step::SetPolicy { max_in_flight, max_in_flight_bytes, lease } => {
                let lease = Duration::from_secs(lease);
                self.policy = Policy { lease, max_in_flight, max_in_flight_bytes, ..self.policy.clone() };
                self.longest_useful = self.longest_useful.max(self.policy.useful_lease());
                self.ledger.set_policy(self.policy.clone(), 0);
            }
            Step::HandBackAll => self.hand_back_all(),
        }
        let held = self.ledger.held();
        assert!(held.queued + held.leased <= held.messages);
        assert_eq!(held.leased, self.loans.values().filter(|loan| loan.state == Lent::Out).count());
        for stream in (0..3).map(StreamId) {
            assert_eq!(self.ledger.in_flight(stream), self.lent_to(stream));
        }
    }

    fn lose_link(&mut self, link: usize) {
        if self.links.is_empty() {
            return;
        }
        let epoch = self.links.remove(link % self.links.len());
        self.ledger.link_lost(self.now, epoch);
        for (_, pushed) in self.pushed.iter_mut().filter(|(name, _)| name.0 == epoch.0) {
            pushed.live = false;
        }
        // What no stream has loses these transfers; a lease keeps their time.
        let idle: Vec<_> = self.taken.keys().copied().filter(|item| !self.is_out(*item)).collect();
        for item in idle {
            self.keep_live(item);
        }
        self.expected.retain(|name| name.0 != epoch.0);
    }

    fn offer(&mut self, link: usize, content: u8, size: u32) {
        let up = !self.links.is_empty();
        // Without a link, the message comes from one that is gone.
        let epoch = if up { self.links[link % self.links.len()] } else { LinkEpoch(self.next_epoch - 1) };
        let transfer = Transfer { epoch, delivery_id: self.next_delivery };
        self.next_delivery = self.next_delivery.wrapping_add(1);
        let content = (content < KEYED).then_some(content);
        let key = content.map(|content| RepeatKey { identity: u64::from(content % 2), payload: u64::from(content) });
        self.drain();
        let before = self.ledger.held();
        let current = content.and_then(|content| self.in_hand_of(content));
        let offered = self.ledger.offer(self.now, transfer, key, size, self.next_item);
        if !up {
            assert_eq!(offered, Offered::StaleLink);
            return;
        }
        let mut pushed = Pushed {
            item: None,
            key: content,
            deadline: self.now + self.policy.lease,
            live: true,
            outcome: None,
            may_go_back: false,
        };
        match offered {
            Offered::Queued => {
                assert_eq!(current, None, "a second item of the same message");
                pushed.item = Some(self.next_item);
                let transfers = vec![transfer];
                let taken = Taken { key: content, size, transfers, leases: 0, retry_at: None, late_ack: false };
                self.taken.insert(self.next_item, taken);
                let held = self.ledger.held();
                assert!(held.messages <= self.policy.max_in_flight as usize, "{held:?}");
                assert!(held.messages == 1 || held.bytes <= self.policy.max_in_flight_bytes, "{held:?}");
                assert!(held.transfers <= (self.policy.max_in_flight as usize).max(before.transfers + 1));
            }
            Offered::Joined => {
                let item = current.expect("joins what is in hand");
                pushed.item = Some(item);
                self.taken.get_mut(&item).expect("taken").transfers.push(transfer);
            }
            Offered::Repeat => {
                assert!(content.is_some_and(|content| self.acked.contains_key(&content)), "a repeat of nothing acked");
                self.expected.insert(name(transfer));
            }
            Offered::Overflow => {
                let would_be = before.bytes + u64::from(size);
                assert!(before.messages > 0, "one is always admitted");
                assert!(
                    before.messages >= self.policy.max_in_flight as usize
                        || before.transfers >= self.policy.max_in_flight as usize
                        || would_be > self.policy.max_in_flight_bytes
                );
                pushed.may_go_back = true;
                self.expected.insert(name(transfer));
            }
            Offered::StaleLink => panic!("the link is up"),
        }
        let acked_at = content.and_then(|content| self.acked.get(&content)).copied();
        if current.is_none() && acked_at.is_some_and(|at| self.now < at + Duration::from_secs(590)) {
            assert_eq!(offered, Offered::Repeat, "acked, and not known any more");
        }
        self.next_item += 1;
        self.pushed.insert(name(transfer), pushed);
    }

    fn lease(&mut self, stream: StreamId, largest: u32) {
        let Some(lease) = self.ledger.lease(self.now, stream, largest) else {
            self.drain();
            let useful = self.policy.useful_lease();
            let missed = self.taken.iter().find(|(item, taken)| {
                taken.size <= largest
                    && !self.is_out(**item)
                    && taken.retry_at.is_none_or(|at| at <= self.now)
                    && self.open(taken).any(|pushed| pushed.deadline > self.now + useful)
            });
            assert!(missed.is_none(), "not lent: {missed:?}");
            return;
        };
        let (id, item, size) = (lease.id, *lease.message, lease.size);
        let (attempt, deadline, possible_repeat) = (lease.attempt, lease.deadline, lease.possible_repeat);
        assert!(size <= largest);
        assert!(!self.loans.contains_key(&id), "an ID used twice");
        assert!(!self.is_out(item), "lent to two streams");
        let ended = |loan: &Loan, key| {
            matches!(loan.state, Lent::EndedAt(_))
                && (loan.item == item || (self.taken[&loan.item].key == key && key.is_some()))
        };
        let key = self.taken[&item].key;
        assert!(!possible_repeat || self.loans.values().any(|loan| ended(loan, key) || loan.state == Lent::Answered));
        if self.loans.values().any(|loan| loan.item == item && ended(loan, key)) {
            assert!(possible_repeat);
        }
        let latest = self.open(&self.taken[&item]).map(|pushed| pushed.deadline).max().expect("live");
        assert_eq!(deadline, latest);
        assert!(deadline > self.now + self.policy.useful_lease());
        let taken = self.taken.get_mut(&item).expect("taken");
        taken.leases += 1;
        assert_eq!(attempt, taken.leases);
        assert!(taken.retry_at.is_none_or(|at| at <= self.now), "before its retry");
        taken.retry_at = None;
        self.loans.insert(id, Loan { stream, item, state: Lent::Out });
    }

    fn verdict(&mut self, lease: usize, wrong_stream: bool, verdict: Verdict) {
        self.drain();
        if self.loans.is_empty() {
            let result = self.ledger.verdict(self.now, StreamId(0), LeaseId(1), verdict);
            assert_eq!(result, VerdictResult::Unknown);
            return;
        }
        // One of the latest.
        let place = self.loans.len() - 1 - lease % self.loans.len().min(6);
        let (id, loan) = self.loans.iter().nth(place).map(|(id, loan)| (*id, loan)).expect("in range");
        let (stream, item, state) = (loan.stream, loan.item, loan.state);
        if wrong_stream {
            let result = self.ledger.verdict(self.now, StreamId(stream.0 + 10), id, verdict);
            assert_eq!(result, VerdictResult::Unknown);
            return;
        }
        let result = self.ledger.verdict(self.now, stream, id, verdict);
        match state {
            Lent::Answered => assert_eq!(result, VerdictResult::Unknown),
            Lent::EndedAt(at) => self.late_verdict(id, item, at, verdict, result),
            Lent::Out => self.timely_verdict(id, item, verdict, result),
        }
    }

    fn timely_verdict(&mut self, id: LeaseId, item: u32, verdict: Verdict, result: VerdictResult) {
        self.loans.get_mut(&id).expect("lent").state = Lent::Answered;
        let (leases, late_ack) = (self.taken[&item].leases, self.taken[&item].late_ack);
        let latest = self.open(&self.taken[&item]).map(|pushed| pushed.deadline).max();
        let is_ack = verdict == Verdict::Ack || late_ack;
        if is_ack {
            self.note_ack(item, self.now);
        }
        let Some(latest) = latest else {
            assert_eq!(result, VerdictResult::LinkLost);
            return;
        };
        let Verdict::Retry { delay } = verdict else {
            assert_eq!(result, VerdictResult::Accepting);
            self.expect_all(item);
            return;
        };
        if is_ack {
            assert_eq!(result, VerdictResult::Accepting);
            self.expect_all(item);
            return;
        }
        let backoff = (Duration::from_millis(200) * 2_u32.pow(leases - 1)).min(Duration::from_secs(5));
        let at = self.now + delay.unwrap_or(backoff);
        if at + self.policy.useful_lease() < latest {
            assert_eq!(result, VerdictResult::RetryScheduled);
            self.keep_live(item);
            self.taken.get_mut(&item).expect("taken").retry_at = Some(at);
        } else {
            assert_eq!(result, VerdictResult::HandingBack);
            self.allow_back(item);
            self.expect_all(item);
        }
    }

    fn late_verdict(&mut self, id: LeaseId, item: u32, ended: Instant, verdict: Verdict, result: VerdictResult) {
        if verdict != Verdict::Ack {
            assert!(result == VerdictResult::Expired || self.now >= ended + Duration::from_mins(10));
            return;
        }
        if result == VerdictResult::Unknown {
            assert!(self.now >= ended + Duration::from_mins(10), "forgotten too soon");
            return;
        }
        self.loans.get_mut(&id).expect("lent").state = Lent::Answered;
        let current = self.taken[&item].key.and_then(|key| self.in_hand_of(key));
        if self.taken[&item].key.is_some() {
            self.note_ack(item, ended);
        }
        match current {
            Some(current) if self.is_out(current) => {
                assert_eq!(result, VerdictResult::Expired);
                self.taken.get_mut(&current).expect("taken").late_ack = true;
            }
            Some(current) => {
                assert_eq!(result, VerdictResult::Accepting);
                self.note_ack(current, self.now);
                self.expect_all(current);
            }
            None => assert_eq!(result, VerdictResult::Expired),
        }
    }

    fn stream_back(&mut self, stream: StreamId, resume: bool) {
        let resumed = self.ledger.stream_back(self.now, stream, resume);
        let Some(until) = self.absent.remove(&stream) else {
            assert_eq!(resumed, InFlight::default());
            return;
        };
        if resume && self.now < until {
            assert_eq!(resumed, self.lent_to(stream));
        } else {
            assert_eq!(resumed, InFlight::default());
            self.end_loans(stream);
        }
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        let over: Vec<_> =
            self.absent.iter().filter(|(_, until)| **until <= self.now).map(|(stream, _)| *stream).collect();
        for stream in over {
            self.absent.remove(&stream);
            self.end_loans(stream);
        }
        let mut due: Vec<_> = self
            .loans
            .iter()
            .filter(|(_, loan)| loan.state == Lent::Out)
            .filter(|(_, loan)| {
                let transfers = &self.taken[&loan.item].transfers;
                transfers.iter().all(|transfer| self.pushed[&name(*transfer)].deadline <= self.now)
            })
            .map(|(id, loan)| (loan.stream, *id))
            .collect();
        let mut expired = Vec::new();
        self.ledger.tick(self.now, &mut expired);
        for (_, id) in &expired {
            self.loans.get_mut(id).expect("lent").state = Lent::EndedAt(self.now);
        }
        expired.sort_unstable();
        due.sort_unstable();
        assert_eq!(expired, due);
        assert!(self.ledger.next_deadline().is_none_or(|next| next > self.now), "a tick that leaves work");
        self.drain();
        let late = self
            .pushed
            .iter()
            .find(|(_, pushed)| pushed.live && pushed.outcome.is_none() && pushed.deadline <= self.now);
        assert!(late.is_none(), "left to the platform's timeout: {late:?}");
        let useful = self.policy.useful_lease();
        // After a change to a shorter lease, the present one may find useful what the former did not.
        let is_settled = useful == self.longest_useful;
        let stale = self.taken.iter().filter(|_| is_settled).find(|(item, taken)| {
            let latest = self.open(taken).map(|pushed| pushed.deadline).max();
            let is_queued = !self.is_out(**item) && taken.retry_at.is_none_or(|at| at <= self.now);
            is_queued && latest.is_some_and(|latest| latest <= self.now + useful)
        });
        assert!(stale.is_none(), "queued to no use: {stale:?}");
    }

    fn hand_back_all(&mut self) {
        self.drain();
        for loan in self.loans.values_mut().filter(|loan| loan.state == Lent::Out) {
            loan.state = Lent::EndedAt(self.now);
        }
        self.pushed.values_mut().for_each(|pushed| pushed.may_go_back = true);
        self.ledger.hand_back_all(self.now);
        self.absent.clear();
        self.drain();
        let open = self.pushed.iter().find(|(_, pushed)| pushed.live && pushed.outcome.is_none());
        assert!(open.is_none(), "kept back: {open:?}");
        assert!(self.ledger.is_empty());
        assert_eq!(self.ledger.held(), Held::default());
        assert_eq!(self.ledger.next_deadline(), None);
    }

    /// Judges every settlement, and then that the ledger holds what is open and nothing else.
    fn drain(&mut self) {
        let mut settlements = Vec::new();
        self.ledger.drain_settlements(&mut settlements);
        for Settlement { transfer, outcome } in settlements {
            let pushed = self.pushed.get_mut(&name(transfer)).expect("an outcome for what was never pushed");
            assert!(pushed.live, "an outcome after the link was lost");
            assert_eq!(pushed.outcome, None, "two outcomes for {transfer:?}");
            pushed.outcome = Some(outcome);
            let by_key = pushed.key.is_some_and(|key| self.acked.contains_key(&key));
            let was_acked = by_key || pushed.item.is_some_and(|item| self.acked_items.contains(&item));
            match outcome {
                Outcome::Accepted => assert!(was_acked, "accepted before it was acked: {transfer:?}"),
                Outcome::Released | Outcome::LeftToExpire => {
                    let is_release = self.policy.hand_back == HandBack::Release;
                    assert_eq!(outcome == Outcome::Released, is_release);
                    assert!(
                        pushed.may_go_back || pushed.deadline <= self.now + self.longest_useful,
                        "handed back for no reason: {transfer:?}"
                    );
                }
            }
            self.expected.remove(&name(transfer));
        }
        assert!(self.expected.is_empty(), "not told: {:?}", self.expected);
        let in_hand: Vec<&Taken> =
            self.taken.iter().filter(|(item, _)| self.is_in_hand(**item)).map(|(_, taken)| taken).collect();
        let held = self.ledger.held();
        assert_eq!(held.messages, in_hand.len());
        let transfers =
            in_hand.iter().flat_map(|taken| &taken.transfers).map(|transfer| &self.pushed[&name(*transfer)]);
        let kept = transfers.filter(|pushed| pushed.outcome.is_none() && (pushed.live || pushed.deadline > self.now));
        assert_eq!(held.transfers, kept.count());
        assert_eq!(held.bytes, in_hand.iter().map(|taken| u64::from(taken.size)).sum::<u64>());
    }

    fn end_loans(&mut self, stream: StreamId) {
        let ids: Vec<_> =
            self.loans.iter().filter(|(_, loan)| loan.stream == stream && loan.state == Lent::Out).collect();
        let ids: Vec<_> = ids.into_iter().map(|(id, loan)| (*id, loan.item)).collect();
        for (id, item) in ids {
            self.loans.get_mut(&id).expect("lent").state = Lent::EndedAt(self.now);
            self.keep_live(item);
            if self.taken[&item].late_ack {
                self.expect_all(item);
            }
        }
    }

    fn note_ack(&mut self, item: u32, at: Instant) {
        self.acked_items.insert(item);
        if let Some(key) = self.taken[&item].key {
            self.acked.insert(key, at);
        }
    }

    /// Every live transfer of the item must be told with the next drain.
    fn expect_all(&mut self, item: u32) {
        let open: Vec<_> = self.live_transfers(item).into_iter().map(name).collect();
        self.expected.extend(open);
    }

    fn allow_back(&mut self, item: u32) {
        for transfer in self.live_transfers(item) {
            self.pushed.get_mut(&name(transfer)).expect("pushed").may_go_back = true;
        }
    }

    fn keep_live(&mut self, item: u32) {
        let live = self.live_transfers(item);
        self.taken.get_mut(&item).expect("taken").transfers = live;
    }

    fn live_transfers(&self, item: u32) -> Vec<Transfer> {
        let transfers = self.taken[&item].transfers.iter().copied();
        transfers.filter(|transfer| is_open(&self.pushed[&name(*transfer)])).collect()
    }

    fn open<'a>(&'a self, taken: &'a Taken) -> impl Iterator<Item = &'a Pushed> {
        taken.transfers.iter().map(|transfer| &self.pushed[&name(*transfer)]).filter(|pushed| is_open(pushed))
    }

    fn lent_to(&self, stream: StreamId) -> InFlight {
        let sizes = self.loans.values().filter(|loan| loan.stream == stream && loan.state == Lent::Out);
        let sizes: Vec<_> = sizes.map(|loan| u64::from(self.taken[&loan.item].size)).collect();
        InFlight { messages: sizes.len(), bytes: sizes.iter().sum() }
    }

    fn is_out(&self, item: u32) -> bool {
        self.loans.values().any(|loan| loan.item == item && loan.state == Lent::Out)
    }

    fn is_in_hand(&self, item: u32) -> bool {
        self.is_out(item) || self.open(&self.taken[&item]).next().is_some()
    }

    fn in_hand_of(&self, key: u8) -> Option<u32> {
        self.taken.iter().find(|(item, taken)| taken.key == Some(key) && self.is_in_hand(**item)).map(|(item, _)| *item)
    }
}

fn is_open(pushed: &Pushed) -> bool {
    pushed.live && pushed.outcome.is_none()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_invariants_hold_in_every_interleaving(
        steps in prop::collection::vec(step(), 1..150),
        expire: bool,
    ) {
        let mut world = World::new(if expire { HandBack::Expire } else { HandBack::Release });
        world.run(&Step::LinkUp);
        for step in &steps {
            world.run(step);
        }
        world.hand_back_all();
    }
}
