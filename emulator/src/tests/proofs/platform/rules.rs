//! The platform's rules.

use std::time::Duration;

use super::{GROUP, Stage, millis, same};
use crate::message::Draft;
use crate::platform::{ClientKey, Door, Outcome, Refusal};
use crate::terms::Terms;
use crate::tests::proofs::ensure;

pub(super) fn clients_per_group(terms: Terms) -> Result<(), String> {
    let mut stage = Stage::new(terms);
    for _ in 0..64 {
        stage.client("c", 0)?;
    }
    same("the 65th", &stage.come("c"), &Err((Door::Open, Refusal::TooManyClients { limit: 64 })))
}

pub(super) fn attempts_per_minute(terms: Terms) -> Result<(), String> {
    let mut stage = Stage::new(terms);
    for _ in 0..100 {
        let client = stage.client("c", 0)?;
        stage.platform.leave(client, stage.now());
        stage.pass(millis(10));
    }
    stage.pass(millis(58_900));
    same("the 101st", &stage.come("c"), &Err((Door::Open, Refusal::TooManyAttempts { limit: 100 })))?;
    stage.pass(Duration::from_secs(60));
    stage.client("c", 0).map(drop)
}

pub(super) fn real_time_rate(terms: Terms) -> Result<(), String> {
    let mut stage = Stage::with(terms, |limits| limits.real_time_wait = Duration::from_secs(10));
    let client = stage.client("c", 10_000)?;
    stage.publish(3_000)?;
    same("at once", &stage.fetch(client), &50)?;
    stage.pass(Duration::from_secs(1));
    same("within a second", &stage.fetch(client), &1_000)
}

pub(super) fn backlog_rate(terms: Terms) -> Result<(), String> {
    let mut stage = Stage::new(terms);
    stage.publish(1_000)?;
    let client = stage.client("c", 10_000)?;
    same("at once", &stage.fetch(client), &10)?;
    stage.pass(Duration::from_secs(1));
    same("within a second", &stage.fetch(client), &200)
}

pub(super) fn real_time_first(terms: Terms) -> Result<(), String> {
    let mut stage = Stage::new(terms);
    stage.publish(1)?;
    let client = stage.client("c", 0)?;
    stage.publish(1)?;
    stage.grant(client, 0, 1);
    let counts = stage.counts()?;
    same("waiting and in the backlog", &(counts.waiting, counts.backlog), &(0, 1))
}

pub(super) fn ack_timeout(terms: Terms) -> Result<(), String> {
    let mut stage = Stage::new(terms);
    stage.client("c", 1)?;
    stage.publish(1)?;
    stage.pass(millis(29_999));
    same("expired before 30 s", &stage.counts()?.expired, &0)?;
    stage.pass(millis(1));
    same("expired after 30 s", &stage.counts()?.expired, &1)
}

pub(super) fn retry_after(terms: Terms) -> Result<(), String> {
    let mut stage = Stage::new(terms);
    let client = stage.client("c", 10)?;
    stage.publish(1)?;
    stage.settle(client, 0, 0, Outcome::Released);
    stage.pass(millis(59_999));
    same("pushed before a minute", &stage.counts()?.pushed, &1)?;
    stage.pass(millis(1));
    same("pushed after a minute", &stage.counts()?.pushed, &2)
}

pub(super) fn retry_after_link_loss(terms: Terms) -> Result<(), String> {
    let mut stage = Stage::with(terms, |limits| limits.retry_after_link_loss = Duration::from_secs(5));
    let client = stage.client("a", 1)?;
    stage.publish(1)?;
    stage.platform.leave(client, stage.now());
    stage.client("b", 1)?;
    stage.pass(millis(4_999));
    same("pushed before 5 s", &stage.counts()?.pushed, &1)?;
    stage.pass(millis(1));
    same("pushed after 5 s", &stage.counts()?.pushed, &2)
}

pub(super) fn real_time_wait(terms: Terms) -> Result<(), String> {
    let mut stage = Stage::new(terms);
    stage.client("c", 0)?;
    stage.publish(1)?;
    stage.pass(millis(999));
    same("waiting within a second", &stage.counts()?.waiting, &1)?;
    stage.pass(millis(1));
    same("in the backlog after a second", &stage.counts()?.backlog, &1)
}

pub(super) fn retention(terms: Terms) -> Result<(), String> {
    let mut stage = Stage::new(terms);
    let client = stage.client("c", 1)?;
    stage.publish(2)?;
    stage.pass(millis(24 * 60 * 60 * 1_000 - 1));
    same("dropped within a day", &stage.counts()?.dropped, &0)?;
    stage.platform.leave(client, stage.now());
    stage.pass(millis(1));
    same("dropped after a day", &stage.counts()?.dropped, &2)
}

pub(super) fn backlog_capacity(terms: Terms) -> Result<(), String> {
    let mut stage = Stage::with(terms, |limits| limits.backlog_capacity = 2);
    stage.publish(3)?;
    let counts = stage.counts()?;
    same("in the backlog and dropped", &(counts.backlog, counts.dropped), &(2, 1))
}

pub(super) fn max_payload(terms: Terms) -> Result<(), String> {
    let mut stage = Stage::new(terms);
    let drafts = [256 * 1024, 256 * 1024 + 1].map(|size| Draft { payload: vec![0; size].into(), ..Draft::default() });
    stage.platform.publish(GROUP, &drafts, stage.now()).map_err(|error| error.to_string())?;
    let counts = stage.counts()?;
    same("in the backlog and dropped", &(counts.backlog, counts.dropped), &(1, 1))
}

/// How many of 2,000 messages each of these gets, at a rate that everybody can take.
fn shares(stage: &mut Stage, clients: &[ClientKey]) -> Result<Vec<usize>, String> {
    let mut shares = vec![0; clients.len()];
    for _ in 0..100 {
        stage.publish(20)?;
        for (&client, share) in clients.iter().zip(&mut shares) {
            *share += stage.fetch(client);
            stage.settle(client, 0, u32::MAX >> 1, Outcome::Accepted);
        }
        stage.pass(millis(100));
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
    let mut stage = Stage::new(terms);
    let old = stage.client("old", 1_000_000)?;
    stage.pass(Duration::from_secs(3_600));
    let new = stage.client("new", 1_000_000)?;
    let first = shares(&mut stage, &[old, new])?;
    ensure((300..600).contains(&first[1]), format!("whoever is new gets a fifth at first: {first:?}"))?;
    stage.pass(Duration::from_secs(290));
    let then = shares(&mut stage, &[old, new])?;
    ensure((650..950).contains(&then[1]), format!("after five minutes more, but not half: {then:?}"))?;
    stage.pass(Duration::from_secs(300));
    is_even(&shares(&mut stage, &[old, new])?)
}

pub(super) fn uneven_after_a_leave(terms: Terms) -> Result<(), String> {
    let mut stage = Stage::new(terms);
    let stay = [stage.client("a", 1_000_000)?, stage.client("b", 1_000_000)?];
    let goes = stage.client("c", 1_000_000)?;
    stage.pass(Duration::from_secs(600));
    is_even(&shares(&mut stage, &[stay[0], stay[1], goes])?)?;
    stage.platform.leave(goes, stage.now());
    let first = shares(&mut stage, &stay)?;
    let most = first.iter().copied().max().unwrap_or(0);
    ensure((1_400..1_750).contains(&most), format!("one gets four fifths at first: {first:?}"))?;
    stage.pass(Duration::from_secs(600));
    is_even(&shares(&mut stage, &stay)?)
}
