//! What goes wrong in a run: all of it in every run, in an order, in a manner and to a sidecar that chance decides.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rand::Rng as _;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use serde_json::{Value, json};
use sluice_tests::emulator::GROUP;
use sluice_tests::wait;

use super::scene::{ACK_TIMEOUT, BOUND, LEASE, Scene, Side};
use super::worker::Mood;

/// Messages published at a time: more than a sidecar's window, and more than the platform pushes at once.
const LOT: usize = 30;

/// How long is waited for things to get going again between two mishaps; if they don't, the next one comes all the same.
const BREATH: Duration = Duration::from_millis(400);

/// Messages of a link that are held until the next one stands. Three times as many are published for each of two links: they
/// come to two sidecars, and both lots fit into the window of one.
const HELD: usize = 3;

/// How long the platform does not read: what it reads then comes after its ACK timeout.
const DEAF: Duration = ACK_TIMEOUT.saturating_add(Duration::from_secs(1));

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishap {
    /// A link is lost early, and its messages are acknowledged when those of the next one are in hand, which bear the same
    /// numbers on the wire.
    AnsweredOnTheNext,
    /// The platform closes the connection.
    Closed,
    /// The platform detaches the link.
    Detached,
    /// The platform ends the session.
    SessionEnded,
    /// TCP ends without a word.
    Dropped,
    /// The platform sends a frame that can't be.
    Corrupted,
    /// What the platform sends is late.
    Delayed,
    /// The platform does not read for longer than its ACK timeout: the answers that it reads then are late.
    Deaf,
    /// The same, and it detaches the link: the sidecar comes back before its former connection is gone.
    DeafAndDetached,
    /// An application dies with messages in hand.
    ApplicationDies,
    /// An application lets its leases run out.
    ApplicationHangs,
    /// A sidecar is killed, and started again.
    SidecarKilled,
    /// A sidecar is asked to end, and started again.
    SidecarStopped,
    /// A client comes for whom there is no place.
    Guest,
    /// That client is gone.
    GuestGone,
    /// The next attempt to connect is one too many, and a connection is lost.
    Refused,
    /// A message is pushed again that was pushed before.
    Repeated,
    /// A token expires, after it was renewed.
    TokenExpires,
}

const ALL: [Mishap; 16] = [
    Mishap::Closed,
    Mishap::Detached,
    Mishap::SessionEnded,
    Mishap::Dropped,
    Mishap::Corrupted,
    Mishap::Delayed,
    Mishap::Deaf,
    Mishap::DeafAndDetached,
    Mishap::ApplicationDies,
    Mishap::ApplicationHangs,
    Mishap::SidecarKilled,
    Mishap::SidecarStopped,
    Mishap::Guest,
    Mishap::Refused,
    Mishap::Repeated,
    Mishap::TokenExpires,
];

/// Publishes, and lets everything go wrong meanwhile.
pub(super) fn play(scene: &mut Scene<'_>) -> Result<()> {
    let mut order = ALL.to_vec();
    order.shuffle(&mut scene.dice);
    // A guest stays for a while.
    let comes = order.iter().position(|mishap| *mishap == Mishap::Guest).unwrap_or_default();
    order.insert(0, Mishap::AnsweredOnTheNext);
    order.insert((comes + 4).min(order.len()), Mishap::GuestGone);
    let mut side = scene.dice.random_range(0..2);
    let mut deaf: Option<(usize, Instant)> = None;
    for mishap in order {
        let before = scene.journal.len();
        scene.publish(LOT)?;
        wait::until(BREATH, || (scene.journal.len() >= before + LOT / 3).then_some(()));
        // Late answers come on a connection that is left alone meanwhile.
        side = match deaf {
            Some((deaf, since)) if since.elapsed() < DEAF => 1 - deaf,
            _ => 1 - side,
        };
        if mishap == Mishap::Deaf {
            deaf = Some((side, Instant::now()));
        }
        scene.hits += mishap.happen(scene, side)? as u64;
    }
    Ok(())
}

impl Mishap {
    /// Returns how many connections, messages or processes it met.
    fn happen(self, scene: &mut Scene<'_>, side: usize) -> Result<usize> {
        let bare = scene.dice.random_bool(0.5);
        let deaf = json!({"action": "stopReading", "seconds": DEAF.as_secs()});
        match self {
            Self::Closed => on_connection(scene, side, &[json!({"action": "close", "bare": bare})]),
            Self::Detached => {
                let closed = scene.dice.random_bool(0.5);
                on_connection(scene, side, &[json!({"action": "detach", "bare": bare, "closed": closed})])
            }
            Self::SessionEnded => on_connection(scene, side, &[json!({"action": "endSession", "bare": bare})]),
            Self::Dropped => on_connection(scene, side, &[json!({"action": "drop"})]),
            Self::Corrupted => {
                let parts = ["size", "dataOffset", "formatCode", "truncate"];
                let part = parts.choose(&mut scene.dice);
                on_connection(scene, side, &[json!({"action": "corrupt", "part": part})])
            }
            Self::Delayed => {
                on_connection(scene, side, &[json!({"action": "delay", "delaySeconds": 0.5, "seconds": 1})])
            }
            Self::Deaf => on_connection(scene, side, &[deaf]),
            Self::DeafAndDetached => on_connection(scene, side, &[deaf, json!({"action": "detach"})]),
            Self::Refused => {
                scene.admin().fault(&json!({"action": "refuseNext", "group": GROUP}))?;
                on_connection(scene, side, &[json!({"action": "drop"})])
            }
            Self::AnsweredOnTheNext => answered_on_the_next(scene, side),
            Self::ApplicationDies => Ok(in_a_mood(scene, side, Mood::Dies)),
            Self::ApplicationHangs => Ok(in_a_mood(scene, side, Mood::Hangs)),
            Self::SidecarKilled => {
                scene.side(side).sidecar.kill_and_restart()?;
                Ok(1)
            }
            Self::SidecarStopped => {
                let status = scene.side(side).sidecar.stop_and_restart(BOUND)?;
                ensure!(status.success(), "a sidecar that was asked to end did so with {status}");
                Ok(1)
            }
            Self::Guest => {
                scene.invite()?;
                Ok(1)
            }
            Self::GuestGone => {
                scene.send_away();
                Ok(0)
            }
            Self::Repeated => {
                let ids = scene.published.choose_multiple(&mut scene.dice, 3).cloned().collect::<Vec<_>>();
                ids.iter().map(|id| scene.admin().fault(&json!({"action": "repeat", "message": id}))).sum()
            }
            Self::TokenExpires => scene.expire_token(),
        }
    }
}

/// Injects faults into a sidecar's connection, if it has one.
fn on_connection(scene: &Scene<'_>, side: usize, faults: &[Value]) -> Result<usize> {
    let Some(connection) = scene.connection(side)? else { return Ok(0) };
    let mut hits = 0;
    for fault in faults {
        let mut fault = fault.clone();
        fault["connection"] = json!(connection.number);
        hits = scene.admin().fault(&fault)?;
    }
    Ok(hits)
}

/// See [`Mishap::AnsweredOnTheNext`]. It comes off if the next link stands before the leases are over.
fn answered_on_the_next(scene: &mut Scene<'_>, side: usize) -> Result<usize> {
    scene.side(side).worker.be(Mood::Holds);
    scene.publish(3 * HELD)?;
    let Side { worker, sidecar, .. } = scene.side(side);
    worker.holds(HELD, LEASE / 4);
    let former = sidecar.status(BOUND, |_| true)?.epoch;
    let hits = on_connection(scene, side, &[json!({"action": "drop"})])?;
    let sidecar = &scene.side(side).sidecar;
    let next = wait::until(LEASE / 2, || {
        sidecar.status(BOUND, |_| true).ok().filter(|status| status.epoch > former && status.link == "up")
    });
    if next.is_some() {
        scene.publish(3 * HELD)?;
        scene.side(side).worker.holds(2 * HELD, LEASE / 4);
    }
    let worker = &scene.side(side).worker;
    worker.be(Mood::AcksOldest(HELD));
    worker.done(BOUND);
    Ok(hits)
}

/// A sidecar's application is in a mood until it has lived it out, if it is given messages to do so.
fn in_a_mood(scene: &mut Scene<'_>, side: usize, mood: Mood) -> usize {
    let worker = &scene.side(side).worker;
    worker.be(mood);
    let done = worker.done(ACK_TIMEOUT);
    worker.be(Mood::Works);
    usize::from(done)
}
