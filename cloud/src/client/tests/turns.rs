//! Callers that wait for their turns, on paused time.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Turns;
use crate::pace::{Outcome, Priority, Rate};

async fn turns_of(turns: &Arc<Turns<u32>>, callers: u32) -> Vec<(u32, Duration)> {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let turns = Arc::clone(turns);
        tasks.spawn(async move {
            turns.wait(caller, Priority::Background).await.report(Outcome::Answered);
            (caller, started.elapsed())
        });
    }
    let mut went = tasks.join_all().await;
    went.sort_by_key(|(_, at)| *at);
    went
}

#[tokio::test(start_paused = true)]
async fn callers_go_at_the_rate_each_once() {
    let turns = Arc::new(Turns::new(Rate::default()));
    let went = turns_of(&turns, 20).await;
    let seconds = went.iter().map(|(_, at)| at.as_secs_f64()).fold(0.0, f64::max);
    assert!((9.0..9.1).contains(&seconds), "2 at once and 18 at 2/s, but it took {seconds} s");
    let mut callers: Vec<u32> = went.iter().map(|(caller, _)| *caller).collect();
    callers.sort_unstable();
    assert_eq!(callers, (0..20).collect::<Vec<_>>());
    assert_eq!(turns.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_leaves_the_queue_and_the_watch_to_others() {
    let turns = Arc::new(Turns::new(Rate::try_new(Duration::from_secs(10), 1).unwrap()));
    turns.wait(0, Priority::Interactive).await.report(Outcome::Answered);
    let mut first = Box::pin(turns.wait(1, Priority::Background));
    let mut second = Box::pin(turns.wait(2, Priority::Background));
    let second_at_once = tokio::select! {
        biased;
        _ = &mut first => true,
        _ = &mut second => true,
        () = tokio::time::sleep(Duration::from_secs(1)) => false,
    };
    assert!(!second_at_once);
    assert_eq!(turns.waiting(), 2);
    // The first one watched the clock for both.
    drop(first);
    assert_eq!(turns.waiting(), 1);
    let started = Instant::now();
    second.await.report(Outcome::Answered);
    assert!((8.9..9.1).contains(&started.elapsed().as_secs_f64()), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn throttling_slows_those_who_wait_already() {
    let turns = Arc::new(Turns::new(Rate::default()));
    let (first, second) = (turns.wait(0, Priority::Background).await, turns.wait(0, Priority::Background).await);
    let started = Instant::now();
    let (turn, ()) = tokio::join!(turns.wait(1, Priority::Background), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        first.report(Outcome::Throttled);
        second.report(Outcome::Throttled);
    });
    assert_eq!(turns.interval(), Duration::from_secs(1));
    assert!((1.09..1.12).contains(&started.elapsed().as_secs_f64()), "{:?}", started.elapsed());
    turn.report(Outcome::Answered);
    assert!(turns.interval() < Duration::from_secs(1));
}
