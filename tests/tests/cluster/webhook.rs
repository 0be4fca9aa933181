//! Injection as a real API server asks for it. The chart is installed by Helm; webhook and certificates are the
//! operator's own, in this process, with the rights of the chart's ServiceAccount and no others.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use sluice_operator::certificates::{Certificates, Keeper, Listener, SECRET, trust};
use sluice_operator::inject::{ADMIN_PORT, Resources, Settings};
use sluice_operator::webhook::{self, Answer, Webhook};
use sluice_tests::cluster::{Cluster, Options, until};
use sluice_tests::helm::Release;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const OPERATOR: &str = "sluice-system";
const BOUND: Duration = Duration::from_secs(30);

/// A cluster in which the chart is installed, and the webhook beside it.
struct Installed {
    cluster: Cluster,
    client: Client,
    operator: Client,
    answers: Arc<Mutex<Vec<Answer>>>,
    certificates: Certificates,
    address: SocketAddr,
    tasks: JoinSet<()>,
}

impl Installed {
    async fn start() -> Result<Self> {
        let cluster = Cluster::start(Options::default()).await?;
        let client = cluster.client().await?;
        let tcp = TcpListener::bind("127.0.0.1:0").await?;
        let address = tcp.local_addr()?;
        Release::new(&cluster, OPERATOR, "sluice").install(&values(address, 5))?;

        let operator = cluster.account(OPERATOR, "sluice").await?.client().await?;
        let keeper = Keeper::open(operator.clone(), OPERATOR, vec!["127.0.0.1".into()]).await?;
        let certificates = keeper.certificates();
        let listener = Listener::new(tcp, certificates.server_config(&[b"http/1.1"])?)?;
        let answers = Arc::new(Mutex::new(Vec::new()));
        let heard = answers.clone();
        let webhook = Webhook {
            settings: settings(),
            certificates: certificates.clone(),
            count: Arc::new(move |answer| {
                if let Ok(mut heard) = heard.lock() {
                    heard.push(answer);
                }
            }),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(axum::serve(listener, webhook::router(webhook)).await) });
        let telling = trust::keep(operator.clone(), "sluice".into(), certificates.clone(), |_| {});
        tasks.spawn(async move { match telling.await {} });
        let installed = Self { cluster, client, operator, answers, certificates, address, tasks };
        installed.is_trusted().await?;
        Ok(installed)
    }

    /// Waits until the API server is told to trust what the webhook shows.
    async fn is_trusted(&self) -> Result<()> {
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        until("the API server is told whom to trust", BOUND, || async {
            let found = configurations.get("sluice").await?;
            let told = found.webhooks.iter().flatten().all(|webhook| {
                let bundle = webhook.client_config.ca_bundle.as_ref();
                bundle.is_some_and(|bundle| bundle.0 == self.certificates.served().bundle.as_bytes())
            });
            Ok(told.then_some(()))
        })
        .await
    }

    fn answers(&self) -> Vec<Answer> {
        self.answers.lock().map(|answers| answers.clone()).unwrap_or_default()
    }

    /// A namespace with labels of its own.
    async fn namespace(&self, name: &str, labels: Value) -> Result<Api<Pod>> {
        let object = serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}}))?;
        Api::<Namespace>::all(self.client.clone()).create(&PostParams::default(), &object).await?;
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(self.client.clone(), name);
        until("there is a ServiceAccount", BOUND, || async { Ok(accounts.get_opt("default").await?) }).await?;
        Ok(Api::namespaced(self.client.clone(), name))
    }

    /// Fails if the API server has refused the operator anything.
    async fn check_rights(&self) -> Result<()> {
        self.cluster.audit().mark(&self.client).await?;
        let refused = self.cluster.audit().refused(&format!("system:serviceaccount:{OPERATOR}:sluice"))?;
        ensure!(refused.is_empty(), "the chart's rights do not suffice: {refused:#?}");
        Ok(())
    }
}

fn values(webhook: SocketAddr, timeout_seconds: u32) -> Value {
    json!({
        "replicas": 0,
        "webhook": {"url": format!("https://{webhook}/mutate"), "timeoutSeconds": timeout_seconds},
        "broker": {"addresses": ["127.0.0.1:8443"]},
    })
}

fn settings() -> Settings {
    Settings {
        image: "sluice-sidecar".into(),
        image_pull_policy: None,
        brokers: vec!["127.0.0.1:8443".into()],
        broker_ca: String::new(),
        admin_port: ADMIN_PORT,
        resources: Resources::default(),
    }
}

fn pod(name: &str, labelled: bool, spec: &Value) -> Result<Pod> {
    let labels = if labelled { json!({"sluice.dev/consumer-group": "telemetry"}) } else { json!({}) };
    Ok(serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "spec": spec}))?)
}

fn app() -> Value {
    json!({"containers": [{"name": "app", "image": "app"}]})
}

async fn create(pods: &Api<Pod>, pod: &Pod) -> Result<Value> {
    let created = pods.create(&PostParams::default(), pod).await?;
    Ok(serde_json::to_value(created)?)
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|item| item["name"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labelled_pods_get_the_sidecar_and_the_api_server_takes_it() {
    let installed = Installed::start().await.unwrap();
    let pods = installed.namespace("plant-a", json!({})).await.unwrap();

    // Labelled and unlabelled.
    let created = create(&pods, &pod("labelled", true, &app()).unwrap()).await.unwrap();
    assert_eq!(names(&created["spec"]["initContainers"]), ["sluice"]);
    assert_eq!(created["spec"]["containers"][0]["env"][0]["name"], "SLUICE_ADDR");
    assert_eq!(
        created["metadata"]["annotations"]["sluice.dev/broker-ca"],
        installed.certificates.served().bundle.as_str()
    );
    assert_eq!(created["status"]["qosClass"], "BestEffort");
    // Kubernetes has given the application the token of the pod's account, and the sidecar none.
    let token = |container: &Value| names(&container["volumeMounts"]).iter().any(|name| name.starts_with("kube-api"));
    assert!(token(&created["spec"]["containers"][0]) && !token(&created["spec"]["initContainers"][0]));
    // Asked again after others have changed the pod, nothing is left to do.
    assert_eq!(installed.answers()[..1], [Answer::Injected]);
    assert!(installed.answers()[1..].iter().all(|answer| *answer == Answer::Unchanged));
    let asked = installed.answers().len();
    let plain = create(&pods, &pod("plain", false, &app()).unwrap()).await.unwrap();
    assert_eq!(plain["spec"].get("initContainers"), None);
    assert_eq!(installed.answers().len(), asked, "nobody asks about a pod without the label");

    // Twice: what was injected once is created again as it is.
    let mut again: Pod = serde_json::from_value(created.clone()).unwrap();
    again.metadata.name = Some("again".into());
    (again.metadata.resource_version, again.metadata.uid, again.status) = (None, None, None);
    let again = create(&pods, &again).await.unwrap();
    assert_eq!(again["spec"]["initContainers"], created["spec"]["initContainers"]);
    assert_eq!(again["spec"]["containers"], created["spec"]["containers"]);

    // Ephemeral containers come into an injected pod without anybody being asked.
    let asked = installed.answers().len();
    let change = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "debug"}]}});
    let patch = Patch::Strategic(change);
    let debugged =
        pods.patch_subresource("ephemeralcontainers", "labelled", &PatchParams::default(), &patch).await.unwrap();
    let debugged = serde_json::to_value(debugged).unwrap();
    assert_eq!(names(&debugged["spec"]["ephemeralContainers"]), ["debug"]);
    assert_eq!(debugged["spec"]["initContainers"], created["spec"]["initContainers"]);
    assert_eq!(installed.answers().len(), asked);

    // Guaranteed and Burstable stay what they are.
    let amounts = json!({"cpu": "100m", "memory": "64Mi"});
    for (name, resources, class) in [
        ("guaranteed", json!({"limits": amounts}), "Guaranteed"),
        ("burstable", json!({"requests": {"cpu": "100m"}}), "Burstable"),
    ] {
        let spec = json!({"containers": [{"name": "app", "image": "app", "resources": resources}]});
        let created = create(&pods, &pod(name, true, &spec).unwrap()).await.unwrap();
        assert_eq!(created["status"]["qosClass"], class);
        assert_eq!(names(&created["spec"]["initContainers"]), ["sluice"]);
    }

    // Init containers and volumes of the same names.
    let spec = json!({
        "initContainers": [
            {"name": "prepare", "image": "app"}, {"name": "proxy", "image": "app", "restartPolicy": "Always"},
        ],
        "volumes": [{"name": "sluice-socket", "emptyDir": {}}, {"name": "sluice-identity", "emptyDir": {}}],
        "containers": [{
            "name": "app", "image": "app", "volumeMounts": [{"name": "sluice-socket", "mountPath": "/run/sluice"}],
        }],
    });
    let created = create(&pods, &pod("crowded", true, &spec).unwrap()).await.unwrap();
    assert_eq!(names(&created["spec"]["initContainers"]), ["prepare", "proxy", "sluice"]);
    let volumes = names(&created["spec"]["volumes"]);
    for name in ["sluice-socket", "sluice-identity", "sluice-socket-2", "sluice-identity-2"] {
        assert_eq!(volumes.iter().filter(|volume| **volume == name).count(), 1, "{volumes:?}");
    }

    // Words for who asks for what can't be.
    let mut misspelt = pod("misspelt", true, &app()).unwrap();
    misspelt.labels_mut().insert("sluice.dev/consumer-group".into(), "Telemetry".into());
    let refused = create(&pods, &misspelt).await.unwrap_err().to_string();
    assert!(refused.contains("\"Telemetry\", which can't be the name of a ConsumerGroup"), "{refused}");

    installed.check_rights().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_a_restricted_namespace_are_still_admitted() {
    let installed = Installed::start().await.unwrap();
    let restricted = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let pods = installed.namespace("strict", restricted).await.unwrap();
    let spec = |user: &Value| {
        json!({
            "securityContext": {"runAsNonRoot": true, "runAsUser": user, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "app", "image": "app",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        })
    };
    for (name, user) in [("image-user", Value::Null), ("own-user", json!(1000))] {
        let created = create(&pods, &pod(name, true, &spec(&user)).unwrap()).await.unwrap();
        assert_eq!(names(&created["spec"]["initContainers"]), ["sluice"]);
    }
    // The level is really enforced.
    let refused = create(&pods, &pod("lax", true, &app()).unwrap()).await.unwrap_err().to_string();
    assert!(refused.contains("violates PodSecurity") && !refused.contains("\"sluice\""), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authority_is_made_once_kept_and_trusted() {
    let installed = Installed::start().await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(installed.client.clone(), OPERATOR);
    let made = secrets.get(SECRET).await.unwrap();

    // Replicas that start later read it; those that start at once when there is none agree.
    secrets.delete(SECRET, &DeleteParams::default()).await.unwrap();
    let open = || Keeper::open(installed.operator.clone(), OPERATOR, vec!["127.0.0.1".into()]);
    let (a, b, c) = tokio::try_join!(open(), open(), open()).unwrap();
    let bundles = [&a, &b, &c].map(|keeper| keeper.certificates().served().bundle.clone());
    assert!(bundles.iter().all(|bundle| *bundle == bundles[0]));
    let fresh = secrets.get(SECRET).await.unwrap();
    assert_ne!(fresh.data, made.data);

    // What vanishes is written again by who remembers it.
    secrets.delete(SECRET, &DeleteParams::default()).await.unwrap();
    let mut remembering = b;
    remembering.look(Timestamp::now()).await.unwrap();
    assert_eq!(secrets.get(SECRET).await.unwrap().data, fresh.data);

    // Its successor is trusted before it signs, in every replica.
    let later = Timestamp::now() + SignedDuration::from_hours(8 * 365 * 24 + 24);
    remembering.look(later).await.unwrap();
    let mut other = c;
    other.look(Timestamp::now()).await.unwrap();
    let bundle = other.certificates().served().bundle.clone();
    assert!(bundle.starts_with(&bundles[0]) && bundle.len() > bundles[0].len());
    assert_eq!(remembering.certificates().served().bundle, bundle);

    // What can't be read is left as it is, and said.
    let garbage = json!({"data": {"ca.crt": "eA=="}});
    secrets.patch(SECRET, &PatchParams::default(), &Patch::Merge(garbage)).await.unwrap();
    let error = open().await.unwrap_err().to_string();
    assert!(error.contains("can't be used: the entry ca.crt") && error.contains("restore it"), "{error}");
    let error = other.look(Timestamp::now()).await.unwrap_err().to_string();
    assert!(error.contains("can't be used"), "{error}");

    installed.check_rights().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_somebody_resets_is_put_right() {
    let mut installed = Installed::start().await.unwrap();
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(installed.client.clone());
    let reset = json!([{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]);
    let patch = Patch::Json::<()>(serde_json::from_value(reset).unwrap());
    configurations.patch("sluice", &PatchParams::default(), &patch).await.unwrap();
    installed.is_trusted().await.unwrap();

    // An upgrade of the chart does not touch it.
    Release::new(&installed.cluster, OPERATOR, "sluice").upgrade(&values(installed.address, 3)).unwrap();
    let upgraded = configurations.get("sluice").await.unwrap();
    let webhook = &upgraded.webhooks.unwrap()[0];
    assert_eq!(webhook.timeout_seconds, Some(3));
    assert!(webhook.client_config.ca_bundle.is_some());

    // And while nothing has changed, nothing is written.
    let user = format!("system:serviceaccount:{OPERATOR}:sluice");
    let mark = installed.cluster.audit().mark(&installed.client).await.unwrap();
    let pods = installed.namespace("plant-b", json!({})).await.unwrap();
    create(&pods, &pod("labelled", true, &app()).unwrap()).await.unwrap();
    installed.cluster.audit().mark(&installed.client).await.unwrap();
    assert!(installed.cluster.audit().writes(&user, mark).unwrap().is_empty());
    installed.check_rights().await.unwrap();
    assert!(installed.tasks.try_join_next().is_none(), "webhook and upkeep go on");
}
