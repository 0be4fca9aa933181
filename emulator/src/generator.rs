//! Runs the devices: publishes at an even rate, for a time or until it is told to stop. One crowd at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::info;

use crate::devices::Devices;
use crate::hub::Hub;
use crate::platform::UnknownGroup;

/// How often the devices speak. What has become due since is published together.
const TICK: Duration = Duration::from_millis(1);

/// What the devices are to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The consumer group they publish to; those that their topics' subscriptions name when `None`.
    pub(crate) group: Option<String>,
    /// The product key they have.
    pub(crate) product_key: String,
    /// Messages per second, all devices together.
    pub(crate) rate: u32,
    /// How many devices there are.
    pub(crate) devices: u32,
    /// The size property posts are filled up to, in bytes; what they come to by themselves when it is less.
    pub(crate) payload_bytes: usize,
    /// How long they speak; until they are stopped when `None`.
    pub(crate) duration: Option<Duration>,
    /// Decides what they say.
    pub(crate) seed: u64,
}

/// Whether devices are speaking, and how much they have said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Progress {
    /// Whether they still speak.
    pub(crate) running: bool,
    /// How many messages this crowd has published so far (the last one, when none is running).
    pub(crate) published: u64,
}

/// Why no crowd was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StartError {
    /// One is speaking already.
    #[error("devices are publishing already; stop them first, with {{\"stop\":true}}")]
    Running,
    /// The group does not exist.
    #[error(transparent)]
    Group(#[from] UnknownGroup),
}

#[derive(Debug, Default)]
struct Crowd {
    published: Arc<AtomicU64>,
    task: Option<JoinHandle<()>>,
}

impl Crowd {
    fn progress(&self) -> Progress {
        let running = self.task.as_ref().is_some_and(|task| !task.is_finished());
        Progress { running, published: self.published.load(Ordering::Relaxed) }
    }
}

/// The generator. Dropping it stops the devices.
#[derive(Debug)]
pub(crate) struct Generator {
    hub: Arc<Hub>,
    crowd: Mutex<Crowd>,
}

impl Generator {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub, crowd: Mutex::default() }
    }

    /// Starts the devices. Must be called within a tokio runtime.
    pub(crate) fn start(&self, plan: Plan) -> Result<(), StartError> {
        if let Some(group) = &plan.group {
            self.hub.counts(group)?;
        }
        let mut crowd = self.crowd.lock().unwrap_or_else(PoisonError::into_inner);
        if crowd.progress().running {
            return Err(StartError::Running);
        }
        info!(group = ?plan.group, rate = plan.rate, devices = plan.devices, "devices publish");
        let published = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(speak(Arc::clone(&self.hub), plan, Arc::clone(&published)));
        *crowd = Crowd { published, task: Some(task) };
        Ok(())
    }

    /// Stops the devices, if there are any.
    pub(crate) fn stop(&self) {
        if let Some(task) = &self.crowd.lock().unwrap_or_else(PoisonError::into_inner).task {
            task.abort();
        }
    }

    /// How it goes.
    pub(crate) fn progress(&self) -> Progress {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner).progress()
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.stop();
    }
}

/// How many messages are due when this much time has passed.
fn due(plan: &Plan, elapsed: Duration) -> u64 {
    let spoken = plan.duration.map_or(elapsed, |duration| elapsed.min(duration));
    u64::try_from(spoken.as_micros() * u128::from(plan.rate) / 1_000_000).unwrap_or(u64::MAX)
}

async fn speak(hub: Arc<Hub>, plan: Plan, published: Arc<AtomicU64>) {
    let mut devices = Devices::new(&plan.product_key, plan.devices, plan.payload_bytes, plan.seed);
    let clock = hub.clock();
    let start = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let elapsed = start.elapsed();
        let missing = due(&plan, elapsed).saturating_sub(published.load(Ordering::Relaxed));
        let drafts: Vec<_> = (0..missing).map(|_| devices.next(clock.now().unix_us)).collect();
        let published_to = match &plan.group {
            _ if drafts.is_empty() => Ok(()),
            Some(group) => hub.publish(group, &drafts).map(|_| ()),
            None => hub.publish_by_topic(&drafts).map(|_| ()),
        };
        if published_to.is_err() {
            return;
        }
        published.fetch_add(missing, Ordering::Relaxed);
        if plan.duration.is_some_and(|duration| elapsed >= duration) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::platform::Platform;

    fn hub() -> Arc<Hub> {
        let instances = crate::instances::single("g");
        Arc::new(Hub::new(Clock::start(), Platform::new(Arc::default(), [], 0, 1), instances))
    }

    fn plan(duration: Option<Duration>) -> Plan {
        let (group, product_key) = (Some("g".to_owned()), "pk".to_owned());
        Plan { group, product_key, rate: 800, devices: 10, payload_bytes: 0, duration, seed: 1 }
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_and_the_time_too() {
        let hub = hub();
        let generator = Generator::new(Arc::clone(&hub));
        generator.start(plan(Some(Duration::from_millis(2_500)))).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(generator.progress().published.abs_diff(800) <= 1, "{:?}", generator.progress());
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(generator.progress(), Progress { running: false, published: 2_000 });
        assert_eq!(hub.counts("g").unwrap().published, 2_000);
    }

    #[tokio::test(start_paused = true)]
    async fn one_crowd_at_a_time_and_stop_means_stop() {
        let generator = Generator::new(hub());
        generator.start(plan(None)).unwrap();
        assert_eq!(generator.start(plan(None)), Err(StartError::Running));
        tokio::time::sleep(Duration::from_millis(100)).await;
        generator.stop();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let stopped = generator.progress();
        assert!(!stopped.running && stopped.published > 0);
        assert!(generator.start(plan(None)).is_ok());
        let elsewhere = Plan { group: Some("h".to_owned()), ..plan(None) };
        assert!(matches!(Generator::new(hub()).start(elsewhere), Err(StartError::Group(_))));
    }
}
