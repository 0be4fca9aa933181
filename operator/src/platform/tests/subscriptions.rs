//! Subscriptions, as the platform has them afterwards.

use sluice_crds::status::Reason;
use sluice_crds::{Manage, MessageType, ProductSubscription};

use super::*;
use crate::group::view::Synced;

const OTHER: &str = "OTHER_GROUP";
const PRODUCT: &str = "a1product00";
const WRITES: [&str; 4] = [
    "CreateSubscribeRelation",
    "UpdateSubscribeRelation",
    "CreateConsumerGroupSubscribeRelation",
    "DeleteConsumerGroupSubscribeRelation",
];

fn two_groups() -> Config {
    let groups = vec![GROUP.to_owned(), OTHER.to_owned()];
    let products = vec![PRODUCT.to_owned(), "a1product01".to_owned()];
    Config { groups, products, ..config() }
}

async fn stage() -> Stage {
    Stage::set(two_groups(), hasty()).await
}

fn wanted(manage: Manage, messages: &[MessageType]) -> Wanted {
    Wanted { manage, products: vec![product(PRODUCT, messages)] }
}

fn product(key: &str, messages: &[MessageType]) -> ProductSubscription {
    ProductSubscription { product_key: key.into(), messages: messages.to_vec() }
}

impl Stage {
    fn wants(&self, name: &GroupRef, group_id: &str, keys: &Arc<Keys>, wanted: Wanted) {
        self.poller.register(name, Some(Target { subscriptions: Some(wanted), ..self.target(group_id, keys) }));
    }

    /// Flags and groups of the product, as the platform has them.
    async fn subscription(&self) -> (Vec<String>, Vec<String>) {
        let all = self.get("/admin/subscriptions").await;
        let texts =
            |value: &Value| value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect();
        let found = all["subscriptions"].as_array().unwrap().iter().find(|found| found["productKey"] == PRODUCT);
        found.map(|found| (texts(&found["flags"]), texts(&found["groups"]))).unwrap_or_default()
    }

    async fn writes(&self) -> u64 {
        let calls = self.calls().await;
        WRITES.iter().filter_map(|action| calls.get(*action)).sum()
    }

    async fn looks(&self) -> u64 {
        self.calls().await.get("QuerySubscribeRelation").copied().unwrap_or_default()
    }

    /// Waits until a look that began from now on is over.
    async fn another_look(&self) {
        let looks = self.looks().await;
        while self.looks().await < looks + 2 {
            tokio::time::sleep(millis(5)).await;
        }
    }
}

fn differs(seen: &PlatformGroup, part: &str) -> bool {
    matches!(&seen.subscriptions, Some(Synced::No { words, .. }) if words.contains(part))
}

fn differs_by(seen: &PlatformGroup, why: Reason, part: &str) -> bool {
    differs(seen, part) && matches!(&seen.subscriptions, Some(Synced::No { reason, .. }) if *reason == why)
}

#[tokio::test]
async fn observing_reports_and_never_writes() {
    let mut stage = stage().await;
    let (telemetry, keys) = (name("telemetry"), Keys::of("testsecret"));
    let observed = wanted(Manage::Observe, &[MessageType::DeviceData]);
    stage.wants(&telemetry, GROUP, &keys, observed.clone());
    stage.until_told(&telemetry, |seen| differs_by(seen, Reason::Missing, "has no AMQP subscription")).await;
    // Somebody else makes one, for another group; and then adds this one.
    let other = name("other");
    stage.wants(&other, OTHER, &keys, wanted(Manage::Union, &[MessageType::StatusChange]));
    stage
        .until_told(&telemetry, |seen| differs(seen, "is not subscribed") && differs(seen, "DeviceDataFlag is off"))
        .await;
    stage.another_look().await;
    let writes = stage.writes().await;
    assert_eq!((writes, stage.subscription().await.1), (1, vec![OTHER.to_owned()]), "the other's one and none besides");

    stage.wants(&other, GROUP, &keys, wanted(Manage::Union, &[MessageType::DeviceData]));
    stage.until_told(&telemetry, |seen| seen.subscriptions == Some(Synced::Yes)).await;
    assert_eq!(stage.writes().await, writes + 1);
}

#[tokio::test]
async fn add_group_adds_the_group_and_switches_nothing_on() {
    let mut stage = stage().await;
    let (telemetry, keys) = (name("telemetry"), Keys::of("testsecret"));
    let add = wanted(Manage::AddGroup, &[MessageType::DeviceData, MessageType::StatusChange]);
    stage.wants(&telemetry, GROUP, &keys, add);
    stage.until_told(&telemetry, |seen| differs(seen, "make one in the console")).await;
    assert_eq!(stage.writes().await, 0);

    stage.wants(&name("other"), OTHER, &keys, wanted(Manage::Union, &[MessageType::DeviceData]));
    stage
        .until_told(&telemetry, |seen| {
            differs(seen, "DeviceStatusChangeFlag is off") && !differs(seen, "not subscribed")
        })
        .await;
    let (flags, groups) = stage.subscription().await;
    assert_eq!((flags, groups), (vec!["DeviceDataFlag".to_owned()], vec![OTHER.to_owned(), GROUP.to_owned()]));
    assert_eq!(stage.calls().await.get("CreateConsumerGroupSubscribeRelation"), Some(&1));
}

#[tokio::test]
async fn those_who_unite_their_wishes_undo_nothing_of_each_other() {
    // All of them may call at the same time, and nobody looks again later and mends what was undone.
    let timing = Timing { rate: Rate::try_new(millis(1), 1_000).unwrap(), subscriptions: LONG, ..hasty() };
    let stage = Stage::set(two_groups(), timing).await;
    let keys = Keys::of("testsecret");
    let wishes = [MessageType::DeviceData, MessageType::OtaEvent, MessageType::DeviceTag, MessageType::ThingHistory];
    let names: Vec<GroupRef> = (0..wishes.len()).map(|n| name(&format!("cg-{n}"))).collect();
    let wish = |manage| {
        for (n, wish) in wishes.iter().enumerate() {
            stage.wants(&names[n], if n % 2 == 0 { GROUP } else { OTHER }, &keys, wanted(manage, &[*wish]));
        }
    };
    // Connections are there, and all of them see that there is nothing; then they go to work at once.
    wish(Manage::Observe);
    for name in &names {
        stage.until("looked at", |stage| stage.seen(name).subscriptions.is_some()).await;
    }
    wish(Manage::Union);
    for name in &names {
        stage.until("synced", |stage| stage.seen(name).subscriptions == Some(Synced::Yes)).await;
    }
    let (flags, mut groups) = stage.subscription().await;
    groups.sort();
    assert_eq!(flags.len(), wishes.len(), "{flags:?}");
    assert_eq!(groups, [GROUP, OTHER]);
    assert_eq!(stage.writes().await, 4, "one for each wish, and none to mend what another undid");
}

#[tokio::test]
async fn what_can_t_be_is_said_in_words() {
    let mut stage = stage().await;
    let (telemetry, keys) = (name("telemetry"), Keys::of("testsecret"));
    let products =
        vec![product("a1nowhere00", &[MessageType::DeviceData]), product(PRODUCT, &[MessageType::DeviceData])];
    stage.wants(&telemetry, GROUP, &keys, Wanted { manage: Manage::Union, products });
    stage.until_told(&telemetry, |seen| differs_by(seen, Reason::ProductNotFound, "check the product's key")).await;
    assert_eq!(stage.subscription().await.1, [GROUP], "one product's trouble is not another's");

    stage.post("/admin/keys", json!({"id": "testid", "permissions": ["iot:sub", "iot:Query*"]})).await;
    let more = wanted(Manage::Union, &[MessageType::DeviceData, MessageType::OtaJob]);
    stage.wants(&telemetry, GROUP, &keys, more.clone());
    let denied = "grant them iot:UpdateSubscribeRelation";
    stage.until_told(&telemetry, |seen| differs_by(seen, Reason::PermissionDenied, denied)).await;

    stage.post("/admin/keys", json!({"id": "testid", "permissions": ["iot:sub"]})).await;
    let lost = |seen: &PlatformGroup| matches!(&seen.subscriptions, Some(Synced::Unknown(words)) if words.contains("iot:QuerySubscribeRelation"));
    stage.until_told(&telemetry, lost).await;
}

#[tokio::test]
async fn subscriptions_are_kept_in_mind_through_throttling_and_outages() {
    let mut stage = stage().await;
    let (telemetry, keys) = (name("telemetry"), Keys::of("testsecret"));
    stage.post("/admin/api", fault("throttle", 0.3)).await;
    stage.wants(&telemetry, GROUP, &keys, wanted(Manage::Union, &[MessageType::DeviceData]));
    stage.until_told(&telemetry, |seen| seen.subscriptions == Some(Synced::Yes)).await;
    assert_eq!(stage.calls().await.get("CreateSubscribeRelation"), Some(&1));
    stage.post("/admin/api", fault("unavailable", 600.0)).await;
    stage.until_told(&telemetry, |seen| matches!(seen.subscriptions, Some(Synced::Unknown(_)))).await;
    stage.post("/admin/api", fault("unavailable", 0.0)).await;
    stage.until_told(&telemetry, |seen| seen.subscriptions == Some(Synced::Yes)).await;
}

#[tokio::test]
async fn a_subscription_is_made_whichever_way_the_platform_says_that_there_is_none() {
    for unsubscribed in ["Failure", "Empty"] {
        let rules = json!({"unsubscribed": unsubscribed, "callsPerSecond": 100_000, "figuresEvery": "0s"});
        let open_api: OpenApi = serde_json::from_value(rules).unwrap();
        let mut stage = Stage::set(Config { open_api, ..two_groups() }, hasty()).await;
        let (telemetry, keys) = (name("telemetry"), Keys::of("testsecret"));
        stage.wants(&telemetry, GROUP, &keys, wanted(Manage::Union, &[MessageType::DeviceData]));
        stage.until_told(&telemetry, |seen| seen.subscriptions == Some(Synced::Yes)).await;
        assert_eq!(stage.subscription().await, (vec!["DeviceDataFlag".to_owned()], vec![GROUP.to_owned()]));
    }
}
