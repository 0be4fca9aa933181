//! The conditions `SubscriptionsSynced`, `AtCapacity` and `BacklogExpiring`.

use std::time::Duration;

use sluice_crds::status::{ConditionType, Reason};

use super::{Truth, Verdict};
use crate::group::dereference::{Target, World};
use crate::group::validate::Validated;
use crate::group::view::{Evidence, Seat, Synced};
use crate::scaling::{BACKLOG_PER_SECOND, Decision, PlatformFigures, RETENTION};
use crate::time::Time;

/// The pods that the workload has: as its `/scale` says, or by their label if it has none.
pub(super) fn replicas(world: &World) -> u32 {
    match &world.target {
        Some(Target::Found(scale)) => scale.present,
        _ => u32::try_from(world.pods.iter().filter(|pod| pod.counts()).count()).unwrap_or(u32::MAX),
    }
}

/// What the platform says of the backlog, if it is not too old to count.
pub(super) fn fresh(world: &World, at: Time) -> Option<PlatformFigures> {
    world.platform.as_ref().and_then(|platform| platform.figures).filter(|figures| at < figures.stale_at)
}

pub(super) fn subscriptions(group: &Validated, world: &World) -> Option<Verdict> {
    const KIND: ConditionType = ConditionType::SubscriptionsSynced;
    group.spec.subscriptions.as_ref()?;
    let platform = world.platform.as_ref();
    Some(match platform.and_then(|platform| platform.subscriptions.as_ref()) {
        Some(Synced::Yes) => {
            Verdict::new(KIND, Truth::True, Reason::InSync, "the platform's subscriptions are as wanted")
        }
        Some(Synced::No { reason, words }) => Verdict::new(KIND, Truth::False, *reason, words),
        Some(Synced::Unknown(words)) => Verdict::new(KIND, Truth::Unknown, Reason::PlatformUnreachable, words),
        None => Verdict::unless_known(KIND, Reason::PlatformUnreachable, not_asked(platform.map(|p| &p.api))),
    })
}

fn not_asked(api: Option<&Evidence>) -> String {
    match api {
        Some(Evidence::Refused(words) | Evidence::Unreachable(words)) => words.clone(),
        Some(Evidence::Works | Evidence::Untried) | None => "the platform has not been asked yet".to_owned(),
    }
}

pub(super) fn capacity(world: &World, decision: Option<&Decision>) -> Verdict {
    const KIND: ConditionType = ConditionType::AtCapacity;
    let Some(view) = &world.sidecars else {
        return Verdict::unless_known(KIND, Reason::WithinCapacity, "the sidecars have not reported yet");
    };
    let standby = view.pods.values().filter(|sidecar| sidecar.seat == Seat::StandBy).count();
    // An unverified group has one slot for a probe: its pods stand by for another reason, which `CredentialsValid` tells.
    if standby > 0 && view.free == 0 {
        let advice = "scale down, or raise limits.clientSlots if the platform allows more";
        let words = format!("{standby} pods stand by for a client slot; all {} are held: {advice}", view.limit);
        return Verdict::new(KIND, Truth::True, Reason::SlotsExhausted, words);
    }
    if let Some(decision) = decision.filter(|decision| decision.at_capacity) {
        let words = format!("more pods are wanted than there may be: {}", decision.reason);
        return Verdict::new(KIND, Truth::True, Reason::ReplicasAtMaximum, words);
    }
    Verdict::new(KIND, Truth::False, Reason::WithinCapacity, "there is room for more pods")
}

pub(super) fn expiring(group: &Validated, world: &World, decision: Option<&Decision>, at: Time) -> Option<Verdict> {
    const KIND: ConditionType = ConditionType::BacklogExpiring;
    // Without an OpenAPI nobody will ever tell of a backlog.
    group.api.as_ref()?;
    let platform = world.platform.as_ref();
    let Some(figures) = fresh(world, at) else {
        let api = platform.map(|platform| &platform.api);
        let old = platform.is_some_and(|platform| platform.figures.is_some());
        let words = match api {
            Some(Evidence::Works) if old => "the platform's last figures are too old to go by".to_owned(),
            api => not_asked(api),
        };
        // Nobody has asked yet, or it was asked and does not tell.
        let asked = old || matches!(api, Some(Evidence::Refused(_) | Evidence::Unreachable(_)));
        let truth = asked.then_some(Truth::Unknown);
        return Some(Verdict { kind: KIND, truth, reason: Reason::PlatformUnreachable, message: words });
    };
    let Some(decision) = decision else {
        return Some(Verdict::unless_known(KIND, Reason::PlatformUnreachable, "the sidecars have not reported yet"));
    };
    if decision.expiring {
        let best = Duration::from_secs(figures.backlog.div_ceil(BACKLOG_PER_SECOND));
        let words = format!(
            "the backlog can't be drained within the day that the platform keeps it: at {BACKLOG_PER_SECOND}/s, its best, \
             that takes {}; messages will be lost there; see to it that the applications keep up, or spread the products \
             over more groups",
            span(best)
        );
        return Some(Verdict::new(KIND, Truth::True, Reason::DrainsTooSlowly, words));
    }
    let words = match decision.drain_eta {
        _ if figures.backlog <= u64::from(group.spec.scaling.backlog.activation) => {
            "there is no backlog to speak of".to_owned()
        }
        Some(eta) if eta > RETENTION => format!(
            "the backlog could be drained within the day that the platform keeps it, but at the rate of now that takes {}: \
             see to it that the applications keep up",
            span(eta)
        ),
        Some(eta) => format!("the backlog is drained in time: at the rate of now that takes {}", span(eta)),
        None => {
            "the backlog can be drained within the day that the platform keeps it; it is not being drained just now"
                .to_owned()
        }
    };
    Some(Verdict::new(KIND, Truth::False, Reason::DrainsInTime, words))
}

/// A span in words, so rough that it stays the same while little changes.
fn span(span: Duration) -> String {
    match span.as_secs().div_ceil(3600) {
        0 | 1 => "less than an hour".to_owned(),
        hours @ 2..100 => format!("about {hours} hours"),
        hours => format!("about {} days", hours.div_ceil(24)),
    }
}
