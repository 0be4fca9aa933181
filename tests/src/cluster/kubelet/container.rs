//! The life of one container: started, watched, started again, and stopped in the kubelet's order.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as Spec, Lifecycle, Probe};
use rustix::process::Pid;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::images::Image;
use super::invocation::{Invocation, Mounts};
use super::journal::Step;
use super::pod::PodContext;
use super::probes::{Action, Schedule};
use super::process::{Groups, Process};
use super::sources::Facts;

/// Which part a container plays in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Runs to completion before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: a native sidecar.
    Sidecar,
    /// One of the pod's proper containers.
    App,
}

/// What is known of a container.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// How it ended before, if it has been started again or waits for it.
    pub(super) last: Option<Termination>,
    /// Its startup probe has passed.
    pub(super) started: bool,
    pub(super) ready: bool,
    pub(super) restarts: i32,
}

#[derive(Debug, Clone)]
pub(super) enum Phase {
    Waiting { reason: &'static str, message: String },
    Running { since: Timestamp, id: String },
    Terminated(Termination),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Termination {
    pub(super) code: i32,
    pub(super) started: Timestamp,
    pub(super) finished: Timestamp,
    pub(super) id: String,
}

/// What probes and hooks need to know of a running container.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) container: Spec,
    pub(super) image: Image,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) mounts: Mounts,
    pub(super) ip: Ipv4Addr,
    pub(super) directory: PathBuf,
    pub(super) log: PathBuf,
    pub(super) groups: Arc<Groups>,
}

/// One container of a pod.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) spec: Spec,
    pub(super) role: Role,
    pub(super) state: watch::Sender<State>,
    /// When it must be gone, once it is to stop for good.
    order: watch::Sender<Option<Instant>>,
    begun: AtomicBool,
    ended: watch::Sender<bool>,
    /// Those that must have ended before this one is sent SIGTERM.
    turn: OnceLock<Vec<watch::Receiver<bool>>>,
    process: Mutex<Option<Pid>>,
    inside: Mutex<Option<Arc<Inside>>>,
    pub(super) log: PathBuf,
}

/// Why a container can't be started now.
struct CannotStart {
    reason: &'static str,
    message: String,
}

impl Container {
    pub(super) fn new(spec: Spec, role: Role, waits_for: &'static str, log: PathBuf) -> Self {
        let phase = Phase::Waiting { reason: waits_for, message: String::new() };
        let state = State { phase, last: None, started: false, ready: false, restarts: 0 };
        Self {
            spec,
            role,
            state: watch::Sender::new(state),
            order: watch::Sender::new(None),
            begun: AtomicBool::new(false),
            ended: watch::Sender::new(false),
            turn: OnceLock::new(),
            process: Mutex::default(),
            inside: Mutex::default(),
            log,
        }
    }

    /// Sets who must have ended before this one is sent SIGTERM.
    pub(super) fn set_turn(&self, others: Vec<watch::Receiver<bool>>) {
        // Set once, before anything runs.
        let _ = self.turn.set(others);
    }

    /// Tells when it has ended for good.
    pub(super) fn ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    /// Its turn has come: [`Self::run`] is about to be called.
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// If its turn has never come, it never will.
    pub(super) fn forgo_unless_begun(&self) {
        if !self.begun.load(Ordering::Relaxed) {
            self.ended.send_replace(true);
        }
    }

    /// Makes it stop, and be gone at `deadline`. A later one than is set already changes nothing.
    pub(super) fn stop_by(&self, deadline: Instant) {
        self.order.send_if_modified(|order| {
            let sooner = order.is_none_or(|set| deadline < set);
            if sooner {
                *order = Some(deadline);
            }
            sooner
        });
    }

    /// Its process, if it runs.
    pub(super) fn process(&self) -> Option<Pid> {
        *self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a path in it really is.
    pub(super) fn real_path(&self, path: &str) -> Option<PathBuf> {
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(PathBuf::from(inside.mounts.rewrite(path)))
    }

    /// Whether it has ended well.
    pub(super) fn succeeded(&self) -> bool {
        matches!(&self.state.borrow().phase, Phase::Terminated(end) if end.code == 0)
    }

    /// Runs it until it has ended for good.
    pub(super) async fn run(self: Arc<Self>, pod: Arc<PodContext>) {
        let mut order = self.order.subscribe();
        let mut backoff = Backoff::new(pod.kubelet.options.restart_delay, pod.kubelet.options.restart_delay_limit);
        while order.borrow().is_none() {
            pod.kubelet.powered().await;
            let (process, inside) = match self.start(&pod).await {
                Ok(started) => started,
                Err(CannotStart { reason, message }) => {
                    self.wait_for(&pod, reason, message);
                    first(sleep(pod.kubelet.options.restart_delay), order.changed()).await;
                    continue;
                }
            };
            let begun = Instant::now();
            let end = self.attend(&pod, process, &inside).await;
            // What happens when the machine goes down is nobody's to know until it is up again.
            pod.kubelet.powered().await;
            let code = end.code;
            self.change(&pod, |state| {
                state.ready = self.role == Role::Init && code == 0;
                state.started = false;
                state.phase = Phase::Terminated(end);
            });
            if order.borrow().is_some() || !self.is_restarted(&pod, code) {
                break;
            }
            let delay = backoff.next(begun.elapsed());
            if !delay.is_zero() {
                self.wait_for(&pod, "CrashLoopBackOff", format!("back-off {delay:?} restarting failed container"));
                first(sleep(delay), order.changed()).await;
            }
            if order.borrow().is_none() {
                self.change(&pod, |state| state.restarts += 1);
            }
        }
        // Who ended and waited to be started again has ended.
        self.change(&pod, |state| {
            if let (Phase::Waiting { .. }, Some(last)) = (&state.phase, &state.last) {
                state.phase = Phase::Terminated(last.clone());
            }
        });
        self.ended.send_replace(true);
    }

    fn is_restarted(&self, pod: &PodContext, code: i32) -> bool {
        let policy = pod.restart_policy();
        match self.role {
            Role::Sidecar => true,
            Role::App => policy == "Always" || (policy == "OnFailure" && code != 0),
            Role::Init => policy != "Never" && code != 0,
        }
    }

    fn change(&self, pod: &PodContext, change: impl FnOnce(&mut State)) {
        self.state.send_modify(|state| {
            change(state);
            if let Phase::Terminated(end) = &state.phase {
                state.last = Some(end.clone());
            }
        });
        pod.changed.notify_one();
    }

    fn wait_for(&self, pod: &PodContext, reason: &'static str, message: String) {
        pod.note(&self.spec.name, Step::Waits(format!("{reason}: {message}")));
        self.change(pod, |state| state.phase = Phase::Waiting { reason, message });
    }

    /// Starts its process.
    async fn start(&self, pod: &PodContext) -> Result<(Process, Arc<Inside>), CannotStart> {
        let failed = |reason| move |message: String| CannotStart { reason, message };
        let reference = self.spec.image.as_deref().unwrap_or_default();
        let image = pod.kubelet.images.find(reference);
        let image =
            image.ok_or_else(|| failed("ErrImagePull")(format!("no image {reference} was given to this kubelet")))?;
        self.check_actions().map_err(failed("CreateContainerConfigError"))?;
        let sources =
            pod.sources().await.map_err(|error| failed("CreateContainerConfigError")(format!("{error:#}")))?;
        let mounts = pod.mounts(&self.spec).map_err(failed("CreateContainerConfigError"))?;
        let object = pod.object();
        let facts = Facts { pod: &object, ip: pod.ip };
        let call = Invocation::of(&self.spec, image, &facts, &sources, &mounts)
            .map_err(|missing| failed("CreateContainerConfigError")(missing.to_string()))?;
        let directory = pod.directory.join("c").join(&self.spec.name);
        let process = std::fs::create_dir_all(&directory)
            .and_then(|()| Process::spawn(&pod.kubelet.groups, &call, &directory, &self.log))
            .map_err(|error| failed("RunContainerError")(error.to_string()))?;
        let inside = Arc::new(Inside {
            container: self.spec.clone(),
            image: image.clone(),
            environment: call.environment,
            mounts,
            ip: pod.ip,
            directory,
            log: self.log.clone(),
            groups: Arc::clone(&pod.kubelet.groups),
        });
        *self.inside.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&inside));
        Ok((process, inside))
    }

    /// Fails if a probe or a hook is of a kind that this kubelet does not know.
    fn check_actions(&self) -> Result<(), String> {
        let Spec { startup_probe, readiness_probe, liveness_probe, lifecycle, .. } = &self.spec;
        let probes = [startup_probe, readiness_probe, liveness_probe].into_iter().flatten();
        let hooks =
            lifecycle.iter().flat_map(|Lifecycle { post_start, pre_stop, .. }| [post_start, pre_stop]).flatten();
        if probes.map(Action::of_probe).chain(hooks.map(Action::of_hook)).any(|action| action.is_none()) {
            return Err(
                "this kubelet knows exec, httpGet and tcpSocket probes, and exec, httpGet and sleep hooks".to_owned()
            );
        }
        Ok(())
    }

    /// From the start of its process to the end of it.
    async fn attend(&self, pod: &PodContext, mut process: Process, inside: &Inside) -> Termination {
        let started = Timestamp::now();
        let number = process.id().as_raw_nonzero();
        let id = format!("process://{}-{}-{number}", pod.uid, self.spec.name);
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process.id());
        pod.note(&self.spec.name, Step::Started(number.get().unsigned_abs()));
        self.change(pod, |state| state.phase = Phase::Running { since: started, id: id.clone() });

        let mut order = self.order.subscribe();
        let mut readiness = pin!(self.watch_readiness(pod, inside));
        let code = {
            let ordered = async {
                // The sender is this container.
                let _ = order.wait_for(Option::is_some).await;
            };
            tokio::select! {
                code = process.exit() => Ok(code),
                () = ordered => Err(None),
                () = &mut readiness => Err(None),
                why = self.watch_health(pod, inside) => Err(Some(why)),
            }
        };
        let code = match code {
            Ok(code) => code,
            Err(why) => {
                // One that is started again is stopped by itself, and not after others.
                let restart = why.is_some();
                let own = why.map(|why| {
                    pod.note(&self.spec.name, Step::Unhealthy(why));
                    Instant::now() + pod.grace()
                });
                tokio::select! {
                    code = self.stop(pod, &mut process, inside, own, !restart) => code,
                    () = &mut readiness => process.exit().await,
                }
            }
        };
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = None;
        pod.note(&self.spec.name, Step::Ended(code));
        Termination { code, started, finished: Timestamp::now(), id }
    }

    /// preStop at once; SIGTERM when it is its turn; SIGKILL when the time is up.
    async fn stop(
        &self,
        pod: &PodContext,
        process: &mut Process,
        inside: &Inside,
        own: Option<Instant>,
        in_turn: bool,
    ) -> i32 {
        let name = &self.spec.name;
        let hook = self.spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        if let Some(action) = hook.and_then(Action::of_hook) {
            pod.note(name, Step::PreStop);
            let result = tokio::select! {
                code = process.exit() => return code,
                result = action.act(inside) => result,
                () = self.deadline(own) => Err("the grace period is over".to_owned()),
            };
            pod.note(name, Step::PreStopped(result.err()));
        }
        if in_turn {
            tokio::select! {
                code = process.exit() => return code,
                () = all_ended(self.turn.get().cloned().unwrap_or_default()) => {}
                () = self.deadline(own) => {}
            }
        }
        pod.note(name, Step::Terminate);
        process.terminate();
        let at_least = sleep(pod.kubelet.options.minimum_grace);
        tokio::select! {
            code = process.exit() => return code,
            ((), ()) = async { tokio::join!(at_least, self.deadline(own)) } => {}
        }
        pod.note(name, Step::Kill);
        process.kill();
        process.exit().await
    }

    /// Waits until it must be gone: a deadline of its own, or the pod's, which may come nearer meanwhile.
    async fn deadline(&self, own: Option<Instant>) {
        let mut order = self.order.subscribe();
        loop {
            let ordered = *order.borrow_and_update();
            let until = match (own, ordered) {
                (Some(own), Some(ordered)) => Some(own.min(ordered)),
                (own, ordered) => own.or(ordered),
            };
            let passed = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = passed => return,
                _ = order.changed() => {}
            }
        }
    }

    /// postStart, the startup probe, then the liveness probe. Ends, with a reason, when the container must be killed.
    async fn watch_health(&self, pod: &PodContext, inside: &Inside) -> String {
        let hook = self.spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        if let Some(action) = hook.and_then(Action::of_hook)
            && let Err(error) = action.act(inside).await
        {
            return format!("postStart hook: {error}");
        }
        if let Some((action, schedule)) = actions(self.spec.startup_probe.as_ref())
            && let Err(error) = observe(&action, schedule, inside, true).await
        {
            return format!("startup probe: {error}");
        }
        pod.note(&self.spec.name, Step::StartedUp);
        self.change(pod, |state| state.started = true);
        match actions(self.spec.liveness_probe.as_ref()) {
            None => pending().await,
            Some((action, schedule)) => match observe(&action, schedule, inside, false).await {
                Err(error) => format!("liveness probe: {error}"),
                Ok(()) => pending().await,
            },
        }
    }

    /// Keeps `ready` true to the readiness probe, from the moment on at which the container has started up. Never ends.
    async fn watch_readiness(&self, pod: &PodContext, inside: &Inside) {
        let mut state = self.state.subscribe();
        // The sender is this container.
        let _ = state.wait_for(|state| state.started).await;
        let Some((action, schedule)) = actions(self.spec.readiness_probe.as_ref()) else {
            self.set_ready(pod, true);
            return pending().await;
        };
        sleep(schedule.initial_delay).await;
        let (mut good, mut bad) = (0, 0);
        loop {
            if action.act_within(schedule.timeout, inside).await.is_ok() {
                (good, bad) = (good + 1, 0);
            } else {
                (good, bad) = (0, bad + 1);
            }
            if good >= schedule.successes {
                self.set_ready(pod, true);
            } else if bad >= schedule.failures {
                self.set_ready(pod, false);
            }
            sleep(schedule.period).await;
        }
    }

    fn set_ready(&self, pod: &PodContext, ready: bool) {
        if self.state.borrow().ready != ready {
            pod.note(&self.spec.name, Step::Ready(ready));
            self.change(pod, |state| state.ready = ready);
        }
    }
}

fn actions(probe: Option<&Probe>) -> Option<(Action, Schedule)> {
    probe.and_then(|probe| Some((Action::of_probe(probe)?, Schedule::of(probe))))
}

/// Asks again and again: until it has succeeded often enough if that is `wanted`, or until it has failed too often.
async fn observe(action: &Action, schedule: Schedule, inside: &Inside, wanted: bool) -> Result<(), String> {
    sleep(schedule.initial_delay).await;
    let (mut good, mut bad) = (0, 0);
    loop {
        match action.act_within(schedule.timeout, inside).await {
            Ok(()) => (good, bad) = (good + 1, 0),
            Err(error) if bad + 1 >= schedule.failures => return Err(error),
            Err(_) => (good, bad) = (0, bad + 1),
        }
        if wanted && good >= schedule.successes {
            return Ok(());
        }
        sleep(schedule.period).await;
    }
}

pub(super) async fn all_ended(others: Vec<watch::Receiver<bool>>) {
    for mut other in others {
        // One whose container is gone has ended.
        let _ = other.wait_for(|&ended| ended).await;
    }
}

/// Waits for one of two things.
async fn first<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) {
    tokio::select! {
        _ = one => {}
        _ = other => {}
    }
}

/// How long a container waits to be started again: at once the first time, then twice as long each time.
#[derive(Debug)]
struct Backoff {
    first: Duration,
    limit: Duration,
    next: Duration,
}

impl Backoff {
    fn new(first: Duration, limit: Duration) -> Self {
        Self { first, limit, next: Duration::ZERO }
    }

    /// The delay after a run of that length. A long one makes it forget.
    fn next(&mut self, ran: Duration) -> Duration {
        if ran > self.limit * 2 {
            self.next = Duration::ZERO;
        }
        let delay = self.next;
        self.next = (delay * 2).max(self.first).min(self.limit);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_come_at_once_and_then_more_and_more_slowly() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(10), seconds(300));
        let delays: Vec<_> = (0..8).map(|_| backoff.next(seconds(1)).as_secs()).collect();
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.next(seconds(601)), Duration::ZERO);
        assert_eq!(backoff.next(seconds(1)), seconds(10));
    }
}
