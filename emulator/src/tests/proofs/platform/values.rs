//! The values of the profile that the platform keeps. For each field there is one look that tells which of its values is in
//! force.

use std::time::Duration;

use super::{World, millis, same};
use crate::platform::{Door, Eviction, Outcome, Refusal};
use crate::profile::Overflow;
use crate::terms::Terms;
use crate::tests::proofs::ensure;

pub(super) type Seen = Result<&'static str, String>;

pub(super) fn is(seen: Seen, value: &'static str) -> Result<(), String> {
    same("what it does", &seen?, &value)
}

/// One of two; an error if it is neither.
fn either(found: u64, one: (u64, &'static str), other: (u64, &'static str)) -> Seen {
    match found {
        found if found == one.0 => Ok(one.1),
        found if found == other.0 => Ok(other.1),
        _ => Err(format!("{found} is neither {} nor {}", one.0, other.0)),
    }
}

pub(super) fn redelivery(terms: Terms, outcome: Outcome) -> Seen {
    let mut world = World::new(terms);
    let client = world.client("c", 10)?;
    world.publish(1);
    world.settle(client, 0, 0, outcome);
    world.pass(millis(59_999));
    if world.counts().pushed == 2 {
        return Ok("AtOnce");
    }
    world.pass(millis(1));
    if world.counts().pushed == 2 {
        return Ok("AfterRetry");
    }
    either(world.counts().dropped, (1, "Never"), (0, "nothing"))
}

pub(super) fn late_answer(terms: Terms) -> Seen {
    let mut world = World::new(terms);
    let client = world.client("c", 10)?;
    world.publish(1);
    world.pass(Duration::from_secs(40));
    world.settle(client, 0, 0, Outcome::Accepted);
    world.pass(Duration::from_secs(60));
    let counts = world.counts();
    same("accepted or pushed again", &(counts.accepted + counts.pushed), &2)?;
    either(counts.accepted, (0, "Ignored"), (1, "Counts"))
}

/// Once it was pushed again, only the new delivery can be answered for, even when that has expired as well.
pub(super) fn late_answers_count_until_the_next_push(terms: Terms) -> Result<(), String> {
    let mut world = World::new(terms);
    let client = world.client("c", 10)?;
    world.publish(1);
    world.pass(Duration::from_secs(125));
    same("expired", &world.counts().expired, &2)?;
    world.settle(client, 0, 0, Outcome::Accepted);
    same("accepted for the first delivery", &world.counts().accepted, &0)?;
    world.settle(client, 1, 1, Outcome::Accepted);
    let counts = world.counts();
    same("accepted for the second, and in the backlog", &(counts.accepted, counts.backlog), &(1, 0))
}

pub(super) fn surplus_client(terms: Terms) -> Seen {
    let profile = terms.profile;
    let mut world = World::with(terms, |limits| limits.clients_per_group = 1);
    let first = world.client("a", 0)?;
    let second = match world.attempt("b") {
        Err((Door::Sasl, refusal)) if refusal.is_temporary(&profile) => return Ok("SaslTemporary"),
        Err((Door::Sasl, Refusal::TooManyClients { limit: 1 })) => return Ok("Sasl"),
        Err((Door::Open, Refusal::TooManyClients { limit: 1 })) => return Ok("Open"),
        Err((Door::Attach, Refusal::TooManyClients { limit: 1 })) => return Ok("Attach"),
        Err(refused) => return Err(format!("{refused:?}")),
        Ok(client) => client,
    };
    world.platform.attach(second);
    world.grant(second, 0, 10);
    world.publish(1);
    let (evicted, got) = (world.platform.take_evicted(), world.fetch(second).len());
    let counts = world.counts();
    same("clients and the most of them", &(counts.clients, counts.clients_peak), &(1, 1))?;
    if evicted.is_empty() {
        same("surplus, and what it got", &(counts.surplus, got), &(1, 0))?;
        return Ok("Starved");
    }
    same("surplus, and what it got", &(counts.surplus, got), &(0, 1))?;
    same("who has to go", &evicted, &vec![(first, Eviction::Surplus)])?;
    Ok("EvictsOldest")
}

pub(super) fn surplus_attempt(terms: Terms) -> Seen {
    let mut world = World::with(terms, |limits| limits.connect_attempts_per_minute = 1);
    world.client("a", 0)?;
    match world.attempt("b") {
        Err((Door::Sasl, Refusal::TooManyAttempts { limit: 1 })) => Ok("Sasl"),
        Err((Door::Open, Refusal::TooManyAttempts { limit: 1 })) => Ok("Open"),
        other => Err(format!("{other:?}")),
    }
}

pub(super) fn clients_counted(terms: Terms) -> Seen {
    let mut world = World::with(terms, |limits| limits.clients_per_group = 1);
    world.client("a", 0)?;
    let again = world.attempt("a");
    ensure(world.attempt("b").is_err(), "another client ID comes in")?;
    same("clients", &world.counts().clients, &1)?;
    Ok(if again.is_ok() { "ClientIds" } else { "Connections" })
}

pub(super) fn same_client_id(terms: Terms) -> Seen {
    let mut world = World::new(terms);
    let older = world.client("a", 0)?;
    world.client("b", 0)?;
    world.client("a", 0)?;
    let evicted = world.platform.take_evicted();
    if !evicted.is_empty() {
        same("who has to go", &evicted, &vec![(older, Eviction::SameClientId)])?;
    }
    either(world.counts().clients, (3, "BothStay"), (2, "ClosesOlder"))
}

pub(super) fn without_credit(terms: Terms) -> Seen {
    let mut world = World::new(terms);
    world.client("c", 0)?;
    world.publish(1);
    either(world.counts().waiting, (1, "Wait"), (0, "Backlog"))
}

pub(super) fn throttled(terms: Terms) -> Seen {
    let mut world = World::with(terms, |limits| limits.real_time_per_connection = 1);
    let client = world.client("c", 10)?;
    world.publish(2);
    same("what the rate lets through", &world.fetch(client).len(), &1)?;
    either(world.counts().waiting, (1, "Wait"), (0, "Backlog"))
}

pub(super) fn push_rate(terms: Terms) -> Seen {
    let mut world = World::with(terms, |limits| limits.real_time_per_connection = 1);
    world.client("a", 100)?;
    world.client("b", 100)?;
    world.publish(10);
    either(world.counts().pushed, (2, "PerConnection"), (1, "PerGroup"))
}

pub(super) fn chosen_client(terms: Terms) -> Seen {
    let mut terms = terms;
    terms.profile.without_credit = Overflow::Backlog;
    let mut world = World::new(terms);
    world.client("a", 0)?;
    world.client("b", 100)?;
    world.publish(40);
    let counts = world.counts();
    same("pushed or in the backlog", &(counts.pushed + counts.backlog), &40)?;
    ensure(counts.pushed > 0, "nobody was drawn who could take it")?;
    Ok(if counts.backlog > 0 { "Any" } else { "Able" })
}

/// Of what waits for one that has no credit, another gets nothing, and it gets all of it once it has.
pub(super) fn what_is_for_one_client_waits_for_it(terms: Terms) -> Result<(), String> {
    let mut world = World::new(terms);
    let (a, b) = (world.client("a", 0)?, world.client("b", 100)?);
    world.publish(40);
    let (waiting, got) = (world.counts().waiting, world.fetch(b).len());
    ensure(waiting > 0, "nothing waits")?;
    world.grant(b, 0, 100);
    same("what the other gets", &(world.fetch(b).len(), got + usize::try_from(waiting).unwrap_or(0)), &(0, 40))?;
    world.grant(a, 0, 100);
    same("what it gets", &(world.fetch(a).len() as u64), &waiting)
}

pub(super) fn backlog_order(terms: Terms) -> Seen {
    let mut world = World::new(terms);
    let client = world.client("a", 1)?;
    world.publish(1);
    world.settle(client, 0, 0, Outcome::Released);
    world.platform.detach(client, world.now());
    world.publish(1);
    world.platform.attach(client);
    world.grant(client, 0, 10);
    let passed = world.fetch(client).len() as u64;
    world.pass(Duration::from_secs(60));
    same("pushed in the end", &(world.counts().pushed - 1), &2)?;
    either(passed, (1, "FailedPass"), (0, "FailedBlock"))
}

pub(super) fn disposition_ranges(terms: Terms) -> Seen {
    let mut world = World::new(terms);
    let client = world.client("c", 10)?;
    world.publish(3);
    world.settle(client, 0, 2, Outcome::Accepted);
    either(world.counts().accepted, (3, "All"), (1, "FirstOnly"))
}
