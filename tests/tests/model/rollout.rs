//! Rolling updates of two Deployments that hold all 64 slots between them, as the Deployment controller goes about it.

use rand::SeedableRng;
use rand::rngs::SmallRng;
use sluice_operator::slots::LinkPhase;

use super::faults::Fault;
use super::random::{WELL, pass};
use super::world::{Scene, World};

/// What came of it.
#[derive(Debug)]
pub(crate) struct Rollout {
    /// The fewest slots through which was consumed at any time.
    pub(crate) fewest: usize,
    /// How many in the end.
    pub(crate) at_the_end: usize,
    /// Pods of the old revision in the end.
    pub(crate) old: usize,
}

fn consuming(world: &World) -> usize {
    (0..world.pods.len()).filter(|place| world.report(*place).link == LinkPhase::Up).count()
}

/// Rolls one workload of 64 pods out, or two of 32, with `maxUnavailable` of each, until nothing is left to do or the time
/// is up.
pub(crate) fn roll(
    seed: u64,
    workloads: usize,
    max_unavailable: usize,
    unable: bool,
    minutes: u64,
) -> Result<Rollout, String> {
    let mut chance = SmallRng::seed_from_u64(seed);
    let scene = Scene {
        slots: 64,
        attempts: 95,
        pods: 0,
        most_pods: 64,
        per_pod: [1, 1],
        permits: true,
        watches: false,
        batched: true,
        sabotage: None,
    };
    let mut world = World::new(&scene);
    for number in 0..64 {
        world.create_pod(number % workloads);
        world.inform(&scene, number);
    }
    let mut step = |world: &mut World| {
        pass(world, &scene, &mut chance, WELL, 1_000);
        world.broken.clone().map_or(Ok(()), Err)
    };
    while consuming(&world) < 64 {
        step(&mut world)?;
        if world.now > 1_600_000 {
            return Err(format!("only {} of 64 came up", consuming(&world)));
        }
    }
    let begun = world.now;
    for group in 0..workloads {
        world.suffer(&scene, Fault::RollOut(group));
    }
    let mut fewest = 64;
    while world.now < begun + minutes * 60_000 {
        for group in 0..workloads {
            control(&mut world, &scene, group, 64 / workloads, max_unavailable, unable);
        }
        step(&mut world)?;
        fewest = fewest.min(consuming(&world));
        if old(&world).is_empty() && consuming(&world) == 64 {
            break;
        }
    }
    Ok(Rollout { fewest, at_the_end: consuming(&world), old: old(&world).len() })
}

fn old(world: &World) -> Vec<usize> {
    let old = |place: &usize| {
        let pod = &world.pods[*place];
        pod.exists && !pod.deleting && pod.revision != world.newest[pod.group]
    };
    (0..world.pods.len()).filter(old).collect()
}

/// One round of the Deployment controller, with `maxSurge` 4.
fn control(world: &mut World, scene: &Scene, group: usize, replicas: usize, max_unavailable: usize, unable: bool) {
    let mut there: Vec<usize> = (0..world.pods.len()).collect();
    there
        .retain(|place| world.pods[*place].group == group && world.pods[*place].exists && !world.pods[*place].deleting);
    // `readiness: Connected`: ready once its link has been up, and no more when it has yielded.
    let ready = |world: &World, place: usize| {
        let report = world.report(place);
        report.was_up && (report.link == LinkPhase::Up || report.held.0 != 0) && !report.yielded
    };
    let new = there.iter().filter(|place| world.pods[**place].revision == world.newest[group]).count();
    if new < replicas && there.len() < replicas + 4 {
        world.create_pod(group);
        let place = world.pods.len() - 1;
        world.pods[place].unable = unable;
        world.inform(scene, place);
        there.push(place);
    }
    let mut going: Vec<usize> =
        there.iter().copied().filter(|place| world.pods[*place].revision != world.newest[group]).collect();
    going.sort_by_key(|place| (ready(world, *place), world.report(*place).held.0 != 0));
    for place in going {
        let available = there.iter().filter(|place| ready(world, **place)).count();
        let without = available - usize::from(ready(world, place));
        // As many as may be unavailable, of all that there are.
        if without + max_unavailable < replicas || there.len() + max_unavailable <= replicas {
            break;
        }
        world.suffer(scene, Fault::Delete(place));
        there.retain(|still| *still != place);
    }
}
