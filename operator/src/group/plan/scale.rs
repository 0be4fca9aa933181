//! The replicas: what [`crate::scaling`] decides, or who writes `/scale`, and whether it may be written.

use sluice_crds::status::{ConditionType, Reason};
use sluice_crds::{Pause, ScalingMode};

use super::{Cost, ScaleTo, Truth, Verdict};
use crate::group::contest::Contest;
use crate::group::dereference::{Scale, Target, World};
use crate::group::pods::Pod;
use crate::group::validate::Validated;
use crate::group::view::{Seat, Sidecars};
use crate::scaling::{self, Behavior, Decision, History, PodFigures, Policy, Situation};
use crate::time::Time;

/// The costs of deletion that Sluice writes. Others are somebody else's, and are left alone.
const YIELDED: i32 = -1000;
const STANDING_BY: i32 = -500;
const IDLE: i32 = -100;
const OURS: [i32; 3] = [YIELDED, STANDING_BY, IDLE];

/// What comes of it for this run.
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    pub(super) write: Option<ScaleTo>,
    pub(super) plan: Option<(u32, String)>,
}

/// The policy that a ConsumerGroup asks for.
pub fn policy(group: &Validated) -> Policy {
    let (scaling, delivery) = (&group.spec.scaling, &group.spec.delivery);
    let (up, down) = (&scaling.behavior.scale_up, &scaling.behavior.scale_down);
    Policy {
        min_replicas: scaling.min_replicas,
        max_replicas: scaling.max_replicas,
        target_saturation: scaling.target_saturation,
        backlog_activation: u64::from(scaling.backlog.activation),
        drain_within: scaling.backlog.drain_within.get(),
        scale_up: Behavior {
            stabilization: up.stabilization_window.get(),
            pods: up.max_pods,
            percent: up.max_percent,
            period: up.period.get(),
        },
        scale_down: Behavior {
            stabilization: down.stabilization_window.get(),
            pods: down.max_pods,
            percent: down.max_percent,
            period: down.period.get(),
        },
        settle: down.membership_window.get(),
        connections_per_pod: delivery.connections_per_pod,
        pause: match scaling.pause {
            Pause::None => scaling::Pause::None,
            Pause::ScaleDown => scaling::Pause::ScaleDown,
            Pause::All => scaling::Pause::All,
        },
    }
}

/// Decides on the replicas. The decision is made also where it is not carried out: what it says of the backlog counts.
pub(super) fn decide(group: &Validated, world: &World, history: &mut History, at: Time) -> (Option<Decision>, Outcome) {
    let found = match &world.target {
        Some(Target::Found(scale)) => Some(scale),
        _ => None,
    };
    let Some(reference) = &group.target else {
        let words = "spec.workload names nothing to scale; pods consume by their label alone";
        return (assess(group, world, None, history, at), held(Truth::False, Reason::NoWorkload, words, None));
    };
    let Some(scale) = found else {
        let name = format!("{} {}", reference.kind, reference.name);
        let decision = assess(group, world, None, history, at);
        return (
            decision,
            match &world.target {
                Some(Target::NotScalable(why)) => {
                    held(Truth::False, Reason::TargetNotScalable, format!("{name} can't be scaled: {why}"), None)
                }
                Some(Target::Unknown(fault)) => {
                    held(Truth::Unknown, Reason::TargetNotFound, format!("{name} could not be read: {fault}"), None)
                }
                _ => held(Truth::False, Reason::TargetNotFound, format!("{name} does not exist: create it"), None),
            },
        );
    };
    let contest = match &world.contest {
        Contest::None => None,
        Contest::By(others) => Some((
            Truth::False,
            format!(
                "{others} drives {} {} too, so Sluice leaves it alone: delete one of the two, or set scaling.mode to External \
             and point it at this ConsumerGroup",
                reference.kind, reference.name
            ),
        )),
        Contest::Older(other) => Some((
            Truth::False,
            format!(
                "the older ConsumerGroup {other} scales {} {} already, so this one leaves it alone: give each a workload of \
                 its own, or take spec.workload away here",
                reference.kind, reference.name
            ),
        )),
        Contest::Unknown => Some((
            Truth::Unknown,
            "HorizontalPodAutoscalers could not be listed yet, and one may drive the workload too".to_owned(),
        )),
    };
    if let Some((truth, words)) = contest {
        let decision = assess(group, world, None, history, at);
        let plan = decision.as_ref().map(|decision| (decision.replicas, decision.reason.clone()));
        return (decision, held(truth, Reason::TargetContested, words, plan));
    }
    let Some(decision) = assess(group, world, Some(scale), history, at) else {
        let kind = ConditionType::Scaling;
        let verdict = Verdict::unless_known(kind, Reason::FiguresStale, "the sidecars have not reported yet");
        return (None, Outcome { verdict, write: None, plan: None });
    };
    let plan = Some((decision.replicas, decision.reason.clone()));
    let write = decision.write.then(|| ScaleTo {
        from: scale.wanted,
        replicas: decision.replicas,
        version: scale.version.clone(),
        reason: decision.reason.clone(),
    });
    let paused = decision.replicas != scale.wanted && write.is_none();
    let external = group.spec.scaling.mode == ScalingMode::External;
    let (truth, reason) = match (paused, decision.blind) {
        (true, _) => (Truth::False, Reason::Paused),
        (false, _) if external => (Truth::True, Reason::External),
        (false, true) => (Truth::Unknown, Reason::FiguresStale),
        (false, false) => (Truth::True, Reason::Active),
    };
    let verdict = Verdict::new(ConditionType::Scaling, truth, reason, decision.reason.clone());
    (Some(decision), Outcome { verdict, write, plan })
}

fn held(truth: Truth, reason: Reason, words: impl Into<String>, plan: Option<(u32, String)>) -> Outcome {
    Outcome { verdict: Verdict::new(ConditionType::Scaling, truth, reason, words), write: None, plan }
}

/// What the figures call for, or who decides instead of them. `scale`: what is written if it is wanted; without it, nothing
/// is, and the history must not think so.
fn assess(
    group: &Validated,
    world: &World,
    scale: Option<&Scale>,
    history: &mut History,
    at: Time,
) -> Option<Decision> {
    let spec = &group.spec.scaling;
    let wish = || u32::try_from(spec.replicas.unwrap_or_default()).unwrap_or_default();
    let asked = (spec.mode == ScalingMode::External).then(wish);
    // Who asks for fewer pods is obeyed also while nothing is known of the sidecars.
    let view = world.sidecars.as_ref();
    if view.is_none() && asked.is_none() {
        return None;
    }
    let mut policy = policy(group);
    if scale.is_none() {
        policy.pause = scaling::Pause::All;
    }
    let pods = |view| world.pods.iter().filter(move |pod| consumes(view, pod)).map(move |pod| figures(view, pod, at));
    let known = view.filter(|view| view.fault.is_none());
    let situation = Situation {
        replicas: scale.map_or_else(|| super::conditions::replicas(world), |scale| scale.wanted),
        slots: known.map(|view| view.held_here.saturating_add(view.free)),
        pods: view.into_iter().flat_map(pods).collect(),
        platform: world.platform.as_ref().and_then(|platform| platform.figures),
        asked,
    };
    Some(scaling::decide(at, &policy, &situation, history))
}

/// Whether a pod should be consuming: one that stands by, or has given way, should not.
fn consumes(view: &Sidecars, pod: &Pod) -> bool {
    let seat = view.pods.get(&pod.uid).map(|sidecar| sidecar.seat);
    pod.counts() && pod.sidecar.is_some() && !matches!(seat, Some(Seat::StandBy | Seat::Yielded))
}

/// The figures of a pod that should be consuming; `None` if it has a slot and does not report.
fn figures(view: &Sidecars, pod: &Pod, at: Time) -> Option<PodFigures> {
    match view.pods.get(&pod.uid) {
        Some(sidecar) if sidecar.seat == Seat::Holding => sidecar.figures,
        _ => Some(PodFigures { at, up: false, saturation_permille: 0, accepted_per_second: 0, received_per_second: 0 }),
    }
}

/// The costs of deletion that have to change. Idle pods are marked only when pods are about to be taken away: at any other
/// time that would be a write for every pause in the traffic.
pub(super) fn costs(world: &World, write: Option<&ScaleTo>) -> Vec<Cost> {
    let Some(view) = &world.sidecars else { return Vec::new() };
    let shrinks = write.is_some_and(|write| write.replicas < write.from);
    let living = world.pods.iter().filter(|pod| pod.counts() && pod.sidecar.is_some());
    let changes = living.filter_map(|pod| {
        let ours = pod.deletion_cost.is_some_and(|cost| OURS.contains(&cost));
        if pod.deletion_cost.is_some() && !ours {
            return None;
        }
        let sidecar = view.pods.get(&pod.uid);
        let cost = match sidecar.map(|sidecar| sidecar.seat) {
            Some(Seat::Yielded) => Some(YIELDED),
            Some(Seat::StandBy) if view.free == 0 => Some(STANDING_BY),
            seat if shrinks && (seat != Some(Seat::Holding) || sidecar.is_some_and(|sidecar| sidecar.idle)) => {
                Some(IDLE)
            }
            // A mark of the last scale-in that missed this pod does no harm until the next one.
            _ if !shrinks && pod.deletion_cost == Some(IDLE) => Some(IDLE),
            _ => None,
        };
        (cost != pod.deletion_cost).then(|| Cost { pod: pod.name.clone(), uid: pod.uid.clone(), cost })
    });
    changes.collect()
}
