//! What a crowd of devices is to do.

use std::time::Duration;

use super::kind::Weights;

/// Messages that come all at once, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Burst {
    /// The time from one to the next, and from the start to the first.
    pub(crate) every: Duration,
    /// How many messages, besides those of the rate.
    pub(crate) messages: u32,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The consumer group they publish to; those that their topics' subscriptions name when `None`.
    pub(crate) group: Option<String>,
    /// The product key they have.
    pub(crate) product_key: String,
    /// Messages per second, all devices together.
    pub(crate) rate: u32,
    /// What comes on top of the rate.
    pub(crate) burst: Option<Burst>,
    /// How many devices there are; at least one.
    pub(crate) devices: u32,
    /// How many of them are gateways: the first ones. The others are their sub-devices, or will be.
    pub(crate) gateways: u32,
    /// How often they say what.
    pub(crate) kinds: Weights,
    /// The size property posts are filled up to, in bytes; what they come to by themselves when it is less.
    pub(crate) payload_bytes: usize,
    /// How many payloads of a million are rubbish.
    pub(crate) rubbish_per_million: u32,
    /// By how many later ones a status message may be overtaken.
    pub(crate) disorder: u32,
    /// How long a device takes to answer; what it likes, a fraction of a second, when `None`.
    pub(crate) answer_after: Option<Duration>,
    /// How long they speak; until they are stopped when `None`.
    pub(crate) duration: Option<Duration>,
    /// Decides what they say.
    pub(crate) seed: u64,
}

impl Plan {
    /// A crowd that publishes evenly, of four kinds.
    pub(crate) fn new(product_key: &str, rate: u32, devices: u32, seed: u64) -> Self {
        Self {
            group: None,
            product_key: product_key.to_owned(),
            rate,
            burst: None,
            devices,
            gateways: 0,
            kinds: Weights::default(),
            payload_bytes: 0,
            rubbish_per_million: 0,
            disorder: 0,
            answer_after: None,
            duration: None,
            seed,
        }
    }

    /// How many messages are due when this much time has passed.
    pub(crate) fn due(&self, elapsed: Duration) -> u64 {
        let spoken = self.duration.map_or(elapsed, |duration| elapsed.min(duration)).as_micros();
        let even = spoken * u128::from(self.rate) / 1_000_000;
        let bursts = self.burst.map_or(0, |burst| spoken / burst.every.as_micros().max(1) * u128::from(burst.messages));
        u64::try_from(even.saturating_add(bursts)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_bursts_add_up_and_end_with_the_time() {
        let burst = Some(Burst { every: Duration::from_secs(2), messages: 1_000 });
        let plan = Plan { burst, duration: Some(Duration::from_secs(5)), ..Plan::new("pk", 10, 1, 1) };
        for (millis, due) in
            [(0, 0), (1_999, 19), (2_000, 1_020), (3_999, 1_039), (4_000, 2_040), (5_000, 2_050), (9_000, 2_050)]
        {
            assert_eq!(plan.due(Duration::from_millis(millis)), due, "{millis}");
        }
    }
}
