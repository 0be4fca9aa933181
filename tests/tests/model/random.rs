//! Schedules by chance: 64 slots, real milliseconds, faults of every kind in any number, attempts that take as long as they
//! may, and in the end all is mended and everybody who waits must come to a slot.

use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use sluice_operator::slots::LinkPhase;

use super::faults::Fault;
use super::sabotage::Sabotage;
use super::steps::Step;
use super::world::{Scene, World};

/// How long the trouble lasts, and how long all is well after it.
const TROUBLE_MS: u64 = 300_000;
const WELL_MS: u64 = 400_000;

/// Client slots.
const SLOTS: u32 = 64;

/// One schedule for 64 slots, made of its seed.
pub(crate) fn wide(seed: u64, sabotage: Option<Sabotage>) -> Result<(), String> {
    let mut chance = SmallRng::seed_from_u64(seed);
    let pods = chance.random_range(56..72);
    let per_pod = if chance.random_bool(0.2) { [1, 2] } else { [1, 1] };
    // The limit is often narrower than need be, so that what goes beyond it shows.
    let attempts = [95, 64, 20, 128, 40].choose(&mut chance).copied().unwrap();
    let scene = Scene {
        slots: SLOTS,
        attempts,
        pods,
        most_pods: 400,
        per_pod,
        permits: true,
        watches: true,
        batched: true,
        sabotage,
    };
    let wildness = [0.02, 0.1, 0.3].choose(&mut chance).copied().unwrap();
    schedule(seed, &scene, &mut chance, wildness)
}

/// One schedule for a few slots, in which the platform refuses nearly always, so that everybody tries to connect whenever
/// a rule lets it.
pub(crate) fn narrow(seed: u64, sabotage: Option<Sabotage>) -> Result<(), String> {
    let mut chance = SmallRng::seed_from_u64(seed);
    let slots = [1, 2, 3, 8].choose(&mut chance).copied().unwrap();
    let attempts = chance.random_range(2..12);
    let pods = usize::try_from(slots).unwrap() + chance.random_range(0..3);
    let scene = Scene {
        slots,
        attempts,
        pods,
        most_pods: 30,
        per_pod: [1, 1],
        permits: true,
        watches: true,
        batched: true,
        sabotage,
    };
    let wildness = [0.05, 0.2, 0.5].choose(&mut chance).copied().unwrap();
    schedule(seed, &scene, &mut chance, wildness)
}

/// How likely what can happen does, each time that it could.
#[derive(Clone, Copy)]
pub(crate) struct Odds {
    /// That an attempt reaches the platform.
    reach: f64,
    /// That a sidecar hears that its link stands.
    hear: f64,
    /// Everything else.
    any: f64,
}

/// All goes on at once.
pub(crate) const WELL: Odds = Odds { reach: 1.0, hear: 1.0, any: 1.0 };

fn schedule(seed: u64, scene: &Scene, chance: &mut SmallRng, wildness: f64) -> Result<(), String> {
    let mut world = World::new(scene);
    let begun = world.now;
    let narrow = scene.slots < SLOTS;
    let mut slowness = || [1.0, 1.0, 0.3, 0.05].choose(chance).copied().unwrap();
    let odds = Odds { reach: slowness(), hear: slowness(), any: 0.9 };
    let verdict = |world: &World| match &world.broken {
        Some(broken) => Err(format!("seed {seed}, {} ms: {broken}", world.now - begun)),
        None => Ok(()),
    };
    while world.now < begun + TROUBLE_MS {
        let dt =
            if chance.random_bool(0.1) { chance.random_range(5_000..20_000) } else { chance.random_range(50..3_000) };
        pass(&mut world, scene, chance, odds, dt);
        if chance.random_bool(wildness) {
            for _ in 0..chance.random_range(1..if narrow { 3 } else { 8 }) {
                let faults = world.faults(scene);
                if let Some(fault) = faults.choose(chance) {
                    world.suffer(scene, *fault);
                }
            }
        }
        if chance.random_bool(wildness / 8.0) {
            strike(&mut world, scene, chance);
        }
        if narrow && !world.refuses && chance.random_bool(0.1) {
            world.suffer(scene, Fault::Refuse);
        }
        verdict(&world)?;
    }
    // A watch that stays silent does not keep the world from being well.
    let listed = chance.random_bool(0.5);
    mend(&mut world, scene, listed);
    // With a narrow limit it takes its time until everybody has made an attempt.
    let well_until = world.now + WELL_MS + 130_000 * u64::from(scene.slots / scene.attempts);
    while world.now < well_until {
        pass(&mut world, scene, chance, WELL, 2_500);
        verdict(&world)?;
    }
    at_rest(&world, scene).map_err(|why| format!("seed {seed}: {why}, {scene:?}"))
}

/// Things happen, in any order, and some not yet; then time passes.
pub(crate) fn pass(world: &mut World, scene: &Scene, chance: &mut SmallRng, odds: Odds, ms: u64) {
    for _ in 0..3 {
        while let Some(place) = (0..world.calls.len()).find(|place| !world.calls[*place].given_up) {
            let lost = world.calls[place].held || world.operators[world.calls[place].operator].deaf;
            world.take(scene, if lost { Step::GiveUp(place) } else { Step::Call(place) });
        }
        let mut steps = world.steps(scene);
        steps.shuffle(chance);
        for step in steps {
            let likely = match step {
                Step::Call(_) | Step::GiveUp(_) => continue,
                Step::Reach(_) => odds.reach,
                Step::Hear(_) => odds.hear,
                _ => odds.any,
            };
            if chance.random_bool(likely) {
                world.take(scene, step);
            }
        }
        for number in 0..world.operators.len() {
            world.turn(scene, number);
        }
        world.streams.retain(|stream| stream.served || stream.open);
        world.check();
    }
    world.advance(scene, ms);
}

/// Many at once: the operators are cut off from all sidecars or from half of them, the platform fails, half of the pods
/// die, or the leader hears of no pod any more.
fn strike(world: &mut World, scene: &Scene, chance: &mut SmallRng) {
    let all = 0..world.pods.len();
    let some: Vec<usize> = all.filter(|place| world.pods[*place].process.is_some()).collect();
    match chance.random_range(0..8) {
        what @ (0 | 5) => {
            let odds = if what == 0 { 1.0 } else { 0.5 };
            let parted = some.into_iter().filter(|_| chance.random_bool(odds)).collect::<Vec<_>>();
            for place in parted {
                world.suffer(scene, Fault::Part(place));
            }
        }
        1 | 6 => some.into_iter().for_each(|place| world.suffer(scene, Fault::Reunite(place))),
        2 => world.suffer(scene, if world.refuses { Fault::Accept } else { Fault::Refuse }),
        3 => {
            let dying = some.into_iter().filter(|_| chance.random_bool(0.5)).collect::<Vec<_>>();
            for place in dying {
                world.suffer(scene, Fault::Crash(place));
            }
        }
        what => {
            if let Some((leader, _)) = world.leader() {
                world.suffer(scene, if what == 4 { Fault::CrashOperator(leader) } else { Fault::Blind(leader) });
            }
        }
    }
}

fn mend(world: &mut World, scene: &Scene, listed: bool) {
    for _ in 0..4 {
        for fault in world.faults(scene) {
            // A call that was held is not called back: its place would be another's by now.
            if fault.mends() && !matches!(fault, Fault::Release(_)) && (listed || !matches!(fault, Fault::Sighted(_))) {
                world.suffer(scene, fault);
            }
        }
        while world.slots < scene.slots {
            world.suffer(scene, Fault::Raise);
        }
    }
    for place in 0..world.pods.len() {
        (world.pods[place].apart, world.pods[place].cut_off) = (false, false);
    }
    let lost: Vec<usize> = (0..world.pods.len()).filter(|place| world.pods[*place].node_lost).collect();
    for place in lost {
        world.suffer(scene, Fault::ForceDelete(place));
    }
}

/// All is well: whoever wants a slot has one, as far as they go, and is connected.
pub(crate) fn at_rest(world: &World, scene: &Scene) -> Result<(), String> {
    let (mut up, mut waiting) = (0, 0);
    for place in 0..world.pods.len() {
        let report = world.report(place);
        if world.pods[place].process.is_none() || !report.wants_slot || report.draining {
            continue;
        }
        match report.link {
            LinkPhase::Up => up += scene.per_pod[world.pods[place].group],
            _ => waiting += 1,
        }
    }
    // A pod that takes two may find one too few.
    let spare = scene.per_pod.iter().max().unwrap() - 1;
    if waiting > 0 && up + spare < scene.slots {
        return Err(format!("{waiting} pods wait, and only {up} slots of {} are in use", scene.slots));
    }
    Ok(())
}

/// So many schedules, on all cores. Reports one that fails.
pub(crate) fn run_many(
    count: u64,
    schedule: fn(u64, Option<Sabotage>) -> Result<(), String>,
    sabotage: Option<Sabotage>,
) -> Result<(), String> {
    let (next, base) = (AtomicU64::new(0), 1);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                schedule(base + number, sabotage).inspect_err(|_| next.store(count, Ordering::Relaxed))?;
            }
        };
        let runs: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        runs.into_iter().try_for_each(|run| run.join().unwrap())
    })
}
