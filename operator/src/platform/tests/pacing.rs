//! How often the platform is called.

use std::time::Instant;

use super::*;

fn many(groups: usize) -> (Vec<String>, Config) {
    let ids: Vec<String> = (0..groups).map(|n| format!("GROUP_{n}")).collect();
    (ids.clone(), Config { groups: ids, ..config() })
}

#[tokio::test]
async fn two_hundred_groups_of_an_account_make_two_calls_a_second() {
    let (ids, config) = many(200);
    // The platform's real limit.
    let config = Config { open_api: OpenApi { calls_per_second: 5, ..config.open_api }, ..config };
    let stage = Stage::set(config, Timing::default()).await;
    let keys = Keys::of("testsecret");
    let started = Instant::now();
    for id in &ids {
        stage.poller.register(&name(id), Some(stage.target(id, &keys)));
    }
    let answered = |stage: &Stage| ids.iter().filter(|id| stage.backlog(&name(id)).is_some()).count();
    stage.until("ten are answered", |stage| answered(stage) >= 10).await;
    let calls = stage.polls().await;
    let most = 2.0 + 2.0 * started.elapsed().as_secs_f64();
    assert!(f64::from(u32::try_from(calls).unwrap()) <= most, "{calls} calls, but {most} at most");
    let counted = stage.get("/admin/api").await;
    let peak = counted["rates"][0]["peakPerSecond"].as_u64().unwrap();
    assert!((2..=4).contains(&peak), "{peak} calls within one second");
    // What stands in line is accounted for: a round takes 100 s, so figures count for three of them.
    let figures = ids.iter().find_map(|id| stage.seen(&name(id)).figures).unwrap();
    let lasts = figures.stale_at.since(figures.at);
    assert!((Duration::from_secs(270)..Duration::from_secs(330)).contains(&lasts), "{lasts:?}");
}

#[tokio::test]
async fn everybody_gets_a_turn_and_nobodys_figures_are_stale() {
    let (ids, config) = many(100);
    let timing = Timing { every: millis(30), fresh: millis(1), rate: Rate::try_new(millis(10), 1).unwrap(), ..hasty() };
    let stage = Stage::set(config, timing).await;
    let keys = Keys::of("testsecret");
    for id in &ids {
        stage.poller.register(&name(id), Some(stage.target(id, &keys)));
    }
    let at = |stage: &Stage, id: &String| stage.seen(&name(id)).figures.map(|figures| figures.at);
    let is_old = |stage: &Stage, id: &String| {
        let figures = stage.seen(&name(id)).figures;
        figures.is_some_and(|figures| figures.stale_at <= stage.clock.now())
    };
    stage.until("the first round", |stage| ids.iter().all(|id| at(stage, id).is_some())).await;
    let mut flagged = 0;
    let begun = stage.clock.now();
    stage
        .until("two rounds more", |stage| {
            flagged += ids.iter().filter(|id| is_old(stage, id)).count();
            ids.iter().all(|id| at(stage, id) > Some(begun + Duration::from_secs(1)))
        })
        .await;
    assert_eq!(flagged, 0, "figures called stale although all were polled in turn");
}

#[tokio::test]
async fn throttling_slows_polls_down_and_makes_nothing_stale() {
    let mut stage = Stage::set(config(), Timing { fresh: millis(300), ..hasty() }).await;
    stage.publish(2);
    let (telemetry, keys) = (name("telemetry"), Keys::of("testsecret"));
    stage.poller.register(&telemetry, Some(stage.target(GROUP, &keys)));
    stage.until_told(&telemetry, |seen| seen.figures.is_some()).await;
    let lasted =
        |stage: &Stage| stage.seen(&telemetry).figures.map(|figures| figures.stale_at.since(figures.at)).unwrap();
    let calm = lasted(&stage);

    stage.post("/admin/api", fault("throttle", 1.5)).await;
    let mut flagged = false;
    stage
        .until("throttled", |stage| {
            let seen = stage.seen(&telemetry);
            flagged |= seen.figures.unwrap().stale_at <= stage.clock.now();
            assert_eq!((seen.api, seen.figures.unwrap().backlog), (Evidence::Works, 2), "what is known stays known");
            lasted(stage) > calm * 5
        })
        .await;
    let stretched = lasted(&stage);
    stage.publish(1);
    stage
        .until("over", |stage| {
            flagged |= stage.seen(&telemetry).figures.unwrap().stale_at <= stage.clock.now();
            stage.backlog(&telemetry) == Some(3)
        })
        .await;
    assert!(!flagged, "figures called stale because of throttling");
    assert!(stretched > calm);
    let throttled = stage.get("/admin/api").await["calls"][0]["throttled"].as_u64().unwrap();
    assert!((1..30).contains(&throttled), "1.5 s at the old pace would have been 300 calls, not {throttled}");
}
