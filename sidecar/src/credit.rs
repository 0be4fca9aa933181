//! How much credit the link gets: no more than the application takes in good time, and than the ledger has room for.
//! Four questions, each answered by arithmetic alone: how large messages are ([`SizeEstimate`]), how many more there is
//! room for ([`window`]), whether to tell the peer so ([`grant`]), and how many the application gets through before
//! they grow old ([`RateWindow`]).

use std::time::{Duration, Instant};

use crate::ledger::Held;

/// The largest payload that a device can publish, over MQTT (PLATFORM.md 1.8).
const LARGEST_PUBLISH: u32 = 256 * 1024;

/// The size that nearly all messages stay below, from the sizes of late: a histogram with four steps to each power of
/// two, whose counts are halved now and then. It starts with the largest that a device can publish.
#[derive(Debug, Clone)]
pub struct SizeEstimate {
    counts: [u16; STEPS],
    /// Sum of `counts`.
    total: u32,
    /// Messages until the estimate is made anew.
    until_next: u32,
    estimate: u32,
}

const STEPS: usize = 128;

/// The estimate is made anew after so many messages.
const EVERY: u32 = 64;

/// The histogram remembers between this many messages and half of it.
const MEMORY: u32 = 2048;

/// At most one message in this many is larger than the estimate.
const LARGER_ONE_IN: u32 = 64;

impl SizeEstimate {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self { counts: [0; STEPS], total: 0, until_next: EVERY, estimate: LARGEST_PUBLISH }
    }

    /// Takes note of the size of a message, in bytes.
    pub fn observe(&mut self, size: u32) {
        self.counts[step(size)] += 1;
        self.total += 1;
        self.until_next -= 1;
        if self.until_next == 0 {
            self.until_next = EVERY;
            self.renew();
        }
    }

    /// The estimate in bytes, at least 1.
    pub fn get(&self) -> u32 {
        self.estimate
    }

    fn renew(&mut self) {
        let mut larger = 0;
        let mut place = STEPS - 1;
        while place > 0 && (larger + u32::from(self.counts[place])) * LARGER_ONE_IN <= self.total {
            larger += u32::from(self.counts[place]);
            place -= 1;
        }
        self.estimate = upper_bound(place).max(1);
        if self.total >= MEMORY {
            self.total = 0;
            for count in &mut self.counts {
                *count /= 2;
                self.total += u32::from(*count);
            }
        }
    }
}

impl Default for SizeEstimate {
    fn default() -> Self {
        Self::new()
    }
}

/// The step that a size falls into: sizes below 4 have their own, then every power of two has four.
fn step(size: u32) -> usize {
    match size.checked_ilog2() {
        Some(power) if power >= 2 => (power as usize - 1) * 4 + ((size >> (power - 2)) & 3) as usize,
        _ => size as usize,
    }
}

/// The largest size in a step.
fn upper_bound(step: usize) -> u32 {
    let power = step / 4;
    if power == 0 {
        return u32::try_from(step).unwrap_or(u32::MAX);
    }
    let quarter = u64::try_from(step % 4).unwrap_or(3);
    u32::try_from(((quarter + 5) << (power - 1)) - 1).unwrap_or(u32::MAX)
}

/// How many more messages there is room for: `free_messages` by count, `free_bytes` at `size_estimate` bytes each. One
/// is always admitted when nothing is held, however large it may be.
pub fn window(free_messages: u32, free_bytes: u64, size_estimate: u32, nothing_held: bool) -> u32 {
    let by_bytes = u32::try_from(free_bytes / u64::from(size_estimate.max(1))).unwrap_or(u32::MAX);
    free_messages.min(by_bytes).max(u32::from(nothing_held))
}

/// The credit to give the peer now, if that is worth a frame: all of `window_now`, which is what there is room for.
///
/// `outstanding` is what it has left of the credit it was given, `full_window` what it could have if nothing were held.
/// Credit is given anew once a quarter of the full window has become free, or once the peer has no more than half of
/// what it could have: without the latter, slow messages that hold most of the window would starve it. It is never
/// lowered.
pub fn grant(window_now: u32, outstanding: u32, full_window: u32) -> Option<u32> {
    let more = window_now.checked_sub(outstanding).filter(|more| *more > 0)?;
    (more >= (full_window / 4).max(1) || outstanding <= more).then_some(window_now)
}

/// The window that the application's own rate allows: so many messages that the last of them is answered within half a
/// lease. It grows fast while the application keeps up, and shrinks only on the evidence of messages that had to wait.
#[derive(Debug, Clone)]
pub struct RateWindow {
    most: u32,
    half_lease: Duration,
    window: u32,
    /// When the window was last changed, or last found to be too small to tell anything.
    since: Option<Instant>,
    /// Acks since then.
    acked: u32,
    slice: Slice,
    /// Acks in the latest slices in which messages waited throughout, and how long each was.
    busy: [(u32, Duration); SLICES],
    next_busy: usize,
}

/// What was seen in a slice of time.
#[derive(Debug, Clone, Copy)]
struct Slice {
    start: Option<Instant>,
    acked: u32,
    /// Something was queued at every observation.
    always_waiting: bool,
    /// Nothing was queued at any observation.
    never_waiting: bool,
    /// At some observation most of the window was held.
    was_full: bool,
}

impl Slice {
    const fn starting(start: Option<Instant>) -> Self {
        Self { start, acked: 0, always_waiting: true, never_waiting: true, was_full: false }
    }
}

/// Half a lease is measured in so many slices.
const SLICES: usize = 8;

/// The window before anything is known.
const FIRST_WINDOW: u32 = 64;

impl RateWindow {
    /// A window of at most `most` messages, for a lease of this length.
    pub fn new(most: u32, lease: Duration) -> Self {
        Self {
            most: most.max(1),
            half_lease: lease / 2,
            window: FIRST_WINDOW.min(most.max(1)),
            since: None,
            acked: 0,
            slice: Slice::starting(None),
            busy: [(0, Duration::ZERO); SLICES],
            next_busy: 0,
        }
    }

    /// Changes the bounds.
    pub fn set_limits(&mut self, most: u32, lease: Duration) {
        self.most = most.max(1);
        self.half_lease = lease / 2;
        self.window = self.window.min(self.most);
    }

    /// The window in messages, from 1 to the most.
    pub fn get(&self) -> u32 {
        self.window
    }

    /// Takes note of `acked` messages answered since the last call, and of what the ledger holds now that the streams
    /// have taken what they can. Call it after every batch of verdicts, and at least once a second while anything is
    /// held.
    pub fn observe(&mut self, now: Instant, acked: u32, held: &Held) {
        self.acked = self.acked.saturating_add(acked);
        self.slice.acked = self.slice.acked.saturating_add(acked);
        self.slice.always_waiting &= held.queued > 0;
        self.slice.never_waiting &= held.queued == 0;
        self.slice.was_full |= held.messages as u64 * 4 >= u64::from(self.window) * 3;

        // A window's worth in a quarter of the lease: twice as much is answered in half of it. One more than that, as
        // counting may have begun just before an answer.
        let since = *self.since.get_or_insert(now);
        if self.acked > self.window {
            if now.saturating_duration_since(since) <= self.half_lease / 2 {
                self.grow();
            }
            self.acked = 0;
            self.since = Some(now);
        }

        let start = *self.slice.start.get_or_insert(now);
        let length = self.half_lease / u32::try_from(SLICES).unwrap_or(1);
        let elapsed = now.saturating_duration_since(start);
        if elapsed >= length {
            let slice = std::mem::replace(&mut self.slice, Slice::starting(Some(now)));
            if slice.always_waiting {
                self.shrink(slice.acked, elapsed);
            } else if slice.never_waiting && slice.was_full {
                // Nothing had to wait, and the window may be what keeps more from coming.
                self.grow();
            }
        }
    }

    fn grow(&mut self) {
        self.window = self.window.saturating_mul(2).min(self.most);
    }

    /// Brings the window down to what was answered in half a lease, going by the slices in which there was always
    /// something to answer.
    fn shrink(&mut self, acked: u32, elapsed: Duration) {
        self.busy[self.next_busy] = (acked, elapsed);
        self.next_busy = (self.next_busy + 1) % SLICES;
        let acked: u128 = self.busy.iter().map(|(acked, _)| u128::from(*acked)).sum();
        let elapsed: Duration = self.busy.iter().map(|(_, elapsed)| *elapsed).sum();
        let in_half_lease = acked * self.half_lease.as_nanos() / elapsed.as_nanos().max(1);
        let capacity = u32::try_from(in_half_lease).unwrap_or(u32::MAX);
        if capacity < self.window {
            self.window = capacity.max(1);
            self.acked = 0;
            self.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEASE: Duration = Duration::from_secs(25);

    #[test]
    fn an_unknown_size_is_the_largest_that_a_device_can_publish() {
        assert_eq!(SizeEstimate::new().get(), 262_144);
    }

    #[test]
    fn the_size_estimate_follows_the_sizes_within_a_few_messages() {
        let mut estimate = SizeEstimate::new();
        (0..64).for_each(|_| estimate.observe(256));
        assert!((256..320).contains(&estimate.get()), "{}", estimate.get());
        (0..64).for_each(|_| estimate.observe(100_000));
        assert!((100_000..125_000).contains(&estimate.get()), "{}", estimate.get());
        (0..4 * MEMORY).for_each(|_| estimate.observe(1));
        assert!(estimate.get() < 8, "{}", estimate.get());
    }

    #[test]
    fn the_size_estimate_is_above_most_sizes_but_not_ruled_by_a_rare_one() {
        let mut estimate = SizeEstimate::new();
        for number in 0..10_000_u32 {
            estimate.observe(match number % 100 {
                0 => 200_000,
                1..10 => 4_000,
                _ => 100,
            });
        }
        assert!((4_000..5_200).contains(&estimate.get()), "{}", estimate.get());
    }

    proptest! {
        #[test]
        fn a_size_lies_in_its_step(size: u32) {
            let step = step(size);
            prop_assert!(step < STEPS);
            prop_assert!(size <= upper_bound(step));
            prop_assert!(step == 0 || size > upper_bound(step - 1));
        }

        #[test]
        fn credit_is_never_lowered_and_never_above_the_room(now in 0..2_000_u32, left in 0..2_000_u32, full in 1..2_000_u32) {
            if let Some(credit) = grant(now, left, full) {
                prop_assert!(credit > left && credit <= now);
            } else {
                prop_assert!(now <= left || (left > 0 && now - left < (full / 4).max(1)));
            }
        }

        #[test]
        fn a_peer_that_has_used_its_credit_gets_what_room_there_is(now in 1..2_000_u32, full in 1..2_000_u32) {
            prop_assert_eq!(grant(now, 0, full), Some(now));
        }
    }

    #[test]
    fn credit_is_given_for_a_quarter_of_the_window_not_for_every_message() {
        assert_eq!(grant(1_000, 1_000, 1_000), None);
        assert_eq!(grant(1_000, 751, 1_000), None);
        assert_eq!(grant(1_000, 750, 1_000), Some(1_000));
    }

    #[test]
    fn slow_messages_that_hold_most_of_the_window_do_not_starve_the_peer() {
        assert_eq!(grant(100, 51, 1_000), None);
        assert_eq!(grant(100, 50, 1_000), Some(100));
        assert_eq!(grant(1, 0, 1_000), Some(1));
    }

    #[test]
    fn the_window_is_bounded_by_messages_and_by_bytes() {
        assert_eq!(window(1_000, 1 << 20, 256, false), 1_000);
        assert_eq!(window(1_000, 1 << 20, 4_096, false), 256);
        assert_eq!(window(0, 1 << 20, 1, false), 0);
        assert_eq!(window(1_000, 100, 256, false), 0);
    }

    #[test]
    fn one_message_is_admitted_when_nothing_is_held_however_large() {
        assert_eq!(window(1_000, 100, 256, true), 1);
    }

    /// An application that answers `concurrency` messages at a time, each after `work`, under a peer that always fills
    /// the window. Runs for `time` and returns the window.
    fn run(window: &mut RateWindow, now: &mut Instant, concurrency: usize, work: Duration, time: Duration) -> u32 {
        let mut at_work = std::collections::VecDeque::new();
        let end = *now + time;
        let mut held = 0;
        let mut acked = 0;
        while *now < end {
            held = held.max(window.get() as usize);
            while at_work.len() < concurrency.min(held) {
                at_work.push_back(*now + work);
            }
            let queued = held - at_work.len();
            let view = Held { messages: held, queued, leased: at_work.len(), ..Held::default() };
            window.observe(*now, acked, &view);
            acked = 0;
            *now = at_work.front().copied().unwrap_or(end).min(*now + Duration::from_millis(500));
            while at_work.front().is_some_and(|done| *done <= *now) {
                at_work.pop_front();
                held -= 1;
                acked += 1;
            }
        }
        window.get()
    }

    #[test]
    fn an_application_that_keeps_up_has_the_whole_window_at_once() {
        let mut now = Instant::now();
        let mut window = RateWindow::new(1_000, LEASE);
        let got = run(&mut window, &mut now, 8, Duration::from_millis(10), Duration::from_secs(3));
        assert_eq!(got, 1_000);
        let mut window = RateWindow::new(100_000, LEASE);
        let got = run(&mut window, &mut now, 64, Duration::from_micros(64), Duration::from_millis(200));
        assert_eq!(got, 100_000);
    }

    #[test]
    fn nothing_waits_longer_than_half_the_lease_for_a_slow_application() {
        for (concurrency, work) in [(1, 2_000), (1, 300), (4, 1_000), (10, 5_000)] {
            let mut now = Instant::now();
            let mut window = RateWindow::new(1_000, LEASE);
            let work = Duration::from_millis(work);
            let got = run(&mut window, &mut now, concurrency, work, Duration::from_mins(2));
            let wait = work * got / u32::try_from(concurrency).expect("small");
            assert!(wait <= LEASE / 2 + work, "{concurrency} at {work:?}: {got}, the last waits {wait:?}");
            assert!(got as usize >= concurrency, "{concurrency} at {work:?}: {got}");
        }
    }

    #[test]
    fn an_application_that_recovers_has_its_window_again() {
        let mut now = Instant::now();
        let mut window = RateWindow::new(1_000, LEASE);
        let slow = run(&mut window, &mut now, 1, Duration::from_secs(3), Duration::from_mins(1));
        assert!(slow <= 5, "{slow}");
        let fast = run(&mut window, &mut now, 8, Duration::from_millis(5), Duration::from_secs(10));
        assert_eq!(fast, 1_000);
    }

    #[test]
    fn an_idle_application_is_no_slow_one() {
        let mut now = Instant::now();
        let mut window = RateWindow::new(1_000, LEASE);
        run(&mut window, &mut now, 8, Duration::from_millis(10), Duration::from_secs(3));
        for _ in 0..100 {
            now += Duration::from_secs(1);
            window.observe(now, 0, &Held::default());
        }
        assert_eq!(window.get(), 1_000);
    }
}
