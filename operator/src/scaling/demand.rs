//! How many pods the figures of this moment call for, whatever was before and whatever is allowed.

use std::time::Duration;

use super::{FRESH, PodFigures, Policy, Situation};
use crate::time::Time;

/// What the platform pushes of a group's backlog, per second, however many clients there are (`PLATFORM.md 1.8`).
pub const BACKLOG_PER_SECOND: u64 = 200;

/// How long the platform keeps a backlog (`PLATFORM.md 1.8`).
pub const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// The real-time rate that a connection should stay under: 80 % of the 1,000/s that the platform pushes (`PLATFORM.md
/// 1.8`).
const CONNECTION_RATE: u64 = 800;

/// Within this share of the target, in per cent, nothing is changed, as in a HorizontalPodAutoscaler.
const TOLERANCE: u64 = 10;

/// What the figures call for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Demand {
    /// Pods; `None` if the figures don't allow to say.
    pub(super) replicas: Option<u32>,
    pub(super) reason: String,
    /// Messages accepted a second, by all pods; one that has fallen silent is thought to do as the others do.
    pub(super) accepted: u64,
    /// Pods whose links are up.
    pub(super) up: u32,
    pub(super) drain_eta: Option<Duration>,
    pub(super) expiring: bool,
}

impl Demand {
    pub(super) fn of(now: Time, policy: &Policy, situation: &Situation) -> Self {
        let backlog = Backlog::of(now, policy, situation);
        let crowd = Crowd::of(now, situation);
        let (replicas, reason) = match blindness(policy, situation, &crowd, backlog.as_ref()) {
            Some(reason) => (None, reason),
            None if situation.replicas == 0 => asleep(backlog.as_ref()),
            None => awake(policy, situation, &crowd, backlog.as_ref()),
        };
        let up = crowd.up.len() as u64;
        let accepted: u64 = crowd.up.iter().map(|pod| u64::from(pod.accepted_per_second)).sum();
        Self {
            replicas,
            reason,
            accepted: accepted + accepted * crowd.silent / up.max(1),
            up: u32::try_from(up).unwrap_or(u32::MAX),
            drain_eta: backlog.as_ref().and_then(Backlog::eta),
            expiring: backlog.as_ref().is_some_and(Backlog::expires),
        }
    }
}

/// The pods, by what is known of them.
struct Crowd {
    /// The figures of those whose links are up.
    up: Vec<PodFigures>,
    /// How many say that theirs are not.
    absent: u64,
    /// How many say nothing, or have not lately.
    silent: u64,
}

impl Crowd {
    fn of(now: Time, situation: &Situation) -> Self {
        let pods = situation.pods.iter().flatten();
        let fresh: Vec<PodFigures> = pods.copied().filter(|pod| now.since(pod.at) <= FRESH).collect();
        let up: Vec<PodFigures> = fresh.iter().copied().filter(|pod| pod.up).collect();
        Self { absent: (fresh.len() - up.len()) as u64, silent: (situation.pods.len() - fresh.len()) as u64, up }
    }

    /// In words, if some have fallen silent.
    fn silence(&self) -> Option<String> {
        let all = self.up.len() as u64 + self.absent + self.silent;
        (self.silent > 0).then(|| format!("{} of {all} pods have no fresh figures", self.silent))
    }
}

/// Why the figures do not allow a decision, if they don't.
fn blindness(policy: &Policy, situation: &Situation, crowd: &Crowd, backlog: Option<&Backlog>) -> Option<String> {
    if situation.slots.is_none() {
        return Some("held: it is not known which client slots there are".to_owned());
    }
    if situation.replicas == 0 {
        // Nobody reports: only the platform can say that somebody is needed.
        return (backlog.is_none() && policy.min_replicas == 0)
            .then(|| "held at 0: the platform's figures are missing or stale".to_owned());
    }
    if situation.pods.is_empty() {
        return Some("held: no pod reports yet".to_owned());
    }
    crowd.up.is_empty().then(|| match crowd.silence() {
        Some(silence) => format!("held: {silence}"),
        None => "held: no pod has its links up yet".to_owned(),
    })
}

/// No pod: is one needed?
fn asleep(backlog: Option<&Backlog>) -> (Option<u32>, String) {
    match backlog {
        Some(backlog) if backlog.counts() => (Some(1), format!("woken by a backlog of {}", backlog.messages)),
        _ => (Some(0), "asleep: no backlog".to_owned()),
    }
}

fn awake(policy: &Policy, situation: &Situation, crowd: &Crowd, backlog: Option<&Backlog>) -> (Option<u32>, String) {
    let current = u64::from(situation.replicas);
    let work = Work::of(&crowd.up);
    let connected = crowd.up.len() as u64;

    // One that has fallen silent counts as busy to the target, so that it speaks for no change; and while one is silent,
    // none goes. What a pod that is not up will do nobody knows: none is added for it, and none is taken away because of it.
    let heard = work.with(crowd.silent, target(policy));
    let busy = match heard.busy_pods(policy) {
        busy if busy < current => heard.with(crowd.absent, 1000).busy_pods(policy).min(current),
        busy => busy,
    };
    let mut wish = (
        busy,
        format!(
            "saturation is {} % of {} (target {} %)",
            work.saturation(),
            pods_of(connected),
            policy.target_saturation
        ),
    );
    let links = work.received.div_ceil(CONNECTION_RATE * u64::from(policy.connections_per_pod.max(1))) + crowd.silent;
    // One pod there is in any case: only a second one is because of them.
    if links > wish.0.max(1) {
        wish = (
            links,
            format!("{} messages/s need {links} pods to stay under {CONNECTION_RATE}/s a connection", work.received),
        );
    }
    if let Some(backlog) = backlog
        && backlog.counts()
    {
        let rate = work.received.saturating_sub(backlog.draining()) + backlog.wanted_rate(policy);
        match work.pods_for(rate, policy).map(|pods| pods + crowd.silent) {
            Some(pods) if pods > wish.0 => {
                wish = (
                    pods,
                    format!(
                        "a backlog of {} drains at {}/s only with {}",
                        backlog.messages,
                        backlog.wanted_rate(policy),
                        pods_of(pods)
                    ),
                );
            }
            Some(_) => {
                wish.1 = format!("{}; more pods would not drain the backlog of {} faster", wish.1, backlog.messages);
            }
            // Hardly busy, and yet there is a backlog: consumers are not what it waits for, and none goes while it lasts.
            None => {
                wish.1 = format!("{}; the backlog of {} does not wait for consumers", wish.1, backlog.messages);
                wish.0 = wish.0.max(current);
            }
        }
    }
    if let Some(silence) = crowd.silence() {
        if wish.0 <= current {
            return (None, format!("held: {silence}"));
        }
        wish.1 = format!("{}; {silence}, and count as busy to the target", wish.1);
    }
    // Zero is for when nothing comes and nothing waits, and the platform says so.
    let idle = work.received == 0 && work.saturation == 0 && backlog.is_some_and(|backlog| !backlog.counts());
    let least = u64::from(!(idle && policy.min_replicas == 0));
    (Some(u32::try_from(wish.0.max(least)).unwrap_or(u32::MAX)), wish.1)
}

/// How busy a pod should be, in thousandths of its time.
fn target(policy: &Policy) -> u64 {
    u64::from(policy.target_saturation.clamp(1, 100)) * 10
}

/// What the pods do, in sum.
struct Work {
    /// Thousandths of a pod's time.
    saturation: u64,
    pods: u64,
    received: u64,
    accepted: u64,
}

impl Work {
    fn of(pods: &[PodFigures]) -> Self {
        let sum = |figure: fn(&PodFigures) -> u32| pods.iter().map(|pod| u64::from(figure(pod))).sum();
        Self {
            saturation: pods.iter().map(|pod| u64::from(pod.saturation_permille.min(1000))).sum(),
            pods: pods.len() as u64,
            received: sum(|pod| pod.received_per_second),
            accepted: sum(|pod| pod.accepted_per_second),
        }
    }

    /// The same with so many more pods, each so busy, in thousandths.
    fn with(&self, pods: u64, busy: u64) -> Self {
        Self { saturation: self.saturation + busy * pods, pods: self.pods + pods, ..*self }
    }

    /// The mean, in per cent.
    fn saturation(&self) -> u64 {
        self.saturation / 10 / self.pods.max(1)
    }

    /// Pods that would be busy to the target with the work that there is; as many as there are if that is near enough.
    fn busy_pods(&self, policy: &Policy) -> u64 {
        let target = target(policy);
        let aim = target * self.pods;
        if self.saturation.abs_diff(aim) * 100 <= aim * TOLERANCE {
            return self.pods;
        }
        self.saturation.div_ceil(target)
    }

    /// Pods that could do `rate` messages a second at the target, judged by what these do; `None` if they do too little to
    /// judge by.
    fn pods_for(&self, rate: u64, policy: &Policy) -> Option<u64> {
        // Below a tenth busy, a pod's capacity is guesswork, and consumers are not what is missing.
        if self.saturation < 100 * self.pods || self.accepted == 0 {
            return None;
        }
        let target = target(policy);
        // A pod that is busy `saturation` of the time does `accepted`; at the target it does accepted * target / saturation.
        Some((rate * self.saturation).div_ceil((self.accepted * target).max(1)))
    }
}

/// What waits on the platform, by fresh figures.
struct Backlog {
    messages: u64,
    activation: u64,
    per_minute: Option<u64>,
}

impl Backlog {
    fn of(now: Time, policy: &Policy, situation: &Situation) -> Option<Self> {
        let figures = situation.platform.filter(|figures| now < figures.stale_at)?;
        Some(Self {
            messages: figures.backlog,
            activation: policy.backlog_activation,
            per_minute: figures.backlog_per_minute,
        })
    }

    fn counts(&self) -> bool {
        self.messages > self.activation
    }

    /// Messages a second that would drain it in time, as far as the platform pushes them.
    fn wanted_rate(&self, policy: &Policy) -> u64 {
        self.messages.div_ceil(policy.drain_within.as_secs().max(1)).min(BACKLOG_PER_SECOND)
    }

    /// Messages a second that it drains by now.
    fn draining(&self) -> u64 {
        self.per_minute.unwrap_or(0) / 60
    }

    /// How long it takes at the rate it drains now; `None` if it does not, or nobody says.
    fn eta(&self) -> Option<Duration> {
        let rate = self.per_minute.filter(|rate| *rate > 0 && self.counts())?;
        Some(Duration::from_secs(self.messages.saturating_mul(60).div_ceil(rate)))
    }

    /// Even at the platform's best, it takes longer than it is kept. The rate it drains now does not count: it rises and falls
    /// with every pause of a consumer.
    fn expires(&self) -> bool {
        self.counts() && self.messages.div_ceil(BACKLOG_PER_SECOND) > RETENTION.as_secs()
    }
}

/// So many pods, in words.
fn pods_of(count: u64) -> String {
    if count == 1 { "1 pod".to_owned() } else { format!("{count} pods") }
}
