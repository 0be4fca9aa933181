//! What the pipeline gets to see of a platform group: made of the desk's figures and of what sidecars report. Pure.

use std::collections::{BTreeMap, HashMap};

use sluice_proto::control::v1::link::Phase;

use super::clerk::Stream;
use super::wire;
use crate::group::view::{Refusal, Seat, Sidecar, Sidecars};
use crate::slots::{Desk, GroupRef, LinkPhase, PodState, StreamId};
use crate::time::Time;

/// Per ConsumerGroup, how its sidecars are doing. Nothing while the slot table is not known: what is not known is not told.
pub(super) fn of<'a>(
    now: Time,
    desk: &Desk,
    members: impl Iterator<Item = &'a GroupRef>,
    streams: &HashMap<StreamId, Stream>,
    refusals: &HashMap<GroupRef, String>,
) -> Vec<(GroupRef, Sidecars)> {
    let figures = desk.figures(now);
    let fault = desk.table_error().map(ToString::to_string);
    if !figures.ready && fault.is_none() {
        return Vec::new();
    }
    let by_pod: HashMap<&str, &Stream> = streams.values().map(|stream| (&*stream.pod.uid.0, stream)).collect();
    let mut all: HashMap<GroupRef, Sidecars> = members
        .map(|name| {
            let group = figures.groups.get(name).copied().unwrap_or_default();
            let sidecars = Sidecars {
                limit: figures.limit,
                held: figures.held,
                held_here: group.held,
                free: figures.free,
                verified: group.verified && !refusals.contains_key(name),
                refusal: match refusals.get(name) {
                    Some(words) => Some(Refusal { words: words.clone(), credentials: true }),
                    None => refusal(streams.values().filter(|stream| stream.group == *name)),
                },
                fault: fault.clone(),
                stuck: group.stuck,
                pods: BTreeMap::new(),
            };
            (name.clone(), sidecars)
        })
        .collect();
    for pod in &figures.pods {
        let Some(sidecars) = all.get_mut(&pod.consumer_group) else { continue };
        let stream = by_pod.get(&*pod.pod.uid.0);
        let figures = stream.and_then(|stream| stream.figures);
        let in_hand = stream.and_then(|stream| stream.report.figures).map(|figures| figures.in_flight);
        let entry = Sidecar {
            seat: match pod.state {
                PodState::Yielded => Seat::Yielded,
                PodState::StandBy => Seat::StandBy,
                PodState::Idle => Seat::Away,
                PodState::Connecting | PodState::Consuming => Seat::Holding,
            },
            outdated: stream.is_some_and(|stream| stream.version != env!("CARGO_PKG_VERSION")),
            up: pod.link == Some(LinkPhase::Up),
            idle: in_hand == Some(0) && figures.is_some_and(|figures| figures.received_per_second == 0),
            figures,
        };
        sidecars.pods.insert(pod.pod.uid.0.to_string(), entry);
    }
    all.into_iter().collect()
}

/// The words of a refusal, unless a link is up: then the credentials work, and what one pod has seen is its own matter.
fn refusal<'a>(streams: impl Iterator<Item = &'a Stream>) -> Option<Refusal> {
    let mut refusal: Option<Refusal> = None;
    for (report, link) in streams.filter_map(|stream| Some((&stream.report, stream.report.link.as_ref()?))) {
        if link.phase() == Phase::Up {
            return None;
        }
        // Who holds no slot has not tried: its reason is why it waits.
        if report.held_epoch == 0 && !link.credentials_refused {
            continue;
        }
        let words = || wire::words(&link.reason);
        if link.credentials_refused && refusal.as_ref().is_none_or(|refusal| !refusal.credentials) {
            refusal = Some(Refusal { words: words(), credentials: true });
        } else if refusal.is_none() && !link.reason.is_empty() {
            refusal = Some(Refusal { words: words(), credentials: false });
        }
    }
    refusal
}
