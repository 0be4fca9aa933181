//! Decides, from what was found, what is to be done and said: replicas, costs of deletion, conditions, figures. Pure; the
//! only memory is the [`Past`].

mod conditions;
mod credentials;
mod past;
mod readiness;
mod scale;

use sluice_crds::status::{ConditionType, Reason};

use super::dereference::World;
use super::validate::{Problem, Validated};
use super::view::Seat;
use crate::scaling::Decision;
use crate::time::Time;

pub use past::Past;
pub use scale::policy;

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Truth {
    /// It does.
    True,
    /// It does not.
    False,
    /// That is not known.
    Unknown,
}

impl Truth {
    /// How a condition spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What is said of one condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which condition.
    pub kind: ConditionType,
    /// Whether it holds; `None`: what was said last still counts, since it is too early to say more.
    pub truth: Option<Truth>,
    /// Why, in a word.
    pub reason: Reason,
    /// Why, in a sentence, and what to do.
    pub message: String,
}

impl Verdict {
    fn new(kind: ConditionType, truth: Truth, reason: Reason, message: impl Into<String>) -> Self {
        Self { kind, truth: Some(truth), reason, message: message.into() }
    }

    /// What was said last still counts; if nothing was, it is unknown.
    fn unless_known(kind: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { kind, truth: None, reason, message: message.into() }
    }
}

/// Something about the pods, or about others at the platform's group, that a person should know, and mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// A word for it, which stands in the event too.
    pub reason: &'static str,
    /// What is wrong and what to do. What changes while it is about the same thing (names, numbers) stands in brackets at
    /// its end.
    pub message: String,
}

/// What becomes of that in the status of which a plan says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// It goes: nothing is known of the object any more.
    #[default]
    Nothing,
    /// The figures of the sidecars stay: whoever has just begun to lead hears of them by and by.
    Sidecars,
    /// All of it stays: it was true a moment ago, and will be again.
    All,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The conditions, in the order in which the status shows them.
    pub verdicts: Vec<Verdict>,
    /// What to write to the workload's `/scale`.
    pub scale: Option<ScaleTo>,
    /// Costs of deletion to write.
    pub costs: Vec<Cost>,
    /// What a person should know of the pods.
    pub advice: Vec<Advice>,
    /// The figures.
    pub figures: Figures,
    /// What is not said anew.
    pub keep: Keep,
}

/// A change of the replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleTo {
    /// From how many.
    pub from: u32,
    /// To how many.
    pub replicas: u32,
    /// The resource version that the decision was based on.
    pub version: String,
    /// Why.
    pub reason: String,
}

/// A change of a pod's cost of deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// The name of the pod.
    pub pod: String,
    /// Its UID: a pod of the same name that came since is another.
    pub uid: String,
    /// The cost; `None` takes it away.
    pub cost: Option<i32>,
}

/// The figures of the status, exact.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figures {
    /// Pods that the workload has.
    pub replicas: Option<u32>,
    /// Slots held and slots that there are.
    pub slots: Option<(u32, u32)>,
    /// Messages that wait on the platform, and in how many seconds they are drained.
    pub backlog: Option<(u64, Option<u64>)>,
    /// Messages per second that applications acknowledge.
    pub rate: Option<u64>,
    /// The replicas that there should be, and why.
    pub plan: Option<(u32, String)>,
    /// Sidecars that are connected, that stand by, that are outdated.
    pub sidecars: Option<(u32, u32, u32)>,
}

/// Decides. `past` belongs to this ConsumerGroup and is brought up to date.
pub fn plan(validated: &Result<Validated, Vec<Problem>>, world: &World, past: &mut Past, at: Time) -> Plan {
    let group = match validated {
        Ok(group) => group,
        Err(problems) => return refused(problems, world, at),
    };
    let past = past.of(group.generation);
    let (decision, scaling) = scale::decide(group, world, &mut past.scaling, at);
    let keys = credentials::verdict(group, world);
    let advice = readiness::advice(group, world, past, at);
    let mut verdicts = vec![readiness::verdict(world, &keys, &advice), keys];
    verdicts.extend(conditions::subscriptions(group, world));
    verdicts.push(past.patient(scaling.verdict, at));
    let window = scale::policy(group).scale_down.stabilization;
    verdicts.push(past.steady(conditions::capacity(world, decision.as_ref()), window, at));
    let expiring = conditions::expiring(group, world, decision.as_ref(), at);
    verdicts.extend(expiring.map(|verdict| past.patient(verdict, at)));
    Plan {
        verdicts,
        costs: scale::costs(world, scaling.write.as_ref()),
        scale: scaling.write,
        advice,
        figures: figures(world, decision.as_ref(), scaling.plan, at),
        keep: Keep::Sidecars,
    }
}

/// Nothing can be carried out: that is said, and nothing is done. What may pass by itself leaves the sidecars as they are, and
/// with them all that was said; anything else takes the object out of use.
fn refused(problems: &[Problem], world: &World, at: Time) -> Plan {
    let reason = problems.first().map_or(Reason::Invalid, |problem| problem.reason);
    let words: Vec<&str> = problems.iter().map(|problem| problem.words.as_str()).collect();
    let words = words.join("\n");
    let passing = problems.iter().all(|problem| problem.passing);
    let (figures, keep) = if passing {
        (figures(world, None, None, at), Keep::All)
    } else {
        (Figures { replicas: Some(conditions::replicas(world)), ..Figures::default() }, Keep::Nothing)
    };
    let verdicts = vec![Verdict::new(ConditionType::Ready, Truth::False, reason, words)];
    Plan { verdicts, figures, keep, ..Plan::default() }
}

fn figures(world: &World, decision: Option<&Decision>, plan: Option<(u32, String)>, at: Time) -> Figures {
    let sidecars = world.sidecars.as_ref();
    let count = |wanted: fn(&super::view::Sidecar) -> bool| {
        sidecars.map(|view| view.pods.values().filter(|sidecar| wanted(sidecar)).count().try_into().unwrap_or(u32::MAX))
    };
    let rate = |view: &super::view::Sidecars| {
        let figures = view.pods.values().filter_map(|sidecar| sidecar.figures.as_ref());
        figures.map(|figures| u64::from(figures.accepted_per_second)).sum()
    };
    let backlog = conditions::fresh(world, at);
    Figures {
        replicas: Some(conditions::replicas(world)),
        slots: sidecars.map(|view| (view.held, view.limit)),
        backlog: backlog.map(|figures| {
            (figures.backlog, decision.and_then(|decision| decision.drain_eta).map(|eta| eta.as_secs()))
        }),
        rate: sidecars.map(rate),
        plan,
        sidecars: count(|sidecar| sidecar.up)
            .zip(count(|sidecar| sidecar.seat == Seat::StandBy))
            .zip(count(|sidecar| sidecar.outdated))
            .map(|((connected, standby), outdated)| (connected, standby, outdated)),
    }
}

#[cfg(test)]
mod tests;
