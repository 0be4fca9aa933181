//! What keeps a connection from reading or writing for a while, when a fault wants it so. A value without I/O: the loop
//! that carries bytes asks it whether to read, and how many bytes may leave.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Micros;

/// A way not to behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hindrance {
    /// Nothing is read from the socket.
    NoReading,
    /// Nothing is written to it.
    NoWriting,
    /// Every byte leaves so much later than it would.
    Delay(Duration),
}

/// Those of one connection that last.
#[derive(Debug, Default)]
pub(crate) struct Hindrances {
    /// Nothing is read until then.
    no_reading: Option<Micros>,
    /// Nothing is written until then.
    no_writing: Option<Micros>,
    /// How late bytes leave, until then.
    delay: Option<(Duration, Micros)>,
    /// How many bytes may leave at which time, in order: those that the delay holds.
    held: VecDeque<(Micros, usize)>,
    /// How many bytes the delay has held long enough.
    released: usize,
    /// How many bytes the delay knows of: both of them.
    known: usize,
}

impl Hindrances {
    /// Begins one that lasts until then. One of the same kind is replaced.
    pub(crate) fn begin(&mut self, what: Hindrance, until: Micros) {
        match what {
            Hindrance::NoReading => self.no_reading = Some(until),
            Hindrance::NoWriting => self.no_writing = Some(until),
            Hindrance::Delay(by) => self.delay = Some((by, until)),
        }
    }

    /// Time has passed: what lasts no longer is gone.
    pub(crate) fn on_time(&mut self, now: Micros) {
        self.no_reading = self.no_reading.filter(|&until| now < until);
        self.no_writing = self.no_writing.filter(|&until| now < until);
        self.delay = self.delay.filter(|&(_, until)| now < until);
        if self.delay.is_none() {
            self.held.clear();
            (self.released, self.known) = (0, 0);
        }
        while let Some(&(_, count)) = self.held.front().filter(|(at, _)| *at <= now) {
            self.released += count;
            self.held.pop_front();
        }
    }

    pub(crate) fn may_read(&self) -> bool {
        self.no_reading.is_none()
    }

    pub(crate) fn may_write(&self) -> bool {
        self.no_writing.is_none()
    }

    /// How many of `waiting` bytes may leave now.
    pub(crate) fn may_leave(&mut self, waiting: usize, now: Micros) -> usize {
        self.on_time(now);
        let ready = match self.delay {
            None => waiting,
            Some((by, _)) => {
                if waiting > self.known {
                    // A delay that has become shorter lets nothing overtake.
                    let at = self.held.back().map_or(now, |(at, _)| *at).max(now.after(by));
                    self.held.push_back((at, waiting - self.known));
                    self.known = waiting;
                    self.on_time(now);
                }
                self.released.min(waiting)
            }
        };
        if self.may_write() { ready } else { 0 }
    }

    /// So many have left.
    pub(crate) fn left(&mut self, count: usize) {
        self.released = self.released.saturating_sub(count);
        self.known = self.known.saturating_sub(count);
    }

    /// When the answers change by themselves.
    pub(crate) fn deadline(&self) -> Micros {
        let ends = [self.no_reading, self.no_writing, self.delay.map(|(_, until)| until)];
        let release = self.held.front().map(|(at, _)| *at);
        ends.into_iter().flatten().chain(release).min().unwrap_or(Micros::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Micros {
        Micros::new(millis * 1_000)
    }

    #[test]
    fn without_a_hindrance_everything_may_leave_at_once() {
        let mut hindrances = Hindrances::default();
        assert!(hindrances.may_read());
        assert_eq!((hindrances.may_leave(7, at(0)), hindrances.deadline()), (7, Micros::NEVER));
    }

    #[test]
    fn reading_and_writing_are_hindered_apart_and_for_as_long_as_was_said() {
        let mut hindrances = Hindrances::default();
        hindrances.begin(Hindrance::NoReading, at(10));
        hindrances.begin(Hindrance::NoWriting, at(20));
        assert_eq!(hindrances.deadline(), at(10));
        hindrances.on_time(at(9));
        assert_eq!((hindrances.may_read(), hindrances.may_leave(7, at(9))), (false, 0));
        hindrances.on_time(at(10));
        assert_eq!((hindrances.may_read(), hindrances.may_leave(7, at(19))), (true, 0));
        assert_eq!(hindrances.deadline(), at(20));
        assert_eq!((hindrances.may_leave(7, at(20)), hindrances.deadline()), (7, Micros::NEVER));
    }

    #[test]
    fn each_byte_is_held_from_when_it_came() {
        let mut hindrances = Hindrances::default();
        hindrances.begin(Hindrance::Delay(Duration::from_millis(5)), at(100));
        assert_eq!((hindrances.may_leave(3, at(0)), hindrances.deadline()), (0, at(5)));
        assert_eq!(hindrances.may_leave(10, at(2)), 0);
        assert_eq!((hindrances.may_leave(10, at(5)), hindrances.deadline()), (3, at(7)));
        hindrances.left(2);
        assert_eq!(hindrances.may_leave(8, at(6)), 1);
        hindrances.left(1);
        assert_eq!((hindrances.may_leave(7, at(7)), hindrances.deadline()), (7, at(100)));
        hindrances.left(7);
        assert_eq!(hindrances.may_leave(4, at(99)), 0);
        assert_eq!(hindrances.may_leave(4, at(100)), 4, "what the delay held leaves when it ends");
    }
}
