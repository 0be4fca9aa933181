//! A namespace for one test, with kubelets of its own.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Event, Namespace as NamespaceObject, Pod, ServiceAccount};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::kubelet::{self, Images, Kubelet, Logs};
use super::{Account, Cluster, background, client, until};

/// How long Kubernetes may take to furnish a new namespace.
const FURNISH_BOUND: Duration = Duration::from_mins(1);

/// How long a failed test may take to collect what it shows.
const SHOW_BOUND: Duration = Duration::from_secs(10);

/// The label of nodes, and the node selector of pods: the namespace they belong to.
pub(super) const NODE_LABEL: &str = "sluice.dev/test-namespace";

/// A namespace that is deleted when the value is dropped. If the test has failed, what happened in it is printed
/// before.
pub struct Namespace<'cluster> {
    cluster: &'cluster Cluster,
    client: Client,
    name: String,
    logs: Mutex<Vec<Logs>>,
}

impl fmt::Debug for Namespace<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Namespace").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'cluster> Namespace<'cluster> {
    pub(super) async fn make(cluster: &'cluster Cluster, prefix: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);

        let name = format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let client = cluster.client().await?;
        let object: NamespaceObject = serde_json::from_value(json!({"metadata": {
            "name": name,
            "annotations": {"scheduler.alpha.kubernetes.io/node-selector": format!("{NODE_LABEL}={name}")},
        }}))?;
        Api::all(client.clone()).create(&PostParams::default(), &object).await?;
        let namespace = Self { cluster, client, name, logs: Mutex::default() };
        // Pods are refused before it is there.
        let accounts: Api<ServiceAccount> = namespace.api();
        until("the namespace has its ServiceAccount `default`", FURNISH_BOUND, || async {
            Ok(accounts.get_opt("default").await?)
        })
        .await?;
        Ok(namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that it is in.
    pub fn cluster(&self) -> &'cluster Cluster {
        self.cluster
    }

    /// A client of the administrator's.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The objects of one kind in it.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Creates an object in it from JSON.
    pub async fn create<K>(&self, object: serde_json::Value) -> Result<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K: Clone + fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
        K::DynamicType: Default,
    {
        let object: K = serde_json::from_value(object).context("the object is not of its kind")?;
        Ok(self.api().create(&PostParams::default(), &object).await?)
    }

    /// The pods that match a label selector (all for an empty one), by name.
    pub async fn pods(&self, selector: &str) -> Result<Vec<Pod>> {
        let mut pods = self.api::<Pod>().list(&ListParams::default().labels(selector)).await?.items;
        pods.sort_by_key(kube::ResourceExt::name_any);
        Ok(pods)
    }

    /// A ServiceAccount in it, created if need be, without any rights but those that the test binds to it.
    pub async fn account(&self, name: &str) -> Result<Account> {
        let accounts: Api<ServiceAccount> = self.api();
        if accounts.get_opt(name).await?.is_none() {
            self.create::<ServiceAccount>(json!({"metadata": {"name": name}})).await?;
        }
        self.cluster.account(&self.name, name).await
    }

    /// A kubelet for the pods of this namespace, with quick heartbeats and restarts.
    pub async fn kubelet(&self, images: Images) -> Result<Kubelet> {
        self.kubelet_with(images, kubelet::Options::default()).await
    }

    /// A kubelet for the pods of this namespace.
    pub async fn kubelet_with(&self, images: Images, options: kubelet::Options) -> Result<Kubelet> {
        let kubelet = Kubelet::start(self.cluster, &self.name, images, options).await?;
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).push(kubelet.logs());
        Ok(kubelet)
    }

    /// Prints what may explain a failure. The test's own runtime may be gone, and so may its kubelets.
    fn show(&self) {
        let (send, receive) = mpsc::channel();
        let (name, kubeconfig) = (self.name.clone(), std::fs::read(self.cluster.kubeconfig()));
        if let Ok(runtime) = background() {
            runtime.spawn(async move {
                let objects = async { describe(&client(kubeconfig?).await?, &name).await }.await;
                send.send(objects.unwrap_or_else(|error| format!("(cannot ask the API server: {error:#})")))
            });
        }
        let objects =
            receive.recv_timeout(SHOW_BOUND).unwrap_or_else(|_| "(the API server does not answer)".to_owned());
        eprintln!("=== namespace {}\n{objects}", self.name);
        for logs in self.logs.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            eprintln!("{}", logs.quote());
        }
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.show();
        }
        let (name, kubeconfig) = (self.name.clone(), std::fs::read(self.cluster.kubeconfig()));
        if let Ok(runtime) = background() {
            // A cluster that ends with the test has no need of it.
            runtime.spawn(async move {
                let namespaces: Api<NamespaceObject> = Api::all(client(kubeconfig?).await?);
                namespaces.delete(&name, &DeleteParams::background()).await?;
                // Their kubelets are gone or about to go, and would be waited for.
                let force = DeleteParams::default().grace_period(0);
                Api::<Pod>::namespaced(namespaces.into_client(), &name)
                    .delete_collection(&force, &ListParams::default())
                    .await?;
                anyhow::Ok(())
            });
        }
    }
}

/// The pods and events of a namespace, for people.
async fn describe(client: &Client, namespace: &str) -> Result<String> {
    let mut text = String::new();
    for pod in Api::<Pod>::namespaced(client.clone(), namespace).list(&ListParams::default()).await? {
        let status = pod.status.as_ref().map(serde_json::to_string).transpose()?.unwrap_or_default();
        let deleted = pod.metadata.deletion_timestamp.as_ref().map_or("", |_| " (being deleted)");
        writeln!(text, "pod {}{deleted}: {status}", pod.name_any())?;
    }
    let mut events = Api::<Event>::namespaced(client.clone(), namespace).list(&ListParams::default()).await?.items;
    events.sort_by_key(|event| event.metadata.creation_timestamp.as_ref().map(|time| time.0));
    for event in events {
        let object = event.involved_object;
        writeln!(
            text,
            "event {} {} {}: {} {}",
            event.type_.unwrap_or_default(),
            object.kind.unwrap_or_default(),
            object.name.unwrap_or_default(),
            event.reason.unwrap_or_default(),
            event.message.unwrap_or_default()
        )?;
    }
    Ok(text)
}
