//! The sidecar's seat at the platform: which client slots it holds, whether it wants any, and when it gives them back.
//! A state machine without I/O and without a clock; it can be cloned, compared and hashed, so that a model can be built of
//! many.
//!
//! Its owner tells it what happens ([`Seat::granted`], [`Seat::yield_up`], [`Seat::application`], …), follows its
//! [`Order`], and tells the broker its [`Standing`] whenever that changes. What holds in every interleaving:
//!
//! 1. There is never more than one grant in use, and none is held again once it has been given back.
//! 2. A grant is given back only after its links are closed.
//! 3. What an earlier stream says after a later one has been opened is not acted upon: by then the `Hello` of the later
//!    one has said what is held.

use std::time::Duration;

use super::time::Time;

/// A slot is kept for so long after the last application has gone: one that restarts finds it again, and one that is
/// away holds none.
pub const WANTED_FOR: Duration = Duration::from_secs(60);

/// The right to hold one connection for each of the slots.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Grant {
    /// Greater than that of any grant before.
    pub epoch: u64,
    /// The slots' indices.
    pub slots: Vec<u32>,
    /// How many connect attempts, for all of the slots together, may be made in any minute while no broker is heard.
    pub attempts_alone: u32,
}

/// What is to be done about links.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Order {
    /// There is no seat: no link may be up, and no attempt be made.
    #[default]
    Stay,
    /// A link for each slot may be up.
    Use(Grant),
    /// No new link and no more credit. What is in hand may be answered until then; then, or when nothing is in hand any
    /// more, the links are closed, and [`Seat::vacated`] is to be told.
    Leave {
        /// The grant that is to be left.
        epoch: u64,
        /// How long that may take.
        until: Time,
    },
}

/// What the broker is to know: the fields of `Report` of the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(clippy::struct_excessive_bools, reason = "as in the protocol")]
pub struct Standing {
    /// A slot is of use.
    pub wants_slot: bool,
    /// The grant that is held; 0 for none.
    pub held_epoch: u64,
    /// The last grant that was acted upon; 0 for none.
    pub seen_epoch: u64,
    /// It has given its slot to another, as it was told to, and has had none since.
    pub yielded: bool,
    /// It is about to end.
    pub draining: bool,
}

/// See the module's description.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Seat {
    /// The present stream; those before it count no more.
    stream: u64,
    held: Option<Holding>,
    /// A grant that came while another is still held. Not acted upon yet.
    next: Option<Grant>,
    seen: u64,
    yielded: bool,
    draining: bool,
    attached: bool,
    /// Until when a slot is wanted although no application is attached.
    wanted_until: Time,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Holding {
    grant: Grant,
    leaving: Option<Leaving>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Leaving {
    until: Time,
    /// The broker asked for it.
    yields: bool,
    /// The links are closed, and the platform is taken to know by then.
    over: Option<Time>,
}

impl Seat {
    /// Nothing is held, nothing is wanted.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new stream to the broker is about to be opened: returns its number, from 1. Its `Hello` must carry the
    /// [`Standing`] of this very moment, or of a later one.
    pub fn open_stream(&mut self) -> u64 {
        self.stream += 1;
        // The Hello says that it was not seen: the broker takes it back.
        self.next = None;
        self.stream
    }

    /// Whether an application is attached now.
    pub fn application(&mut self, at: Time, attached: bool) {
        if self.attached && !attached {
            self.wanted_until = at + WANTED_FOR;
        }
        self.attached = attached;
        self.tick(at);
    }

    /// The broker grants slots, or says again that it has.
    pub fn granted(&mut self, at: Time, stream: u64, grant: Grant) {
        // One that was seen is held, or was given back, and the broker hears that from the reports.
        if stream != self.stream || grant.epoch <= self.seen {
            return;
        }
        match &mut self.held {
            None => self.take(at, grant),
            Some(held) => {
                // The broker has taken the old one for given back: its links have no right to be.
                held.leave(at, false);
                self.next = Some(grant);
            }
        }
    }

    /// The broker asks for the slots of this grant, within `drain`.
    pub fn yield_up(&mut self, at: Time, stream: u64, epoch: u64, drain: Duration) {
        if stream == self.stream
            && let Some(held) = self.held.as_mut().filter(|held| held.grant.epoch == epoch)
        {
            held.leave(at + drain, true);
        }
    }

    /// No link of this grant is up any more and none is being set up, while the order was to leave it. The platform may
    /// take one of them for alive for `lingers` more: what is left of the idle time-out, if it has not confirmed the end.
    pub fn vacated(&mut self, at: Time, epoch: u64, lingers: Duration) {
        if let Some(Holding { grant, leaving: Some(leaving) }) = &mut self.held
            && grant.epoch == epoch
        {
            let over = leaving.over.get_or_insert(at + lingers);
            if *over <= at {
                self.give_back(at);
            }
        }
    }

    /// The process is about to end: it wants no slot any more.
    pub fn drain(&mut self) {
        self.draining = true;
        if let Some(held) = &mut self.held {
            // How long it may take is for the one who ends it to say.
            held.leave(Time::NEVER, false);
        }
    }

    /// Does what is due by the clock alone.
    pub fn tick(&mut self, at: Time) {
        let wanted = self.wants(at);
        if let Some(held) = &mut self.held {
            match held.leaving {
                None if !wanted => held.leave(at, false),
                Some(Leaving { over: Some(over), .. }) if over <= at => self.give_back(at),
                _ => {}
            }
        }
    }

    /// When [`Seat::tick`] is to be called next, if nothing else happens before. Past moments mean: at once.
    pub fn wake_at(&self) -> Option<Time> {
        match &self.held.as_ref()?.leaving {
            None => (!self.attached).then_some(self.wanted_until),
            Some(leaving) => leaving.over,
        }
    }

    /// What is to be done about links.
    pub fn order(&self) -> Order {
        match &self.held {
            None => Order::Stay,
            Some(Holding { grant, leaving: None }) => Order::Use(grant.clone()),
            Some(Holding { grant, leaving: Some(leaving) }) => {
                Order::Leave { epoch: grant.epoch, until: leaving.until }
            }
        }
    }

    /// What the broker is to know. Whether a slot is wanted changes with the clock: call [`Seat::tick`] before.
    pub fn standing(&self, at: Time) -> Standing {
        Standing {
            wants_slot: self.wants(at),
            held_epoch: self.held.as_ref().map_or(0, |held| held.grant.epoch),
            seen_epoch: self.seen,
            yielded: self.yielded,
            draining: self.draining,
        }
    }

    /// The grant that is held, in use or being left.
    pub fn held(&self) -> Option<&Grant> {
        self.held.as_ref().map(|held| &held.grant)
    }

    fn wants(&self, at: Time) -> bool {
        !self.draining && (self.attached || at < self.wanted_until)
    }

    fn take(&mut self, at: Time, grant: Grant) {
        self.seen = grant.epoch;
        self.yielded = false;
        // Else it is given back as soon as it is seen.
        if self.wants(at) {
            self.held = Some(Holding { grant, leaving: None });
        }
    }

    fn give_back(&mut self, at: Time) {
        if let Some(Holding { leaving: Some(leaving), .. }) = self.held.take() {
            self.yielded |= leaving.yields;
        }
        if let Some(next) = self.next.take() {
            self.take(at, next);
        }
    }
}

impl Holding {
    fn leave(&mut self, until: Time, yields: bool) {
        let leaving = self.leaving.get_or_insert(Leaving { until, yields, over: None });
        leaving.until = leaving.until.min(until);
        leaving.yields |= yields;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Time = Time(1_000_000);

    fn grant(epoch: u64) -> Grant {
        Grant { epoch, slots: vec![u32::try_from(epoch).unwrap() % 8], attempts_alone: 1 }
    }

    /// A seat with an application and one stream.
    fn attended() -> Seat {
        let mut seat = Seat::new();
        assert_eq!(seat.open_stream(), 1);
        seat.application(NOW, true);
        seat
    }

    #[test]
    fn a_grant_is_used_until_it_is_yielded_and_given_back_once_its_links_are_closed() {
        let mut seat = attended();
        seat.granted(NOW, 1, grant(5));
        assert_eq!(seat.order(), Order::Use(grant(5)));
        seat.yield_up(NOW, 1, 4, Duration::ZERO);
        assert_eq!(seat.order(), Order::Use(grant(5)), "another grant was meant");
        seat.yield_up(NOW, 1, 5, Duration::from_secs(7));
        assert_eq!(seat.order(), Order::Leave { epoch: 5, until: Time(1_007_000) });
        let leaving = seat.standing(NOW);
        assert_eq!((leaving.held_epoch, leaving.seen_epoch, leaving.yielded), (5, 5, false));
        seat.vacated(NOW, 5, Duration::ZERO);
        let left = seat.standing(NOW);
        assert_eq!((left.held_epoch, left.seen_epoch, left.yielded, left.wants_slot), (0, 5, true, true));
        seat.granted(NOW, 1, grant(5));
        assert_eq!(seat.order(), Order::Stay, "what was given back is not held again");
        seat.granted(NOW, 1, grant(9));
        assert_eq!((seat.order(), seat.standing(NOW).yielded), (Order::Use(grant(9)), false));
    }

    #[test]
    fn a_slot_that_nobody_wants_is_given_back_after_a_minute_and_none_is_taken() {
        let mut seat = attended();
        seat.granted(NOW, 1, grant(1));
        seat.application(NOW, false);
        assert_eq!(seat.wake_at(), Some(NOW + WANTED_FOR));
        seat.tick(Time(NOW.0 + 59_999));
        assert_eq!(seat.order(), Order::Use(grant(1)));
        let minute = NOW + WANTED_FOR;
        seat.tick(minute);
        assert_eq!(seat.order(), Order::Leave { epoch: 1, until: minute });
        seat.vacated(minute, 1, Duration::ZERO);
        assert_eq!(seat.standing(minute), Standing { seen_epoch: 1, ..Standing::default() });
        seat.granted(minute, 1, grant(2));
        assert_eq!(seat.standing(minute), Standing { seen_epoch: 2, ..Standing::default() }, "given back at once");
        assert_eq!(seat.order(), Order::Stay);
    }

    #[test]
    fn links_whose_end_the_platform_has_not_confirmed_keep_the_slot_for_a_while() {
        let mut seat = attended();
        seat.granted(NOW, 1, grant(1));
        seat.yield_up(NOW, 1, 1, Duration::ZERO);
        seat.vacated(NOW, 1, Duration::from_secs(60));
        assert_eq!((seat.standing(NOW).held_epoch, seat.wake_at()), (1, Some(NOW + Duration::from_secs(60))));
        // Told again with no word of it: the first time counts.
        seat.vacated(NOW, 1, Duration::ZERO);
        assert_eq!(seat.standing(NOW).held_epoch, 1);
        let over = NOW + Duration::from_secs(60);
        seat.tick(over);
        assert_eq!(seat.standing(over).held_epoch, 0);
    }

    #[test]
    fn a_newer_grant_waits_until_the_links_of_the_older_are_closed() {
        let mut seat = attended();
        seat.granted(NOW, 1, grant(1));
        seat.granted(NOW, 1, grant(2));
        assert_eq!(seat.order(), Order::Leave { epoch: 1, until: NOW });
        assert_eq!(seat.standing(NOW).seen_epoch, 1);
        seat.vacated(NOW, 1, Duration::ZERO);
        assert_eq!(seat.order(), Order::Use(grant(2)));

        seat.granted(NOW, 1, grant(3));
        seat.open_stream();
        seat.vacated(NOW, 2, Duration::ZERO);
        assert_eq!(seat.order(), Order::Stay, "the new stream's Hello said that grant 3 was not seen");
    }

    #[test]
    fn a_process_about_to_end_wants_nothing() {
        let mut seat = attended();
        seat.granted(NOW, 1, grant(1));
        seat.drain();
        assert!(matches!(seat.order(), Order::Leave { epoch: 1, .. }));
        assert_eq!(
            seat.standing(NOW),
            Standing { held_epoch: 1, seen_epoch: 1, draining: true, ..Standing::default() }
        );
        seat.vacated(NOW, 1, Duration::ZERO);
        seat.granted(NOW, 1, grant(2));
        assert_eq!(seat.order(), Order::Stay);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Open,
        Attach(bool),
        Grant { stream: u64, epoch: u64 },
        Yield { stream: u64, epoch: u64 },
        Links(bool),
        Drain,
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => Just(Step::Open),
            2 => any::<bool>().prop_map(Step::Attach),
            4 => (0_u64..2, 1_u64..20).prop_map(|(stream, epoch)| Step::Grant { stream, epoch }),
            2 => (0_u64..2, 1_u64..20).prop_map(|(stream, epoch)| Step::Yield { stream, epoch }),
            6 => any::<bool>().prop_map(Step::Links),
            1 => Just(Step::Drain),
            2 => (0_u64..100_000).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn what_the_broker_is_told_is_never_less_than_what_is_up(steps in prop::collection::vec(step(), 1..80)) {
            let mut seat = Seat::new();
            let mut at = NOW;
            let mut stream = seat.open_stream();
            // The grant whose links are up; the owner opens and closes them as it is ordered.
            let mut up: Option<u64> = None;
            let mut given_back: Vec<u64> = Vec::new();
            for step in steps {
                let before = seat.standing(at);
                match step {
                    Step::Open => stream = seat.open_stream(),
                    Step::Attach(attached) => seat.application(at, attached),
                    // Stream 0 stands for an older one.
                    Step::Grant { stream: which, epoch } => seat.granted(at, stream - (1 - which), grant(epoch)),
                    Step::Yield { stream: which, epoch } => {
                        seat.yield_up(at, stream - (1 - which), epoch, Duration::from_secs(5));
                    }
                    Step::Links(open) => match seat.order() {
                        Order::Use(grant) if open => {
                            prop_assert!(up.is_none() || up == Some(grant.epoch));
                            up = Some(grant.epoch);
                        }
                        Order::Use(grant) => {
                            up = None;
                            seat.vacated(at, grant.epoch, Duration::ZERO);
                        }
                        Order::Leave { epoch, .. } => {
                            prop_assert!(up.is_none() || up == Some(epoch));
                            up = None;
                            seat.vacated(at, epoch, Duration::from_secs(u64::from(open)));
                        }
                        Order::Stay => prop_assert_eq!(up, None),
                    },
                    Step::Drain => seat.drain(),
                    Step::Pass(ms) => {
                        at = Time(at.0 + ms);
                        seat.tick(at);
                    }
                }
                let now = seat.standing(at);
                if let Some(epoch) = up {
                    prop_assert_eq!(now.held_epoch, epoch, "links are up and the broker is told that nothing is held");
                }
                prop_assert!(now.seen_epoch >= before.seen_epoch && now.held_epoch <= now.seen_epoch);
                if before.held_epoch != 0 && now.held_epoch != before.held_epoch {
                    given_back.push(before.held_epoch);
                }
                prop_assert!(!given_back.contains(&now.held_epoch), "held again after it was given back");
                prop_assert!(!now.yielded || now.held_epoch == 0);
            }
        }
    }
}
