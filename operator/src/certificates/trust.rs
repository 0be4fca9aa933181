//! Tells the API server whom to trust: the CA bundle in the `MutatingWebhookConfiguration`. Written only when it differs,
//! by any replica (all of them read the same Secret), and at once: while it is wrong, no labelled pod can be created.

use std::pin::pin;

use futures_util::StreamExt as _;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, TestOperation};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::PatchParams;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use serde_json::json;
use tracing::{info, warn};

use super::Certificates;

/// Keeps the bundle of the configuration `name` right for as long as it runs. The right to get, list, watch and patch that
/// one object is needed.
pub async fn keep(client: Client, name: String, mut certificates: Certificates) -> std::convert::Infallible {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client);
    let mut seen = pin!(watch_object(configurations.clone(), &name).default_backoff());
    let mut current: Option<MutatingWebhookConfiguration> = None;
    loop {
        tokio::select! {
            event = seen.next() => match event {
                Some(Ok(Some(configuration))) => current = Some(configuration),
                Some(Ok(None)) => {
                    warn!(configuration = name, "there is no such MutatingWebhookConfiguration: no pod gets a sidecar");
                    current = None;
                }
                Some(Err(error)) => {
                    warn!(configuration = name, %error, "the MutatingWebhookConfiguration can't be watched");
                    continue;
                }
                // The stream does not end; should it, the certificates still change.
                None => std::future::pending().await,
            },
            () = certificates.changed() => {}
        }
        let Some(configuration) = &current else { continue };
        let Some(patch) = changes(configuration, &certificates.served().bundle) else { continue };
        let patch = kube::api::Patch::Json::<()>(patch);
        match configurations.patch(&name, &PatchParams::default(), &patch).await {
            Ok(_) => info!(configuration = name, "the API server is told whom to trust"),
            // Somebody else changed it meanwhile: the watch brings what it is now.
            Err(error) => warn!(configuration = name, %error, "the API server could not be told whom to trust"),
        }
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
    use serde_json::Value;

    use super::*;

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
