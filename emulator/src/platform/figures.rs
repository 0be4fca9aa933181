//! What the platform's own API shows of a group (PLATFORM.md 4, `QueryConsumerGroupStatus`): its backlog, its clients,
//! and how many messages were consumed in the last minute. Consumed is what was accepted.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::client::Lane;
use crate::clock::Micros;

/// The length of "per minute", in the seconds that are kept apart.
const SECONDS: u64 = 60;

/// Messages consumed per minute, by the queue they came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Speed {
    /// From the real-time queue.
    pub real_time: u64,
    /// From the backlog.
    pub accumulated: u64,
}

impl Speed {
    /// Both together.
    #[must_use]
    pub fn total(self) -> u64 {
        self.real_time + self.accumulated
    }
}

/// One client, as the platform lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFigures {
    /// Its client ID.
    pub client_id: String,
    /// Where it connects from.
    pub address: SocketAddr,
    /// Since when it is connected, in Unix ms.
    pub online_unix_ms: u64,
    /// What it has consumed in the last minute.
    pub speed: Speed,
}

/// One group, as the platform shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Messages in the backlog.
    pub backlog: u64,
    /// What all clients together have consumed in the last minute, those included that are gone.
    pub speed: Speed,
    /// When a message was consumed last, in Unix ms.
    pub last_consumed_unix_ms: Option<u64>,
    /// The open connections.
    pub clients: Vec<ClientFigures>,
}

/// Counts what is consumed, second by second, for as long as a minute.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// The second, and what was consumed in it. Only seconds in which something was.
    seconds: VecDeque<(u64, Speed)>,
}

impl Meter {
    pub(super) fn add(&mut self, lane: Lane, now: Micros) {
        let second = now.get() / 1_000_000;
        while self.seconds.front().is_some_and(|(at, _)| at + SECONDS <= second) {
            self.seconds.pop_front();
        }
        if self.seconds.back().is_none_or(|(at, _)| *at != second) {
            self.seconds.push_back((second, Speed::default()));
        }
        if let Some((_, speed)) = self.seconds.back_mut() {
            match lane {
                Lane::RealTime => speed.real_time += 1,
                Lane::Backlog => speed.accumulated += 1,
            }
        }
    }

    pub(super) fn per_minute(&self, now: Micros) -> Speed {
        let second = now.get() / 1_000_000;
        let recent = self.seconds.iter().filter(|(at, _)| at + SECONDS > second);
        recent.fold(Speed::default(), |sum, (_, speed)| Speed {
            real_time: sum.real_time + speed.real_time,
            accumulated: sum.accumulated + speed.accumulated,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_meter_knows_the_last_sixty_seconds_and_stays_small(
            steps in prop::collection::vec((0..20_000_000_u64, any::<bool>()), 0..200),
        ) {
            let (mut meter, mut now, mut history) = (Meter::default(), 0, Vec::new());
            for (step, real_time) in steps {
                now += step;
                meter.add(if real_time { Lane::RealTime } else { Lane::Backlog }, Micros::new(now));
                history.push((now / 1_000_000, real_time));
                let within = |lane| {
                    history.iter().filter(|(at, real)| at + SECONDS > now / 1_000_000 && *real == lane).count() as u64
                };
                let expected = Speed { real_time: within(true), accumulated: within(false) };
                prop_assert_eq!(meter.per_minute(Micros::new(now)), expected);
                prop_assert!(meter.seconds.len() <= 60);
            }
            prop_assert_eq!(meter.per_minute(Micros::new(now + 61_000_000)), Speed::default());
        }
    }
}
