//! All of Sluice on one stage: a control plane, the chart installed by Helm, replicas of the operator as processes with
//! exactly the rights of the chart's `ServiceAccount`, and the emulator as the platform. Namespaces of it ([`Plant`]) have
//! credentials, a kubelet that knows the sidecar's image and the example application, and `ConsumerGroup`s.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_crds::ConsumerGroup;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::cluster::kubelet::{self, Image, Images, Kubelet};
use crate::cluster::{Account, Cluster, Gate, Namespace, Options, until};
use crate::emulator::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator, INSTANCE};
use crate::helm::Release;
use crate::process::Process;
use crate::{binaries, ports};

/// The operator's namespace, and the name of the release.
pub const SYSTEM: &str = "sluice-system";
const RELEASE: &str = "sluice";

/// How long anything may take. A new leader first waits for the Lease of the one before it (15 s), and then gives no permits
/// for 65 s; everything else ought to take some seconds.
pub const BOUND: Duration = Duration::from_secs(180);

/// The platform of the shared stage: a group for each test, figures of the moment.
const SHARED_GROUPS: &str = "
groups: [DEFAULT_GROUP, g-consume, g-change, g-rotate, g-wrong, g-role, g-oidc, g-roll, g-rights, g-shared, g-many, g-burst, g-idle, g-drain, g-words,
  g-manual, g-deleted-node, g-fenced-node, g-deleted-pod, g-moved-from, g-moved-to, g-left, g-broken, g-whole]
openApi: {figuresEvery: 0s, callsPerSecond: 100}
";

/// What operators log if a test does not say.
const LOG: &str = "info,sluice_operator=debug";

/// How many replicas of the operator a stage has places for.
const REPLICAS: usize = 2;

/// Sluice, installed. Dropping it ends all of it.
#[derive(Debug)]
pub struct Stage {
    /// The control plane.
    pub cluster: Cluster,
    /// The platform.
    pub emulator: Emulator,
    account: Account,
    places: Vec<Place>,
    directory: TempDir,
}

/// Where a replica listens.
#[derive(Debug, Clone)]
struct Place {
    broker: u16,
    webhook: u16,
}

/// A replica of the operator. Dropping it kills it.
#[derive(Debug)]
pub struct Operator {
    process: Process,
    admin: SocketAddr,
}

/// The line that the operator prints when it listens.
#[derive(Debug, Deserialize)]
struct Ready {
    admin: SocketAddr,
}

impl Stage {
    /// Installs everything but the operator's processes. The emulator is configured in YAML (empty: the platform's own
    /// limits and times).
    pub async fn set(emulator: &str) -> Result<Self> {
        Self::set_on(Cluster::start(Options::default()).await?, emulator).await
    }

    /// The stage that the tests of this process share, with one operator. It is for tests that disturb nobody else.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<(Stage, Operator)> = OnceCell::const_new();
        let start = async || {
            let stage = Self::set(SHARED_GROUPS).await?;
            let operator = stage.operator(0).await?;
            // Whoever starts another one does not start its leader.
            until("the operator leads", BOUND, || async {
                Ok((operator.metric("sluice_operator_leader", "")? > 0.0).then_some(()))
            })
            .await?;
            anyhow::Ok((stage, operator))
        };
        SHARED.get_or_try_init(start).await.map(|(stage, _)| stage)
    }

    /// The same on this control plane, which must be its own.
    pub async fn set_on(cluster: Cluster, emulator: &str) -> Result<Self> {
        let emulator = Emulator::start_with(emulator)?;
        let places = (0..REPLICAS)
            .map(|_| Ok(Place { broker: ports::free()?, webhook: ports::free()? }))
            .collect::<Result<Vec<_>>>()?;
        let brokers: Vec<_> = places.iter().map(|place| format!("127.0.0.1:{}", place.broker)).collect();
        let values = json!({
            "replicas": 0,
            "broker": {"addresses": brokers},
            "webhook": {"url": format!("https://127.0.0.1:{}/mutate", places[0].webhook)},
            "workloadIdentity": {"enabled": true},
            "allowEndpoints": [format!("127.0.0.1:{}", emulator.port()?), emulator.api()],
        });
        Release::new(&cluster, SYSTEM, RELEASE).install(&values)?;
        let account = cluster.account(SYSTEM, RELEASE).await?;
        let directory = tempfile::tempdir()?;
        Ok(Self { cluster, emulator, account, places, directory })
    }

    /// Starts a replica of the operator, 0 or 1, with the arguments of the chart's Deployment, and waits until it serves.
    /// The webhook is that of replica 0.
    pub async fn operator(&self, replica: usize) -> Result<Operator> {
        self.operator_that_logs(replica, LOG).await
    }

    /// The same with another `SLUICE_LOG`.
    pub async fn operator_that_logs(&self, replica: usize, log: &str) -> Result<Operator> {
        self.start_operator(replica, log, self.account.kubeconfig()).await
    }

    /// The same with all that it asks of the API server going through a gate.
    pub async fn operator_behind(&self, gate: &Gate, replica: usize) -> Result<Operator> {
        let mut kubeconfig: Value = serde_json::from_slice(&fs::read(self.account.kubeconfig())?)?;
        kubeconfig["clusters"][0]["cluster"] = json!({"server": gate.url()});
        let path = self.directory().join("gate.kubeconfig");
        fs::write(&path, kubeconfig.to_string())?;
        self.start_operator(replica, LOG, &path).await
    }

    async fn start_operator(&self, replica: usize, log: &str, kubeconfig: &Path) -> Result<Operator> {
        let place = self.places.get(replica).context("there is no place for this replica")?;
        let deployments: Api<Deployment> = Api::namespaced(self.cluster.client().await?, SYSTEM);
        let installed = deployments.get(RELEASE).await?;
        let pod = installed.spec.and_then(|spec| spec.template.spec).context("the Deployment has no pods")?;
        let arguments = pod.containers.into_iter().next().and_then(|container| container.args).unwrap_or_default();
        let mut command = Command::new(binaries::operator()?);
        command.env_clear();
        // Addresses are those of this machine; everything else is as installed.
        for argument in arguments {
            let here = match argument.split_once('=').map_or(argument.as_str(), |(name, _)| name) {
                "--broker" => format!("--broker=127.0.0.1:{}", place.broker),
                "--webhook" => format!("--webhook=127.0.0.1:{}", place.webhook),
                "--admin" => "--admin=127.0.0.1:0".to_owned(),
                "--log-format" => "--log-format=text".to_owned(),
                _ => argument,
            };
            command.arg(here);
        }
        command.args(["--certificate-name", "127.0.0.1", "--identity", &format!("operator-{replica}")]);
        command.args(["--namespace", SYSTEM]);
        command.env("KUBECONFIG", kubeconfig).env("SLUICE_LOG", log);
        let mut process = Process::spawn(format!("operator {replica}"), &mut command)?;
        let line = process.next_line(BOUND)?;
        let ready: Ready = serde_json::from_str(&line).with_context(|| format!("the operator printed: {line}"))?;
        if replica == 0 {
            self.webhook_is_trusted().await?;
        }
        Ok(Operator { process, admin: ready.admin })
    }

    async fn webhook_is_trusted(&self) -> Result<()> {
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(self.cluster.client().await?);
        until("the API server is told to trust the webhook", BOUND, || async {
            let found = configurations.get(RELEASE).await?;
            let told = found.webhooks.iter().flatten().all(|webhook| webhook.client_config.ca_bundle.is_some());
            Ok(told.then_some(()))
        })
        .await
    }

    /// Where a replica's broker is.
    pub fn broker(&self, replica: usize) -> String {
        format!("127.0.0.1:{}", self.places[replica].broker)
    }

    /// The operator's ServiceAccount.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// A namespace with credentials and a kubelet.
    pub async fn plant(&self, prefix: &str) -> Result<Plant<'_>> {
        self.plant_with(prefix, kubelet::Options::default()).await
    }

    /// The same with a kubelet of one's own choice.
    pub async fn plant_with(&self, prefix: &str, options: kubelet::Options) -> Result<Plant<'_>> {
        let namespace = self.cluster.namespace(prefix).await?;
        let secret = json!({
            "metadata": {"name": "iot-access-key"},
            "stringData": {"accessKeyId": ACCESS_KEY_ID, "accessKeySecret": ACCESS_KEY_SECRET},
        });
        namespace.create::<Secret>(secret).await?;
        let authority = fs::read_to_string(self.emulator.authority())?;
        namespace.create::<ConfigMap>(json!({"metadata": {"name": "iot-ca"}, "data": {"ca.crt": authority}})).await?;
        let kubelet = namespace.kubelet_with(images()?, options).await?;
        Ok(Plant { stage: self, namespace, kubelet })
    }

    /// A slot table that is recorded, by the group that it is of.
    pub async fn table(&self, group_id: &str) -> Result<Option<Value>> {
        let tables: Api<ConfigMap> = Api::namespaced(self.cluster.client().await?, SYSTEM);
        let all = tables.list(&ListParams::default().labels("sluice.dev/slot-table=true")).await?;
        let parse = |table: &ConfigMap| {
            let text = table.data.as_ref()?.get("table")?;
            serde_json::from_str::<Value>(text).ok().filter(|table| table["group"]["groupId"] == group_id)
        };
        Ok(all.iter().find_map(parse))
    }

    /// Fails if the operator was refused anything.
    pub fn nothing_was_refused(&self) -> Result<()> {
        let mut refused = self.cluster.audit().refused(self.account.user())?;
        // A namespace that is going takes nothing new, from nobody: that is no lack of rights.
        refused.retain(|request| !request.response_status.message.contains("because it is being terminated"));
        ensure!(refused.is_empty(), "the operator was refused: {refused:#?}");
        Ok(())
    }

    /// A folder that lives as long as the stage.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Operator {
    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its metrics.
    pub fn metrics(&self) -> Result<String> {
        let mut answer = ureq::get(format!("http://{}/metrics", self.admin)).call()?;
        Ok(answer.body_mut().read_to_string()?)
    }

    /// A figure of its metrics: the sum of all lines of this name whose labels contain `label`.
    pub fn metric(&self, name: &str, label: &str) -> Result<f64> {
        let text = self.metrics()?;
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
        });
        Ok(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
    }
}

/// A namespace where things are consumed.
#[derive(Debug)]
pub struct Plant<'stage> {
    /// All of Sluice.
    pub stage: &'stage Stage,
    /// The namespace.
    pub namespace: Namespace<'stage>,
    /// Its kubelet.
    pub kubelet: Kubelet,
}

impl Plant<'_> {
    /// One more kubelet for the pods of this namespace.
    pub async fn another_kubelet(&self) -> Result<Kubelet> {
        self.namespace.kubelet(images()?).await
    }

    /// A `ConsumerGroup` of this name for a group of the emulator.
    pub fn document(&self, name: &str, group_id: &str) -> Result<Value> {
        Ok(json!({
            "apiVersion": "sluice.dev/v1alpha1",
            "kind": "ConsumerGroup",
            "metadata": {"name": name},
            "spec": {
                "groupId": group_id,
                "instance": {
                    "id": INSTANCE,
                    "region": "cn-shanghai",
                    "amqpHost": "127.0.0.1",
                    "amqpPort": self.stage.emulator.port()?,
                    "apiEndpoint": self.stage.emulator.api(),
                    "stsEndpoint": self.stage.emulator.api(),
                    "caBundle": {"configMapKeyRef": {"name": "iot-ca", "key": "ca.crt"}},
                },
                "credentials": {"secretRef": {"name": "iot-access-key"}},
            },
        }))
    }

    /// Creates a `ConsumerGroup`; `change` has a word in its spec.
    pub async fn group(&self, name: &str, group_id: &str, change: impl FnOnce(&mut Value)) -> Result<ConsumerGroup> {
        let mut document = self.document(name, group_id)?;
        change(&mut document["spec"]);
        self.namespace.create(document).await
    }

    /// Creates a Deployment of the example application with a sidecar for this `ConsumerGroup`.
    pub async fn workers(&self, name: &str, group: &str, replicas: i32, arguments: &[&str]) -> Result<Deployment> {
        let labels = json!({"app": name, "sluice.dev/consumer-group": group});
        let object = json!({
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "terminationGracePeriodSeconds": 30,
                        "containers": [{"name": "app", "image": "application:1", "args": arguments}],
                    },
                },
            },
        });
        self.namespace.create(object).await
    }

    /// Merges a change into a `ConsumerGroup`.
    pub async fn change(&self, name: &str, change: &Value) -> Result<ConsumerGroup> {
        Ok(self.namespace.api().patch(name, &PatchParams::default(), &Patch::Merge(change)).await?)
    }

    /// Waits until a condition of a `ConsumerGroup` has this status; returns its reason and message.
    pub async fn condition(&self, name: &str, kind: &str, status: &str) -> Result<(String, String)> {
        let groups: Api<ConsumerGroup> = self.namespace.api();
        until(&format!("{name} is {kind}={status}"), BOUND, || async {
            let conditions = groups.get_status(name).await?.status.map(|status| status.conditions).unwrap_or_default();
            let found = conditions.iter().find(|condition| condition.type_ == kind && condition.status == status);
            Ok(found.map(|condition| (condition.reason.clone(), condition.message.clone())))
        })
        .await
    }

    /// Waits until this many pods of a workload are ready.
    pub async fn ready(&self, workload: &str, count: usize) -> Result<Vec<Pod>> {
        until(&format!("{count} pods of {workload} are ready"), BOUND, || async {
            let pods = self.namespace.pods(&format!("app={workload}")).await?;
            let ready: Vec<Pod> = pods.into_iter().filter(is_ready).collect();
            Ok((ready.len() == count).then_some(ready))
        })
        .await
    }

    /// The names of its pods that hold a slot, by the table of a group.
    pub async fn holders(&self, group_id: &str) -> Result<BTreeSet<String>> {
        let table = self.stage.table(group_id).await?.unwrap_or_default();
        let holders = table["holders"].as_array().cloned().unwrap_or_default();
        let here = holders.iter().filter(|holder| holder["pod"]["namespace"] == self.namespace.name());
        Ok(here.filter_map(|holder| holder["pod"]["name"].as_str().map(str::to_owned)).collect())
    }

    /// A client of the administrator's.
    pub fn client(&self) -> Client {
        self.namespace.client()
    }
}

/// The images that pods of a stage are made of.
fn images() -> Result<Images> {
    Ok(Images::new()
        .with("sluice-sidecar", Image::program(binaries::sidecar()?).with_variable("SLUICE_LOG", "info"))
        .with("application", Image::program(binaries::example()?)))
}

/// Whether Kubernetes counts a pod as ready, and it is not about to go.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The names of pods.
pub fn names(pods: &[Pod]) -> Vec<String> {
    pods.iter().map(kube::ResourceExt::name_any).collect()
}
