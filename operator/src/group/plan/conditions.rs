//! The conditions `SubscriptionsSynced`, `AtCapacity` and `BacklogExpiring`.

use sluice_crds::status::{ConditionType, Reason};

use super::{Truth, Verdict};
use crate::group::dereference::{Target, World};
use crate::group::validate::Validated;
use crate::group::view::{Evidence, Seat, Synced};
use crate::scaling::Decision;

/// The pods that the workload has: as its `/scale` says, or by their label if it has none.
pub(super) fn replicas(world: &World) -> u32 {
    match &world.target {
        Some(Target::Found(scale)) => scale.present,
        _ => u32::try_from(world.pods.iter().filter(|pod| pod.counts()).count()).unwrap_or(u32::MAX),
    }
}

pub(super) fn subscriptions(group: &Validated, world: &World) -> Option<Verdict> {
    const KIND: ConditionType = ConditionType::SubscriptionsSynced;
    group.spec.subscriptions.as_ref()?;
    let platform = world.platform.as_ref();
    Some(match platform.and_then(|platform| platform.subscriptions.as_ref()) {
        Some(Synced::Yes) => {
            Verdict::new(KIND, Truth::True, Reason::InSync, "the platform's subscriptions are as wanted")
        }
        Some(Synced::No(words)) => Verdict::new(KIND, Truth::False, Reason::Missing, words),
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

pub(super) fn expiring(group: &Validated, world: &World, decision: Option<&Decision>) -> Option<Verdict> {
    const KIND: ConditionType = ConditionType::BacklogExpiring;
    // Without an OpenAPI nobody will ever tell of a backlog.
    group.api.as_ref()?;
    let platform = world.platform.as_ref();
    let (Some(_), Some(decision)) = (platform.and_then(|platform| platform.figures), decision) else {
        let words = not_asked(platform.map(|platform| &platform.api));
        return Some(Verdict::unless_known(KIND, Reason::PlatformUnreachable, words));
    };
    Some(if decision.expiring {
        let words = "the backlog can't be drained within the day that the platform keeps it: messages will be lost there; \
                     see to it that the applications keep up, or spread the products over more groups";
        Verdict::new(KIND, Truth::True, Reason::DrainsTooSlowly, words)
    } else {
        Verdict::new(KIND, Truth::False, Reason::DrainsInTime, "the backlog, if there is one, is drained in time")
    })
}
