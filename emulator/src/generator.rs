//! Runs the devices: publishes at their rate and in their bursts, for a time or until it is told to stop. One crowd at a
//! time. Whatever has to be caught up with, it publishes a bounded number at a time and lets others work in between.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::devices::{Devices, Plan, SharedRegistry};
use crate::hub::{FULL, Hub};
use crate::platform::UnknownGroup;

/// How often the devices speak. What has become due since is published together.
const TICK: Duration = Duration::from_millis(1);
/// The most messages that are published together.
const MOST_AT_ONCE: u64 = 2_000;
/// From how many bytes on no more are added to those.
const MOST_BYTES_AT_ONCE: usize = 16 * 1024 * 1024;
/// By how much of its own time it must be behind before it says so, and how long it then says nothing more.
const BEHIND: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(10);

/// Whether devices are speaking, and how much they have said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Progress {
    /// Whether they still speak.
    pub(crate) running: bool,
    /// How many messages this crowd has published so far (the last one, when none is running).
    pub(crate) published: u64,
    /// How many messages are due and not published: more than a few when the machine can't keep up.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) behind: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What the generator and its task let each other know.
#[derive(Debug, Default)]
struct Crowd {
    published: AtomicU64,
    behind: AtomicU64,
    /// Whether they are to be silent. Held while they publish, so that nothing comes once this is set.
    stopped: Mutex<bool>,
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
    /// There is no emulator any more.
    #[error("the emulator has ended")]
    Ended,
}

/// The crowd that speaks, or spoke last.
#[derive(Debug, Default)]
struct Present {
    crowd: Arc<Crowd>,
    task: Option<JoinHandle<()>>,
    /// Whether there is to be no other.
    ended: bool,
}

impl Present {
    fn progress(&self) -> Progress {
        let running = self.task.as_ref().is_some_and(|task| !task.is_finished());
        let behind = if running { self.crowd.behind.load(Ordering::Relaxed) } else { 0 };
        Progress { running, published: self.crowd.published.load(Ordering::Relaxed), behind }
    }

    fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            *self.crowd.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
            task.abort();
        }
    }
}

/// The generator. Dropping it stops the devices.
#[derive(Debug)]
pub(crate) struct Generator {
    hub: Arc<Hub>,
    registry: SharedRegistry,
    present: Mutex<Present>,
}

impl Generator {
    pub(crate) fn new(hub: Arc<Hub>, registry: SharedRegistry) -> Self {
        Self { hub, registry, present: Mutex::default() }
    }

    /// The devices that there are.
    pub(crate) fn registry(&self) -> &SharedRegistry {
        &self.registry
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the devices. Must be called within a tokio runtime.
    pub(crate) fn start(&self, plan: Plan) -> Result<(), StartError> {
        if let Some(group) = &plan.group {
            self.hub.counts(group)?;
        }
        let mut present = self.present();
        if present.ended {
            return Err(StartError::Ended);
        }
        if present.progress().running {
            return Err(StartError::Running);
        }
        info!(group = ?plan.group, rate = plan.rate, devices = plan.devices, "devices publish");
        present.crowd = Arc::default();
        let devices = Devices::new(&plan, Arc::clone(&self.registry));
        let speaking = speak(Arc::clone(&self.hub), devices, plan, Arc::clone(&present.crowd));
        present.task = Some(tokio::spawn(speaking));
        Ok(())
    }

    /// Stops the devices, if there are any. They publish nothing more once this returns, and others may start.
    pub(crate) fn stop(&self) {
        self.present().stop();
    }

    /// Stops them for good: the emulator is gone, though somebody may still hold this.
    pub(crate) fn end(&self) {
        let mut present = self.present();
        present.stop();
        present.ended = true;
    }

    /// How it goes.
    pub(crate) fn progress(&self) -> Progress {
        self.present().progress()
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn speak(hub: Arc<Hub>, mut devices: Devices, plan: Plan, crowd: Arc<Crowd>) {
    let clock = hub.clock();
    let start = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut published, mut drafts) = (0, Vec::new());
    let mut said: Option<Instant> = None;
    loop {
        ticks.tick().await;
        let elapsed = start.elapsed();
        let missing = plan.due(elapsed).saturating_sub(published);
        let now = clock.now().unix_us;
        {
            let stopped = crowd.stopped.lock().unwrap_or_else(PoisonError::into_inner);
            if *stopped {
                return;
            }
            let count = if hub.is_full() { 0 } else { missing.min(MOST_AT_ONCE) };
            let mut bytes = 0;
            while (drafts.len() as u64) < count && bytes < MOST_BYTES_AT_ONCE {
                let draft = devices.next(now);
                bytes += draft.payload.len();
                drafts.push(draft);
            }
            match &plan.group {
                _ if drafts.is_empty() => {}
                Some(group) => {
                    if let Err(error) = hub.publish(group, &drafts) {
                        return warn!(%error, "the devices stop");
                    }
                }
                None => drop(hub.publish_by_topic(&drafts)),
            }
            published += drafts.len() as u64;
            crowd.published.store(published, Ordering::Relaxed);
        }
        let behind = missing - drafts.len() as u64;
        drafts.clear();
        crowd.behind.store(behind, Ordering::Relaxed);
        // What a burst leaves over is no cause for alarm.
        let tolerable = plan.due(BEHIND).max(MOST_AT_ONCE) + plan.burst.map_or(0, |burst| u64::from(burst.messages));
        if behind > tolerable && said.is_none_or(|said| said.elapsed() > SILENCE) {
            let why = if hub.is_full() { FULL } else { "this machine is too slow for their rate" };
            warn!(behind, rate = plan.rate, why, "the devices fall behind");
            said = Some(Instant::now());
        }
        if behind == 0 && plan.duration.is_some_and(|duration| elapsed >= duration) {
            return;
        }
        // A tick that is late is there at once; the connections must have their turn all the same.
        yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::devices::Burst;
    use crate::limits::Limits;
    use crate::platform::Platform;
    use crate::terms::Terms;

    fn hub() -> Arc<Hub> {
        hub_under(&Arc::default())
    }

    fn hub_under(terms: &Arc<Terms>) -> Arc<Hub> {
        let instances = crate::instances::single("g");
        Arc::new(Hub::new(Clock::start(), Platform::new(Arc::clone(terms), [], 0, 1), instances))
    }

    fn plan(duration: Option<Duration>) -> Plan {
        Plan { group: Some("g".to_owned()), duration, ..Plan::new("pk", 800, 10, 1) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_and_the_time_too() {
        let hub = hub();
        let generator = Generator::new(Arc::clone(&hub), SharedRegistry::default());
        generator.start(plan(Some(Duration::from_millis(2_500)))).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(generator.progress().published.abs_diff(800) <= 1, "{:?}", generator.progress());
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(generator.progress(), Progress { running: false, published: 2_000, behind: 0 });
        assert_eq!(hub.counts("g").unwrap().published, 2_000);
    }

    #[tokio::test(start_paused = true)]
    async fn devices_wait_while_there_is_no_room_and_speak_up_afterwards() {
        let terms = Arc::new(Terms { limits: Limits { held_bytes: 100_000, ..Limits::default() }, ..Terms::default() });
        let hub = hub_under(&terms);
        let generator = Generator::new(Arc::clone(&hub), SharedRegistry::default());
        generator.start(plan(Some(Duration::from_secs(1)))).unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let waiting = generator.progress();
        assert!(hub.is_full() && waiting.running && (1..200).contains(&waiting.published), "{waiting:?}");
        assert!(waiting.behind >= 600, "{waiting:?}");
        while generator.progress().running {
            hub.with_world(|world| world.platform.clear_backlog("g", world.now)).unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(generator.progress(), Progress { running: false, published: 800, behind: 0 });
        assert!(hub.audit().consistent, "{:?}", hub.audit());
    }

    #[tokio::test(start_paused = true)]
    async fn one_crowd_at_a_time_and_stop_means_stop() {
        let generator = Generator::new(hub(), SharedRegistry::default());
        generator.start(plan(None)).unwrap();
        assert_eq!(generator.start(plan(None)), Err(StartError::Running));
        tokio::time::sleep(Duration::from_millis(100)).await;
        generator.stop();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let stopped = generator.progress();
        assert!(!stopped.running && stopped.published > 0);
        assert!(generator.start(plan(None)).is_ok());
        let elsewhere = Plan { group: Some("h".to_owned()), ..plan(None) };
        assert!(matches!(Generator::new(hub(), SharedRegistry::default()).start(elsewhere), Err(StartError::Group(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn others_may_start_as_soon_as_stop_returns_unless_it_is_the_end() {
        let generator = Generator::new(hub(), SharedRegistry::default());
        generator.start(plan(None)).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        generator.stop();
        assert!(!generator.progress().running);
        assert_eq!(generator.start(plan(None)), Ok(()));
        generator.end();
        assert!(!generator.progress().running);
        assert_eq!(generator.start(plan(None)), Err(StartError::Ended));
    }

    /// Stopped from another thread than the one that the devices speak on.
    #[test]
    fn nothing_is_published_once_stop_has_returned() {
        let (hub, runtime) = (hub(), tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap());
        let generator = Generator::new(Arc::clone(&hub), SharedRegistry::default());
        let (finish, finished) = tokio::sync::oneshot::channel::<()>();
        let handle = runtime.handle().clone();
        let driver = std::thread::spawn(move || drop(runtime.block_on(finished)));
        for round in 0..40 {
            let entered = handle.enter();
            generator.start(Plan { rate: 1_000_000, ..plan(None) }).unwrap();
            drop(entered);
            while generator.progress().published == 0 {
                std::thread::sleep(Duration::from_micros(100));
            }
            // At another moment of a tick each time.
            std::thread::sleep(Duration::from_micros(37 * round));
            generator.stop();
            let published = hub.counts("g").unwrap().published;
            std::thread::sleep(Duration::from_millis(5));
            assert_eq!(hub.counts("g").unwrap().published, published);
        }
        drop(finish);
        driver.join().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_comes_at_its_time_and_is_published_a_bounded_number_at_a_time() {
        let hub = hub();
        let generator = Generator::new(Arc::clone(&hub), SharedRegistry::default());
        let burst = Some(Burst { every: Duration::from_secs(1), messages: 5_000 });
        generator.start(Plan { burst, rate: 0, ..plan(Some(Duration::from_millis(2_500))) }).unwrap();
        tokio::time::sleep(Duration::from_millis(990)).await;
        assert_eq!(generator.progress().published, 0);
        // One tick makes so many, and those that follow the rest.
        let mut progress = generator.progress();
        for _ in 0..100 {
            if progress.published > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
            progress = generator.progress();
        }
        assert_eq!((progress.published, progress.behind), (2_000, 3_000));
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(generator.progress(), Progress { running: true, published: 5_000, behind: 0 });
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(generator.progress(), Progress { running: false, published: 10_000, behind: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_caught_up_with_and_others_have_their_turn_meanwhile() {
        let hub = hub();
        let generator = Generator::new(Arc::clone(&hub), SharedRegistry::default());
        generator.start(Plan { rate: 20_000, ..plan(None) }).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        // As if this thread had been held up for a second.
        tokio::time::advance(Duration::from_secs(1)).await;
        let (mut turns, mut last) = (0, generator.progress().published);
        while generator.progress().published < 20_000 {
            assert!(turns < 1_000, "{:?}", generator.progress());
            tokio::task::yield_now().await;
            let published = generator.progress().published;
            assert!(published - last <= MOST_AT_ONCE);
            (turns, last) = (turns + 1, published);
            if turns % 4 == 0 {
                tokio::time::advance(TICK).await;
            }
        }
        assert!(turns >= 10, "{turns}");
    }
}
