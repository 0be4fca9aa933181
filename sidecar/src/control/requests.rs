//! The permits that were asked for and have not come. Pure.
//!
//! A permit is of use for [`WRITTEN_WITHIN`] from the moment of asking, by the sidecar's own clock: an attempt that has not
//! been written by then is given up, and what is written last has a second to get there. So whatever pause the broker or
//! this process suffers, the platform sees an attempt at most [`LAPSE`] after its permit was entered in the broker's log.

use std::time::Duration;

use super::time::Time;

/// By when an attempt has reached the platform, from the moment at which its permit was asked for.
pub const LAPSE: Duration = Duration::from_secs(5);

/// By when it is written, or given up.
pub const WRITTEN_WITHIN: Duration = Duration::from_secs(4);

/// One that has not been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Open {
    id: u64,
    slot: u32,
    sent: Time,
}

/// See the module's description.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Requests {
    last: u64,
    open: Vec<Open>,
}

impl Requests {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a slot's permit: returns the request's number, from 1, to be sent at once. An earlier request for the same
    /// slot counts no more.
    pub fn ask(&mut self, at: Time, slot: u32) -> u64 {
        self.open.retain(|open| open.slot != slot);
        self.last += 1;
        self.open.push(Open { id: self.last, slot, sent: at });
        self.last
    }

    /// An answer has come, be it yes or no: the slot it is for, and until when an attempt may be written. `None` if
    /// it was not asked for, or comes too late: the request is left to lapse.
    pub fn answered(&mut self, at: Time, id: u64) -> Option<(u32, Time)> {
        let place = self.open.iter().position(|open| open.id == id && at < open.sent + WRITTEN_WITHIN)?;
        let open = self.open.swap_remove(place);
        Some((open.slot, open.sent + WRITTEN_WITHIN))
    }

    /// The slots whose requests were not answered in time; they count no more.
    pub fn lapsed(&mut self, at: Time) -> Vec<u32> {
        let over = |open: &Open| open.sent + WRITTEN_WITHIN <= at;
        let lapsed = self.open.iter().filter(|open| over(open)).map(|open| open.slot).collect();
        self.open.retain(|open| !over(open));
        lapsed
    }

    /// The stream on which they were sent is gone: what it may still say counts no more. Returns their slots.
    pub fn clear(&mut self) -> Vec<u32> {
        self.open.drain(..).map(|open| open.slot).collect()
    }

    /// When the first of them lapses.
    pub fn wake_at(&self) -> Option<Time> {
        self.open.iter().map(|open| open.sent + WRITTEN_WITHIN).min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_permit_is_of_use_for_four_seconds_from_the_asking() {
        let mut requests = Requests::new();
        let (first, second) = (requests.ask(Time(0), 1), requests.ask(Time(1_000), 2));
        assert_eq!((first, second, requests.wake_at()), (1, 2, Some(Time(4_000))));
        assert_eq!(requests.answered(Time(3_999), first), Some((1, Time(4_000))));
        assert_eq!(requests.answered(Time(3_999), first), None, "one answer is enough");
        assert_eq!(requests.answered(Time(5_000), second), None);
        let third = requests.ask(Time(7_000), 2);
        assert_eq!(requests.lapsed(Time(11_000)), [2]);
        assert_eq!(requests.answered(Time(11_000), third), None);
    }

    #[test]
    fn a_request_whose_answer_is_heard_too_late_lapses_as_one_without() {
        let mut requests = Requests::new();
        let id = requests.ask(Time(0), 1);
        // A process that stood still finds the answer and the end of its time together.
        assert_eq!(requests.answered(Time(4_000), id), None);
        assert_eq!(requests.lapsed(Time(4_000)), [1]);
    }

    proptest! {
        #[test]
        fn no_answer_leads_to_more_than_one_attempt_and_none_to_a_late_one(
            steps in prop::collection::vec((0_u8..4, 0_u64..6, 0_u32..3, 0_u64..4_000), 1..60),
        ) {
            let mut requests = Requests::new();
            let mut at = Time(0);
            let mut sent = std::collections::HashMap::new();
            for (what, id, slot, ms) in steps {
                at = Time(at.0 + ms);
                match what {
                    0 => {
                        let id = requests.ask(at, slot);
                        prop_assert!(sent.insert(id, (slot, at)).is_none(), "a number is used once");
                    }
                    1 => {
                        requests.clear();
                        sent.clear();
                    }
                    2 => prop_assert!(requests.lapsed(at).len() <= sent.len()),
                    _ => if let Some((slot, until)) = requests.answered(at, id) {
                        let (asked, asked_at) = sent.remove(&id).expect("it was asked for, and not answered yet");
                        prop_assert_eq!(asked, slot);
                        prop_assert!(at < until && until == asked_at + WRITTEN_WITHIN);
                    },
                }
            }
        }
    }
}
