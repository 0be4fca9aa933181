//! Tells the API server whom to trust: the CA bundle in the `MutatingWebhookConfiguration`. Written only when it differs,
//! by any replica (all of them read the same Secret), and at once: while it is wrong, no labelled pod can be created.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, TestOperation};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::PatchParams;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Certificates;
use crate::fault::{Fault, bounded};

/// It is tried again at the latest after so long.
const LONGEST: Duration = Duration::from_secs(30);

/// Keeps the bundle of the configuration `name` right for as long as it runs. The right to get, list, watch and patch that
/// one object is needed. `tell` is told whether it is right, or why not; a configuration that is not there lacks nothing.
pub async fn keep(
    client: Client,
    name: String,
    mut certificates: Certificates,
    tell: impl Fn(Result<(), String>),
) -> std::convert::Infallible {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client);
    let mut seen = pin!(watch_object(configurations.clone(), &name).default_backoff());
    let mut current: Option<MutatingWebhookConfiguration> = None;
    let mut retry = Retry::default();
    loop {
        tokio::select! {
            event = seen.next() => match event {
                Some(Ok(Some(configuration))) => current = Some(configuration),
                Some(Ok(None)) => {
                    warn!(configuration = name, "there is no such MutatingWebhookConfiguration: no pod gets a sidecar");
                    current = None;
                    tell(Ok(()));
                }
                Some(Err(error)) => {
                    warn!(configuration = name, %error, "the MutatingWebhookConfiguration can't be watched");
                    if current.is_none() {
                        tell(Err(format!("the MutatingWebhookConfiguration {name} can't be watched: {error}")));
                    }
                    continue;
                }
                // The stream does not end; should it, the certificates still change.
                None => std::future::pending().await,
            },
            () = certificates.changed() => {}
            () = retry.due() => {}
        }
        let patch = current.as_ref().and_then(|known| changes(known, &certificates.served().bundle));
        let Some(patch) = patch else {
            retry = Retry::default();
            if current.is_some() {
                tell(Ok(()));
            }
            continue;
        };
        let patch = kube::api::Patch::Json::<()>(patch);
        match bounded(configurations.patch(&name, &PatchParams::default(), &patch)).await {
            Ok(written) => {
                info!(configuration = name, "the API server is told whom to trust");
                // What the watch has seen may be older than this; then it brings this next.
                current = Some(written);
                retry = Retry::default();
                tell(Ok(()));
            }
            // Somebody else may have changed it meanwhile: the watch brings what it is now. If it brings nothing, because
            // nothing has changed, it is tried again all the same.
            Err(fault) => {
                let wait = retry.failed(&fault);
                warn!(configuration = name, %fault, ?wait, "the API server could not be told whom to trust");
                tell(Err(format!(
                    "the CA bundle in the MutatingWebhookConfiguration {name} can't be written: {fault}"
                )));
            }
        }
    }
}

/// When to write again what could not be written.
#[derive(Default)]
struct Retry {
    failures: u32,
    at: Option<Instant>,
}

impl Retry {
    /// Completes when it is time; never, if nothing has failed.
    async fn due(&self) {
        match self.at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// It failed (again). How long to wait: no pod with the label can be created until it is done, so never long.
    fn failed(&mut self, fault: &Fault) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let wait = fault.class.backoff(self.failures, rand::random()).min(LONGEST);
        self.at = Some(Instant::now() + wait);
        wait
    }
}

/// What is to change, if anything. Only if the webhooks are still those that were read, in their order.
fn changes(configuration: &MutatingWebhookConfiguration, bundle: &str) -> Option<Patch> {
    let mut operations = Vec::new();
    for (index, webhook) in configuration.webhooks.iter().flatten().enumerate() {
        if webhook.client_config.ca_bundle.as_ref().is_some_and(|found| found.0 == bundle.as_bytes()) {
            continue;
        }
        let index = index.to_string();
        let path =
            |rest: &[&str]| PointerBuf::from_tokens(["webhooks", &index].into_iter().chain(rest.iter().copied()));
        operations.push(PatchOperation::Test(TestOperation { path: path(&["name"]), value: json!(webhook.name) }));
        let value = json!(k8s_openapi::ByteString(bundle.as_bytes().to_vec()));
        let path = path(&["clientConfig", "caBundle"]);
        operations.push(PatchOperation::Add(AddOperation { path, value }));
    }
    (!operations.is_empty()).then_some(Patch(operations))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::body::Body;
    use axum::extract::Request;
    use axum::response::{IntoResponse as _, Response};
    use http::{Method, StatusCode};
    use jiff::Timestamp;
    use serde_json::Value;
    use tokio::sync::watch;

    use super::*;
    use crate::certificates::keeper_tests;

    /// An API server that has one configuration and never speaks of it again, and fails to write it so many times.
    fn server(failures: u32, written: watch::Sender<Option<Value>>) -> Router {
        let hook = json!({"name": "a", "clientConfig": {}, "sideEffects": "None", "admissionReviewVersions": []});
        let found = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "sluice", "resourceVersion": "7"}, "webhooks": [hook],
        });
        let list = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfigurationList",
            "metadata": {"resourceVersion": "7"}, "items": [found.clone()],
        });
        let failed = Arc::new(AtomicU32::new(0));
        Router::new().fallback(async move |request: Request| -> Response {
            let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            if *request.method() == Method::PATCH {
                if failed.fetch_add(1, Ordering::Relaxed) < failures {
                    // One that the client itself does not send again.
                    return StatusCode::INTERNAL_SERVER_ERROR.into_response();
                }
                let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
                let mut after = found;
                json_patch::patch(&mut after, &serde_json::from_slice::<Patch>(&body).unwrap()).unwrap();
                written.send_replace(Some(after.clone()));
                return axum::Json(after).into_response();
            }
            if watches {
                return Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>())
                    .into_response();
            }
            axum::Json(list).into_response()
        })
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_written_again_although_nothing_changes() {
        let (sender, mut written) = watch::channel(None);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, server(1, sender)).await });
        let client = Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        let certificates = keeper_tests::keeper(Timestamp::now()).certificates();
        let bundle = certificates.served().bundle.clone();
        let told = Arc::new(Mutex::new(Vec::new()));
        let hears = told.clone();
        let tell = move |state: Result<(), String>| hears.lock().unwrap().push(state.is_ok());
        let kept = tokio::spawn(keep(client, "sluice".into(), certificates, tell));
        let bound = Duration::from_secs(20);
        let after =
            tokio::time::timeout(bound, written.wait_for(Option::is_some)).await.unwrap().unwrap().clone().unwrap();
        let expected = json!(k8s_openapi::ByteString(bundle.into_bytes()));
        assert_eq!(after["webhooks"][0]["clientConfig"]["caBundle"], expected);
        assert!(!told.lock().unwrap()[0], "that it failed is told first");
        kept.abort();
    }

    #[test]
    fn a_write_that_fails_is_tried_again_soon_and_for_ever() {
        let mut retry = Retry::default();
        for class in crate::fault::Class::ALL {
            for _ in 0..20 {
                assert!(retry.failed(&Fault::new(class, "no")) <= LONGEST && retry.at.is_some());
            }
        }
    }

    fn after(configuration: &Value, bundle: &str) -> Option<Value> {
        let patch = changes(&serde_json::from_value(configuration.clone()).unwrap(), bundle)?;
        let mut after = configuration.clone();
        json_patch::patch(&mut after, &patch).unwrap();
        Some(after)
    }

    #[test]
    fn the_bundle_is_written_where_it_differs_and_only_there() {
        let hook = |name: &str, bundle: Option<&str>| {
            let mut hook = json!({
                "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "clientConfig": {"service": {"name": "sluice-webhook", "namespace": "sluice-system"}},
            });
            if let Some(bundle) = bundle {
                hook["clientConfig"]["caBundle"] = json!(bundle);
            }
            hook
        };
        let configuration = |bundles: [Option<&str>; 3]| {
            let hooks: Vec<Value> = ["a", "b", "c"].into_iter().zip(bundles).map(|(name, it)| hook(name, it)).collect();
            json!({"metadata": {"name": "sluice"}, "webhooks": hooks})
        };
        // "new" and "old", in Base64.
        let before = configuration([None, Some("bmV3"), Some("b2xk")]);
        let right = configuration([Some("bmV3"); 3]);
        assert_eq!(after(&before, "new"), Some(right.clone()));
        assert_eq!(after(&right, "new"), None);
        assert_eq!(after(&json!({"metadata": {}}), "new"), None);
    }

    #[test]
    fn a_configuration_that_has_changed_is_not_written_blindly() {
        let hook = |name: &str| json!({"name": name, "clientConfig": {}, "sideEffects": "None", "admissionReviewVersions": []});
        let read = json!({"metadata": {}, "webhooks": [hook("a")]});
        let patch = changes(&serde_json::from_value(read).unwrap(), "new").unwrap();
        let mut now = json!({"metadata": {}, "webhooks": [hook("b")]});
        json_patch::patch(&mut now, &patch).unwrap_err();
    }
}
