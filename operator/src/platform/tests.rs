//! The poller against the emulator's OpenAPI, over real connections. The clock is the real one, so times are shortened, and
//! no test depends on being fast.

mod figures;
mod pacing;
mod subscriptions;

use std::any::Any;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_cloud::credentials::AccessKey;
use sluice_cloud::endpoint::{Endpoint, EndpointPolicy};
use sluice_cloud::iot::Instance;
use sluice_cloud::pace::Rate;
use sluice_emulator::{Config, Draft, Emulator, OpenApi};
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::group::view::Platform as _;
use crate::time::Time;

const GROUP: &str = "DEFAULT_GROUP";
/// Longer than any test waits for anything.
const LONG: Duration = Duration::from_secs(600);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// As many calls as one likes, polls every 30 ms.
fn hasty() -> Timing {
    Timing {
        rate: Rate::try_new(millis(5), 2).unwrap(),
        every: millis(30),
        fresh: millis(500),
        retry: millis(30),
        retry_at_most: millis(60),
        probe: LONG,
        keys: millis(20),
        subscriptions: millis(100),
        tell: millis(50),
    }
}

/// Keys that a test changes.
struct Keys(Mutex<Result<ApiKey, String>>);

impl Keys {
    fn of(secret: &str) -> Arc<Self> {
        let keys = Arc::new(Self(Mutex::new(Err("there are none yet".into()))));
        keys.set(secret, 1);
        keys
    }

    fn set(&self, secret: &str, version: u64) {
        let key = AccessKey::try_new("testid", secret.into(), None).unwrap();
        *lock(&self.0) = Ok(ApiKey { key, version });
    }
}

impl ApiKeys for Keys {
    fn current(&self) -> Result<ApiKey, String> {
        lock(&self.0).clone()
    }

    fn refused(&self, _: &AccessKey) {}

    fn is(&self, other: &dyn ApiKeys) -> bool {
        (other as &dyn Any).downcast_ref::<Self>().is_some_and(|other| std::ptr::eq(other, self))
    }
}

/// A poller on a replica that leads, and the platform.
struct Stage {
    emulator: Emulator,
    poller: Poller,
    clock: Clock,
    leadership: watch::Sender<Leadership>,
    nudges: UnboundedReceiver<GroupRef>,
}

impl Stage {
    async fn set(config: Config, timing: Timing) -> Self {
        let emulator = Emulator::start(config).await.unwrap();
        let policy = EndpointPolicy::with([emulator.api_addr().to_string().as_str()]).unwrap();
        let clock = Clock::start();
        let leads = Leadership { valid_until: Time(u64::MAX), leader: None, term: 1 };
        let (leadership, watched) = watch::channel(leads);
        let (nudge, nudges) = Nudge::channel();
        let poller = Poller::new(Clients::new(Arc::new(policy)), clock, watched, nudge, Metrics::default(), timing);
        Self { emulator, poller, clock, leadership, nudges }
    }

    /// One where no limit but the poller's own is met, with figures of the moment.
    async fn calm() -> Self {
        Self::set(config(), hasty()).await
    }

    fn target(&self, group_id: &str, keys: &Arc<Keys>) -> Target {
        let subject = Subject {
            account: "1000000000000001".into(),
            endpoint: Endpoint::parse(&self.emulator.api_addr().to_string(), 443).unwrap(),
            instance: Instance { region: "cn-shanghai".into(), id: Some("iot-emulator".into()) },
            group_id: group_id.into(),
            ca: Some(self.emulator.ca_pem().into()),
        };
        Target { subject, keys: keys.clone(), subscriptions: None }
    }

    fn seen(&self, name: &GroupRef) -> PlatformGroup {
        self.poller.group(name).unwrap_or_default()
    }

    fn backlog(&self, name: &GroupRef) -> Option<u64> {
        self.seen(name).figures.map(|figures| figures.backlog)
    }

    /// Waits until the pipeline could see it.
    async fn until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let patience = async {
            while !condition(self) {
                tokio::time::sleep(millis(2)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(30), patience).await.is_ok(), "never came true: {what}");
    }

    /// Waits until the pipeline is told of a ConsumerGroup, after which `condition` holds.
    async fn until_told(&mut self, name: &GroupRef, mut condition: impl FnMut(&PlatformGroup) -> bool) {
        let patience = async {
            loop {
                let told = self.nudges.recv().await.unwrap();
                if told == *name && condition(&self.seen(name)) {
                    return;
                }
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(30), patience).await;
        assert!(told.is_ok(), "the pipeline was not told: {:?}", self.seen(name));
    }

    fn publish(&self, messages: usize) {
        let draft = Draft { topic: "/pk/dn/user/get".into(), payload: (&b"x"[..]).into(), ..Draft::default() };
        self.emulator.hub().publish(GROUP, &vec![draft; messages]).unwrap();
    }

    async fn get(&self, path: &str) -> Value {
        self.ask(path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.ask(path, Some(body.to_string())).await
    }

    async fn ask(&self, path: &str, body: Option<String>) -> Value {
        let url = format!("http://{}{path}", self.emulator.http_addr());
        let answer = tokio::task::spawn_blocking(move || {
            let response = match body {
                Some(body) => ureq::post(&url).send(body),
                None => ureq::get(&url).call(),
            };
            response.unwrap().body_mut().read_json().unwrap()
        });
        answer.await.unwrap()
    }

    /// How many calls of each action there were, whatever became of them.
    async fn calls(&self) -> HashMap<String, u64> {
        let outcomes = ["succeeded", "failed", "refused", "throttled", "unavailable"];
        let counted = self.get("/admin/api").await;
        let lines = counted["calls"].as_array().unwrap().iter();
        lines.fold(HashMap::new(), |mut calls, line| {
            let action = line["action"].as_str().unwrap_or_default().to_owned();
            *calls.entry(action).or_default() += outcomes.iter().map(|name| line[*name].as_u64().unwrap()).sum::<u64>();
            calls
        })
    }

    async fn polls(&self) -> u64 {
        self.calls().await.get("QueryConsumerGroupStatus").copied().unwrap_or_default()
    }
}

fn config() -> Config {
    let open_api = OpenApi { figures_every: Duration::ZERO, calls_per_second: 100_000, ..OpenApi::default() };
    Config { open_api, ..Config::on_free_ports() }
}

fn name(name: &str) -> GroupRef {
    GroupRef::new("plant-a", name)
}

fn fault(action: &str, seconds: f64) -> Value {
    json!({"action": action, "product": "Iot", "seconds": seconds})
}
