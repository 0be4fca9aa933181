//! All worlds that come of a few faults, each at any moment.
//!
//! What happens of itself happens in one order; a fault may come before any of it. That a message, a call or an answer is
//! late, or that things happen in another order, is a fault as well (held back, and released at any later moment). So the
//! bound is on the number of faults, not on where they strike. Mending is free.

use std::time::Instant;

use stateright::{Checker, Model, Property};

use super::faults::Fault;
use super::sabotage::Sabotage;
use super::steps::Step;
use super::world::{Scene, World};

/// The bounds, and the scene.
#[derive(Debug, Clone)]
pub(crate) struct Bounded {
    pub(crate) scene: Scene,
    /// How many faults.
    pub(crate) faults: u8,
    /// How often time passes, and how much of it.
    pub(crate) ticks: u8,
    pub(crate) tick_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    world: World,
    faults: u8,
    ticks: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Step(Step),
    Fault(Fault),
    Tick,
}

impl Model for Bounded {
    type State = Place;
    type Action = Event;

    fn init_states(&self) -> Vec<Place> {
        vec![Place { world: World::new(&self.scene), faults: self.faults, ticks: self.ticks }]
    }

    fn actions(&self, place: &Place, actions: &mut Vec<Event>) {
        if place.world.broken.is_some() {
            return;
        }
        match place.world.steps(&self.scene).first() {
            Some(step) => actions.push(Event::Step(*step)),
            None if place.ticks > 0 => actions.push(Event::Tick),
            None => return,
        }
        let faults = place.world.faults(&self.scene).into_iter();
        actions.extend(faults.filter(|fault| place.faults > 0 || fault.mends()).map(Event::Fault));
    }

    fn next_state(&self, place: &Place, event: Event) -> Option<Place> {
        let mut next = place.clone();
        match event {
            Event::Step(step) => next.world.take(&self.scene, step),
            Event::Tick => {
                next.ticks -= 1;
                next.world.advance(&self.scene, self.tick_ms);
            }
            Event::Fault(fault) => {
                next.faults -= u8::from(!fault.mends());
                next.world.suffer(&self.scene, fault);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing is broken", |_, place: &Place| place.world.broken.is_none()),
            Property::sometimes("all slots are held", |bounded: &Self, place: &Place| {
                place.world.clients().len() == usize::try_from(bounded.scene.slots).unwrap()
            }),
        ]
    }
}

/// Looks at all of it.
pub(crate) fn check(bounded: &Bounded) -> Result<usize, String> {
    let begun = Instant::now();
    let checker = bounded.clone().checker().threads(2).spawn_bfs().join();
    println!(
        "{} states, depth {}, {:.1?}: {bounded:?}",
        checker.unique_state_count(),
        checker.max_depth(),
        begun.elapsed()
    );
    match checker.discovery("nothing is broken") {
        None if checker.discovery("all slots are held").is_some() => Ok(checker.unique_state_count()),
        None => Err("the slots are never all held: the model does nothing".into()),
        Some(path) => {
            let broken = path.last_state().world.broken.clone().unwrap_or_default();
            let events: Vec<Event> = path.into_actions();
            Err(format!("{broken}, by {events:#?}"))
        }
    }
}

/// 3 slots, 4 sidecars of 2 ConsumerGroups, 2 operators.
pub(crate) fn slots(faults: u8, ticks: u8, sabotage: Option<Sabotage>) -> Bounded {
    let scene = Scene {
        slots: 3,
        attempts: 95,
        pods: 4,
        most_pods: 5,
        per_pod: [1, 1],
        permits: false,
        watches: sabotage.is_none(),
        batched: false,
        sabotage,
    };
    Bounded { scene, faults, ticks, tick_ms: 20_000 }
}

/// 1 slot, 2 sidecars, 2 operators: small enough for more faults.
pub(crate) fn one_slot(faults: u8, ticks: u8, sabotage: Option<Sabotage>) -> Bounded {
    let mut bounded = slots(faults, ticks, sabotage);
    (bounded.scene.slots, bounded.scene.pods, bounded.scene.most_pods) = (1, 2, 3);
    bounded
}
