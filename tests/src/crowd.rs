//! A crowd of ConsumerGroups on a [`Stage`]: teams, each with an account and an instance of the platform and a namespace of
//! its own, and a Deployment for every ConsumerGroup. No kubelet: the pods are objects, as far as the operator is
//! concerned, and what runs in them is whatever speaks to the broker in their name.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};
use sluice_crds::ConsumerGroup;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::cluster::Namespace;
use crate::cluster::audit::Mark;
use crate::stage::Stage;

/// Requests to the API server at a time: as many as make it work on two cores.
const AT_ONCE: usize = 16;

/// How many there are of what.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Accounts of the platform, each with one instance, in a namespace of its own.
    pub teams: usize,
    /// ConsumerGroups of each, each for a consumer group of its own.
    pub groups: usize,
    /// Pods of each.
    pub pods: usize,
}

/// The ConsumerGroups, and what is seen of them.
#[derive(Debug)]
pub struct Crowd<'stage> {
    stage: &'stage Stage,
    size: Size,
    teams: Vec<Namespace<'stage>>,
    board: Board,
}

/// One ConsumerGroup as it was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its generation.
    pub generation: i64,
    /// The generation that its status is of.
    pub observed: Option<i64>,
    /// The platform has been seen to take its credentials.
    pub verified: bool,
}

impl Seen {
    /// The status is of the present generation.
    pub fn is_settled(self) -> bool {
        self.observed == Some(self.generation)
    }
}

impl Size {
    /// The emulator's configuration for such a crowd, with the platform's own limits.
    pub fn platform(self) -> String {
        let mut yaml = String::from("instances:\n");
        for team in 0..self.teams {
            let groups: Vec<_> = (0..self.groups).map(group_id).collect();
            let (id, account) = (instance(team), account(team));
            let _ = writeln!(yaml, "- {{id: {id}, account: '{account}', groups: [{}]}}", groups.join(", "));
        }
        yaml.push_str("accessKeys:\n");
        for team in 0..self.teams {
            let (key, account) = (access_key(team), account(team));
            let _ = writeln!(yaml, "- {{id: {key}, secret: {key}-secret, account: '{account}'}}");
        }
        yaml
    }

    /// All ConsumerGroups.
    pub fn all(self) -> usize {
        self.teams * self.groups
    }
}

fn instance(team: usize) -> String {
    format!("iot-team-{team}")
}

fn account(team: usize) -> String {
    format!("{}", 1_000_000_000_000_000 + team)
}

fn access_key(team: usize) -> String {
    format!("key-{team}")
}

fn group_id(number: usize) -> String {
    format!("crowd-{number}")
}

/// The name of a ConsumerGroup, and of its Deployment.
fn name(number: usize) -> String {
    format!("telemetry-{number}")
}

impl<'stage> Crowd<'stage> {
    /// Namespaces with credentials, and the Deployments with their pods. The emulator must be one with [`Size::platform`],
    /// and an operator must serve the webhook.
    pub async fn gather(stage: &'stage Stage, size: Size) -> Result<Self> {
        let authority = fs::read_to_string(stage.emulator.authority())?;
        let mut teams = Vec::new();
        for team in 0..size.teams {
            let namespace = stage.cluster.namespace(&format!("team-{team}")).await?;
            let key = access_key(team);
            let keys = json!({"accessKeyId": key, "accessKeySecret": format!("{key}-secret")});
            namespace.create::<Secret>(json!({"metadata": {"name": "iot-access-key"}, "stringData": keys})).await?;
            let bundle = json!({"metadata": {"name": "iot-ca"}, "data": {"ca.crt": authority}});
            namespace.create::<ConfigMap>(bundle).await?;
            teams.push(namespace);
        }
        let board = Board::watch(Api::all(stage.cluster.client().await?));
        let crowd = Self { stage, size, teams, board };
        crowd
            .each(async |team, number| crowd.teams[team].create(crowd.deployment(number)).await.map(drop::<Deployment>))
            .await?;
        let end = Instant::now() + Duration::from_mins(10);
        loop {
            let pods = crowd.pods().await?.len();
            if pods == size.all() * size.pods {
                return Ok(crowd);
            }
            ensure!(Instant::now() < end, "only {pods} pods have been made");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Creates the ConsumerGroups.
    pub async fn declare(&self) -> Result<()> {
        self.each(async |team, number| {
            self.teams[team].create(self.document(team, number)?).await.map(drop::<ConsumerGroup>)
        })
        .await
    }

    /// All pods, with the ConsumerGroup that each is for.
    pub async fn pods(&self) -> Result<Vec<(&Namespace<'stage>, Pod)>> {
        let mut all = Vec::new();
        for team in &self.teams {
            let pods = team.api::<Pod>().list(&ListParams::default().labels("sluice.dev/consumer-group")).await?;
            all.extend(pods.items.into_iter().map(|pod| (team, pod)));
        }
        Ok(all)
    }

    /// What is seen of the ConsumerGroups.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Waits until every ConsumerGroup is seen as `wanted`.
    pub async fn all(&self, what: &str, bound: Duration, wanted: impl Fn(Seen) -> bool) -> Result<()> {
        let all = self.size.all();
        self.board
            .until(what, bound, |seen| (seen.values().filter(|seen| wanted(**seen)).count() == all).then_some(()))
            .await
    }

    /// Changes the spec of one ConsumerGroup, and waits until its status is of the change: how long that took, from before
    /// the request until the watch told of it.
    pub async fn change(&self, number: usize, value: u32) -> Result<Duration> {
        let namespace = &self.teams[number % self.size.teams];
        let name = name(number / self.size.teams % self.size.groups);
        let change = json!({"spec": {"delivery": {"maxInFlight": value}}});
        let begun = Instant::now();
        let groups: Api<ConsumerGroup> = namespace.api();
        let changed = groups.patch(&name, &PatchParams::default(), &Patch::Merge(&change)).await?;
        let generation = changed.metadata.generation.context("an object without a generation")?;
        let key = (namespace.name().to_owned(), name);
        let settled = |seen: &HashMap<_, Seen>| seen.get(&key)?.observed.filter(|observed| *observed >= generation);
        self.board.until("the change is observed", Duration::from_mins(1), settled).await?;
        Ok(begun.elapsed())
    }

    /// What the operator has written from `since` on, but for Leases, by resource.
    pub async fn writes(&self, since: Mark) -> Result<Vec<(String, usize)>> {
        let audit = self.stage.cluster.audit();
        audit.mark(&self.stage.cluster.client().await?).await?;
        let writes = audit.writes(self.stage.account().user(), since)?;
        Ok(writes.into_iter().filter(|(resource, _)| resource != "leases.coordination.k8s.io").collect())
    }

    async fn each(&self, work: impl AsyncFn(usize, usize) -> Result<()>) -> Result<()> {
        let numbers = (0..self.size.groups).flat_map(|number| (0..self.size.teams).map(move |team| (team, number)));
        let work = &work;
        stream::iter(numbers)
            .map(|(team, number)| async move { work(team, number).await })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    fn deployment(&self, number: usize) -> Value {
        let name = name(number);
        json!({
            "metadata": {"name": name},
            "spec": {
                "replicas": self.size.pods,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name, "sluice.dev/consumer-group": name}},
                    "spec": {
                        // Nobody looks for a node for them.
                        "schedulerName": "none",
                        "containers": [{"name": "app", "image": "application:1"}],
                    },
                },
            },
        })
    }

    fn document(&self, team: usize, number: usize) -> Result<Value> {
        let name = name(number);
        Ok(json!({
            "apiVersion": "sluice.dev/v1alpha1",
            "kind": "ConsumerGroup",
            "metadata": {"name": name},
            "spec": {
                "groupId": group_id(number),
                "instance": {
                    "id": instance(team),
                    "accountId": account(team),
                    "region": "cn-shanghai",
                    "amqpHost": "127.0.0.1",
                    "amqpPort": self.stage.emulator.port()?,
                    "apiEndpoint": self.stage.emulator.api(),
                    "caBundle": {"configMapKeyRef": {"name": "iot-ca", "key": "ca.crt"}},
                },
                "credentials": {"secretRef": {"name": "iot-access-key"}},
                "workload": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}},
                "scaling": {"minReplicas": self.size.pods, "maxReplicas": self.size.pods},
            },
        }))
    }
}

/// All ConsumerGroups, as a watch tells of them.
#[derive(Debug)]
pub struct Board {
    seen: Arc<Mutex<HashMap<(String, String), Seen>>>,
    changed: watch::Receiver<()>,
    task: AbortHandle,
}

impl Board {
    fn watch(api: Api<ConsumerGroup>) -> Self {
        let seen = Arc::<Mutex<HashMap<_, _>>>::default();
        let (tell, changed) = watch::channel(());
        let into = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut objects =
                std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff().applied_objects());
            while let Some(object) = objects.next().await {
                let Ok(object) = object else { continue };
                let status = object.status.as_ref();
                let seen = Seen {
                    generation: object.metadata.generation.unwrap_or_default(),
                    observed: status.and_then(|status| status.observed_generation),
                    verified: status.is_some_and(|status| status.conditions.iter().any(is_valid)),
                };
                let key = (object.metadata.namespace.unwrap_or_default(), object.metadata.name.unwrap_or_default());
                lock(&into).insert(key, seen);
                let _ = tell.send(());
            }
        });
        Self { seen, changed, task: task.abort_handle() }
    }

    /// Waits until `condition` finds something in what is seen.
    pub async fn until<T>(
        &self,
        what: &str,
        bound: Duration,
        condition: impl Fn(&HashMap<(String, String), Seen>) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + bound;
        let mut changed = self.changed.clone();
        loop {
            changed.mark_unchanged();
            if let Some(found) = condition(&lock(&self.seen)) {
                return Ok(found);
            }
            match timeout_at(end, changed.changed()).await {
                Ok(told) => told.context("the watch has ended")?,
                Err(_) => bail!("after {bound:?} it is not so that {what}"),
            }
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn is_valid(condition: &Condition) -> bool {
    condition.type_ == "CredentialsValid" && condition.status == "True"
}

fn lock<T>(seen: &Mutex<T>) -> MutexGuard<'_, T> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
