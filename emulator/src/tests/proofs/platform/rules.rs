//! The platform's rules.

use std::time::Duration;

use super::{World, millis, same};
use crate::message::Draft;
use crate::platform::tests::GROUP;
use crate::platform::{ClientKey, Door, Outcome, Refusal};
use crate::terms::Terms;
use crate::tests::proofs::ensure;

pub(super) fn clients_per_group(terms: Terms) -> Result<(), String> {
    let mut world = World::new(terms);
    for _ in 0..64 {
        world.client("c", 0)?;
    }
    same("the 65th", &world.attempt("c"), &Err((Door::Open, Refusal::TooManyClients { limit: 64 })))
}

pub(super) fn attempts_per_minute(terms: Terms) -> Result<(), String> {
    let mut world = World::new(terms);
    for _ in 0..100 {
        let client = world.client("c", 0)?;
        world.platform.leave(client, world.now());
        world.pass(millis(10));
    }
    world.pass(millis(58_900));
    same("the 101st", &world.attempt("c"), &Err((Door::Open, Refusal::TooManyAttempts { limit: 100 })))?;
    world.pass(Duration::from_secs(60));
    world.client("c", 0).map(drop)
}

pub(super) fn real_time_rate(terms: Terms) -> Result<(), String> {
    let mut world = World::with(terms, |limits| limits.real_time_wait = Duration::from_secs(10));
    let client = world.client("c", 10_000)?;
    world.publish(3_000);
    same("at once", &world.fetch(client).len(), &50)?;
    world.pass(Duration::from_secs(1));
    same("within a second", &world.fetch(client).len(), &1_000)
}

pub(super) fn backlog_rate(terms: Terms) -> Result<(), String> {
    let mut world = World::new(terms);
    world.publish(1_000);
    let client = world.client("c", 10_000)?;
    same("at once", &world.fetch(client).len(), &10)?;
    world.pass(Duration::from_secs(1));
    same("within a second", &world.fetch(client).len(), &200)
}

pub(super) fn real_time_first(terms: Terms) -> Result<(), String> {
    let mut world = World::new(terms);
    world.publish(1);
    let client = world.client("c", 0)?;
    world.publish(1);
    world.grant(client, 0, 1);
    let counts = world.counts();
    same("waiting and in the backlog", &(counts.waiting, counts.backlog), &(0, 1))
}

pub(super) fn ack_timeout(terms: Terms) -> Result<(), String> {
    let mut world = World::new(terms);
    world.client("c", 1)?;
    world.publish(1);
    world.pass(millis(29_999));
    same("expired before 30 s", &world.counts().expired, &0)?;
    world.pass(millis(1));
    same("expired after 30 s", &world.counts().expired, &1)
}

pub(super) fn retry_after(terms: Terms) -> Result<(), String> {
    let mut world = World::new(terms);
    let client = world.client("c", 10)?;
    world.publish(1);
    world.settle(client, 0, 0, Outcome::Released);
    world.pass(millis(59_999));
    same("pushed before a minute", &world.counts().pushed, &1)?;
    world.pass(millis(1));
    same("pushed after a minute", &world.counts().pushed, &2)
}

pub(super) fn retry_after_link_loss(terms: Terms) -> Result<(), String> {
    let mut world = World::with(terms, |limits| limits.retry_after_link_loss = Duration::from_secs(5));
    let client = world.client("a", 1)?;
    world.publish(1);
    world.platform.leave(client, world.now());
    world.client("b", 1)?;
    world.pass(millis(4_999));
    same("pushed before 5 s", &world.counts().pushed, &1)?;
    world.pass(millis(1));
    same("pushed after 5 s", &world.counts().pushed, &2)
}

pub(super) fn real_time_wait(terms: Terms) -> Result<(), String> {
    let mut world = World::new(terms);
    world.client("c", 0)?;
    world.publish(1);
    world.pass(millis(999));
    same("waiting within a second", &world.counts().waiting, &1)?;
    world.pass(millis(1));
    same("in the backlog after a second", &world.counts().backlog, &1)
}

pub(super) fn retention(terms: Terms) -> Result<(), String> {
    let mut world = World::new(terms);
    let client = world.client("c", 1)?;
    world.publish(2);
    world.pass(millis(24 * 60 * 60 * 1_000 - 1));
    same("dropped within a day", &world.counts().dropped, &0)?;
    world.platform.leave(client, world.now());
    world.pass(millis(1));
    same("dropped after a day", &world.counts().dropped, &2)
}

pub(super) fn backlog_capacity(terms: Terms) -> Result<(), String> {
    let mut world = World::with(terms, |limits| limits.backlog_capacity = 2);
    world.publish(3);
    let counts = world.counts();
    same("in the backlog and dropped", &(counts.backlog, counts.dropped), &(2, 1))
}

pub(super) fn max_payload(terms: Terms) -> Result<(), String> {
    let mut world = World::new(terms);
    let drafts = [256 * 1024, 256 * 1024 + 1].map(|size| Draft { payload: vec![0; size].into(), ..Draft::default() });
    world.platform.publish(GROUP, &drafts, world.now()).map_err(|error| error.to_string())?;
    let counts = world.counts();
    same("in the backlog and dropped", &(counts.backlog, counts.dropped), &(1, 1))
}

/// How many of 2,000 messages each of these gets, at a rate that everybody can take.
fn shares(world: &mut World, clients: &[ClientKey]) -> Result<Vec<usize>, String> {
    let mut shares = vec![0; clients.len()];
    for _ in 0..100 {
        world.publish(20);
        for (&client, share) in clients.iter().zip(&mut shares) {
            *share += world.fetch(client).len();
            world.settle(client, 0, u32::MAX >> 1, Outcome::Accepted);
        }
        world.pass(millis(100));
    }
    same("messages that came", &shares.iter().sum(), &2_000)?;
    Ok(shares)
}

fn is_even(shares: &[usize]) -> Result<(), String> {
    let fair = 2_000 / shares.len();
    let off = shares.iter().map(|share| share.abs_diff(fair)).max().unwrap_or(0);
    ensure(off < fair / 6, format!("not even: {shares:?}"))
}

pub(super) fn uneven_after_a_join(terms: Terms) -> Result<(), String> {
    let mut world = World::new(terms);
    let old = world.client("old", 1_000_000)?;
    world.pass(Duration::from_secs(3_600));
    let new = world.client("new", 1_000_000)?;
    let first = shares(&mut world, &[old, new])?;
    ensure((300..600).contains(&first[1]), format!("whoever is new gets a fifth at first: {first:?}"))?;
    world.pass(Duration::from_secs(290));
    let then = shares(&mut world, &[old, new])?;
    ensure((650..950).contains(&then[1]), format!("after five minutes more, but not half: {then:?}"))?;
    world.pass(Duration::from_secs(300));
    is_even(&shares(&mut world, &[old, new])?)
}

pub(super) fn uneven_after_a_leave(terms: Terms) -> Result<(), String> {
    let mut world = World::new(terms);
    let stay = [world.client("a", 1_000_000)?, world.client("b", 1_000_000)?];
    let goes = world.client("c", 1_000_000)?;
    world.pass(Duration::from_secs(600));
    is_even(&shares(&mut world, &[stay[0], stay[1], goes])?)?;
    world.platform.leave(goes, world.now());
    let first = shares(&mut world, &stay)?;
    let most = first.iter().copied().max().unwrap_or(0);
    ensure((1_400..1_750).contains(&most), format!("one gets four fifths at first: {first:?}"))?;
    world.pass(Duration::from_secs(600));
    is_even(&shares(&mut world, &stay)?)
}
