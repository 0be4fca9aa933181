//! Figures, and what calls say about credentials.

use super::*;

#[tokio::test]
async fn figures_come_and_follow_what_happens() {
    let mut stage = Stage::calm().await;
    stage.publish(3);
    let (telemetry, keys) = (name("telemetry"), Keys::of("testsecret"));
    assert_eq!(stage.poller.group(&telemetry), None);
    stage.poller.register(&telemetry, Some(stage.target(GROUP, &keys)));
    stage.until_told(&telemetry, |seen| seen.api == Evidence::Works).await;
    let seen = stage.seen(&telemetry);
    let figures = seen.figures.unwrap();
    assert_eq!((figures.backlog, seen.clients, seen.subscriptions), (3, Some(0), None));
    assert!(figures.at <= stage.clock.now() && figures.stale_at >= figures.at + hasty().fresh);
    stage.publish(4);
    stage.until_told(&telemetry, |seen| seen.figures.is_some_and(|figures| figures.backlog == 7)).await;

    stage.poller.register(&telemetry, None);
    assert_eq!(stage.poller.group(&telemetry), None);
}

#[tokio::test]
async fn a_wrong_key_is_told_in_the_platforms_words_tried_once_and_mended_at_once() {
    let mut stage = Stage::calm().await;
    let (telemetry, keys) = (name("telemetry"), Keys::of("wrong"));
    stage.poller.register(&telemetry, Some(stage.target(GROUP, &keys)));
    stage.until_told(&telemetry, |seen| matches!(&seen.api, Evidence::Refused(_))).await;
    let Evidence::Refused(words) = stage.seen(&telemetry).api else { unreachable!() };
    assert!(words.contains("SignatureDoesNotMatch"), "{words}");
    assert!(!words.contains("wrong"), "{words}");
    // Registering the same again is no reason to try the same key again.
    for _ in 0..10 {
        stage.poller.register(&telemetry, Some(stage.target(GROUP, &keys)));
        tokio::time::sleep(millis(10)).await;
    }
    assert_eq!(stage.polls().await, 1);

    keys.set("testsecret", 2);
    stage.until_told(&telemetry, |seen| seen.api == Evidence::Works && seen.figures.is_some()).await;
}

#[tokio::test]
async fn a_missing_permission_is_said_to_be_one() {
    let mut stage = Stage::calm().await;
    stage.post("/admin/keys", json!({"id": "testid", "permissions": ["iot:sub"]})).await;
    let (telemetry, keys) = (name("telemetry"), Keys::of("testsecret"));
    stage.poller.register(&telemetry, Some(stage.target(GROUP, &keys)));
    stage
        .until_told(
            &telemetry,
            |seen| matches!(&seen.api, Evidence::Unreachable(words) if words.contains("grant them")),
        )
        .await;
}

#[tokio::test]
async fn a_group_that_is_not_there_is_said_not_to_be() {
    let mut stage = Stage::calm().await;
    let (telemetry, keys) = (name("telemetry"), Keys::of("testsecret"));
    stage.poller.register(&telemetry, Some(stage.target("NO_SUCH_GROUP", &keys)));
    let told =
        |seen: &PlatformGroup| matches!(&seen.api, Evidence::Unreachable(words) if words.contains("NO_SUCH_GROUP"));
    stage.until_told(&telemetry, told).await;
    // A change of the object is followed at once, however long the pause was to be.
    stage.poller.register(&telemetry, Some(stage.target(GROUP, &keys)));
    stage.until_told(&telemetry, |seen| seen.api == Evidence::Works).await;
}

#[tokio::test]
async fn without_a_key_nothing_is_asked_until_there_is_one() {
    let mut stage = Stage::calm().await;
    let (telemetry, keys) = (name("telemetry"), Keys::of("testsecret"));
    *lock(&keys.0) = Err("the Secret does not exist".into());
    stage.poller.register(&telemetry, Some(stage.target(GROUP, &keys)));
    tokio::time::sleep(millis(100)).await;
    assert_eq!((stage.seen(&telemetry).api, stage.polls().await), (Evidence::Untried, 0));
    keys.set("testsecret", 1);
    stage.until_told(&telemetry, |seen| seen.api == Evidence::Works).await;
    *lock(&keys.0) = Err("the Secret does not exist".into());
    stage.until_told(&telemetry, |seen| seen.api == Evidence::Untried).await;
}

#[tokio::test]
async fn an_outage_makes_figures_stale_and_is_over_when_it_is_over() {
    let mut stage = Stage::calm().await;
    let (telemetry, keys) = (name("telemetry"), Keys::of("testsecret"));
    stage.poller.register(&telemetry, Some(stage.target(GROUP, &keys)));
    stage.until_told(&telemetry, |seen| seen.figures.is_some()).await;
    stage.post("/admin/api", fault("unavailable", 600.0)).await;
    stage.until_told(&telemetry, |seen| matches!(seen.api, Evidence::Unreachable(_))).await;
    stage.until("stale", |stage| stage.clock.now() >= stage.seen(&telemetry).figures.unwrap().stale_at).await;
    stage.post("/admin/api", fault("unavailable", 0.0)).await;
    stage.until_told(&telemetry, |seen| seen.api == Evidence::Works).await;
    assert!(stage.seen(&telemetry).figures.unwrap().stale_at > stage.clock.now());
}

#[tokio::test]
async fn who_does_not_lead_asks_nothing_and_knows_nothing() {
    let stage = Stage::calm().await;
    let (telemetry, keys) = (name("telemetry"), Keys::of("testsecret"));
    stage.poller.register(&telemetry, Some(stage.target(GROUP, &keys)));
    stage.until("polled", |stage| stage.backlog(&telemetry).is_some()).await;

    stage.leadership.send_modify(|leadership| leadership.valid_until = Time(0));
    assert_eq!(stage.poller.group(&telemetry), None);
    stage.poller.register(&telemetry, Some(stage.target(GROUP, &keys)));
    stage.until("forgotten, keys and all", |_| Arc::strong_count(&keys) == 1).await;
    let polls = stage.polls().await;
    tokio::time::sleep(millis(150)).await;
    assert_eq!(stage.polls().await, polls);

    stage.leadership.send_modify(|leadership| (leadership.valid_until, leadership.term) = (Time(u64::MAX), 2));
    assert_eq!(stage.poller.group(&telemetry), None, "what was registered belongs to its term");
    stage.poller.register(&telemetry, Some(stage.target(GROUP, &keys)));
    stage.until("polled again", |stage| stage.backlog(&telemetry).is_some()).await;
}

#[tokio::test]
async fn those_who_speak_of_one_group_share_its_polls() {
    let timing = Timing { every: LONG, ..hasty() };
    let mut stage = Stage::set(config(), timing).await;
    stage.publish(1);
    let keys = Keys::of("testsecret");
    let names = [name("a"), GroupRef::new("plant-b", "a"), name("c")];
    for name in &names {
        stage.poller.register(name, Some(stage.target(GROUP, &keys)));
    }
    let other = (name("other"), Keys::of("testsecret"));
    stage.poller.register(&other.0, Some(stage.target(GROUP, &other.1)));
    for name in names.iter().chain([&other.0]) {
        stage.until("polled", |stage| stage.backlog(name) == Some(1)).await;
    }
    assert_eq!(stage.polls().await, 2, "one for each of the two keys");
    // Who comes later sees at once what is known; who goes leaves the others alone.
    stage.poller.register(&names[0], None);
    let late = name("late");
    stage.poller.register(&late, Some(stage.target(GROUP, &keys)));
    assert_eq!(stage.backlog(&late), Some(1));
    stage.until_told(&late, |seen| seen.api == Evidence::Works).await;
    assert_eq!((stage.backlog(&names[1]), stage.polls().await), (Some(1), 2));
}
