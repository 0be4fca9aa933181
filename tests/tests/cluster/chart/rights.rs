//! What the chart lets the operator do, as the API server says it: this and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SelfSubjectRulesReview,
    SelfSubjectRulesReviewSpec,
};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;
use sluice_tests::cluster::{Cluster, Namespace, until};
use sluice_tests::helm::Release;

use super::{BOUND, WEBHOOK, cluster};

/// `RESOURCE[/SUBRESOURCE][.GROUP][ NAME]`, or a path of the API server such as `/healthz` → verbs.
type Rights = BTreeMap<String, BTreeSet<String>>;

/// What the operator may do in all namespaces, and to what is in none.
const EVERYWHERE: &[(&str, &str)] = &[
    ("consumergroups.sluice.dev", "get list watch"),
    ("consumergroups/status.sluice.dev", "get patch"),
    ("deployments/scale.apps", "get patch"),
    ("events.events.k8s.io", "create patch"),
    ("horizontalpodautoscalers.autoscaling", "get list watch"),
    ("mutatingwebhookconfigurations.admissionregistration.k8s.io NAME", "get list watch patch"),
    ("nodes", "get list watch"),
    ("pods", "get list watch patch"),
    ("replicasets.apps", "get"),
    ("replicasets/scale.apps", "get patch"),
    ("statefulsets.apps", "get"),
    ("statefulsets/scale.apps", "get patch"),
    ("tokenreviews.authentication.k8s.io", "create"),
];

/// What it may do, beside that, where it may read credentials.
const CREDENTIALS: &[(&str, &str)] = &[("configmaps", "get"), ("secrets", "get")];

/// What it may do, beside that, in its own namespace.
const AT_HOME: &[(&str, &str)] = &[
    ("configmaps", "get list watch create update"),
    ("leases.coordination.k8s.io", "get create update"),
    ("secrets", "create"),
    ("secrets sluice-ca", "get update"),
];

/// What it may do where roles are taken on as accounts of Kubernetes.
const IDENTITIES: &[(&str, &str)] = &[("serviceaccounts/token", "create")];

fn rights(release: &Release<'_>, tables: &[&[(&str, &str)]]) -> Rights {
    let mut rights = Rights::new();
    for (what, verbs) in tables.iter().copied().flatten() {
        let verbs = verbs.split(' ').map(str::to_owned);
        rights.entry(what.replace("NAME", release.name())).or_default().extend(verbs);
    }
    rights
}

/// What an account may do in a namespace, as the API server's authorizer sees it.
async fn allowed(client: &Client, namespace: &str) -> Result<Rights> {
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) },
        ..SelfSubjectRulesReview::default()
    };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    let status = answer.status.context("a review without a result")?;
    let mut rights = Rights::new();
    for rule in &status.resource_rules {
        let names = match rule.resource_names.as_deref() {
            None | Some([]) => vec![String::new()],
            Some(names) => names.iter().map(|name| format!(" {name}")).collect(),
        };
        for group in rule.api_groups.iter().flatten() {
            let group = if group.is_empty() { String::new() } else { format!(".{group}") };
            for resource in rule.resources.iter().flatten() {
                for name in &names {
                    let verbs = rights.entry(format!("{resource}{group}{name}")).or_default();
                    verbs.extend(rule.verbs.iter().cloned());
                }
            }
        }
    }
    for rule in status.non_resource_rules {
        for path in rule.non_resource_urls.into_iter().flatten() {
            rights.entry(path).or_default().extend(rule.verbs.iter().cloned());
        }
    }
    Ok(rights)
}

/// The rights of the operator's account in a namespace, less what every account has.
async fn granted(home: &Namespace<'_>, release: &Release<'_>, namespace: &str) -> Result<Rights> {
    let operator = home.cluster().account(home.name(), release.name()).await?.client().await?;
    let anybody = home.account("anybody").await?.client().await?;
    let mut rights = allowed(&operator, namespace).await?;
    for (what, verbs) in allowed(&anybody, namespace).await? {
        assert_eq!(rights.remove(&what), Some(verbs), "{what}");
    }
    Ok(rights)
}

/// Whether an account may do something: `VERB RESOURCE[/SUBRESOURCE][.GROUP]` in a namespace.
async fn may(client: &Client, namespace: &str, request: &str) -> Result<bool> {
    let (verb, what) = request.split_once(' ').context("a verb and a resource")?;
    let (what, group) = what.split_once('.').unwrap_or((what, ""));
    let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
    let attributes = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: Some(subresource.to_owned()),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.context("a review without a result")?.allowed)
}

/// Asks for some that would be worst to have, one by one: a list of rules might not tell all.
async fn check_denied(client: &Client, namespaces: &[&str], denied: &[&str]) {
    for namespace in namespaces {
        for request in denied {
            assert!(!may(client, namespace, request).await.unwrap(), "{request} in {namespace}");
        }
    }
}

const NEVER: [&str; 24] = [
    "list secrets",
    "watch secrets",
    "delete secrets",
    "patch secrets",
    "delete configmaps",
    "create pods",
    "delete pods",
    "update pods",
    "create pods/exec",
    "create pods/ephemeralcontainers",
    "update nodes",
    "patch nodes",
    "get nodes/proxy",
    "create serviceaccounts",
    "impersonate users",
    "impersonate serviceaccounts",
    "escalate clusterroles.rbac.authorization.k8s.io",
    "bind clusterroles.rbac.authorization.k8s.io",
    "create rolebindings.rbac.authorization.k8s.io",
    "patch deployments.apps",
    "update consumergroups.sluice.dev",
    "delete consumergroups.sluice.dev",
    "create mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "list customresourcedefinitions.apiextensions.k8s.io",
];

/// Installs a release of its own in a namespace of its own. The definition of ConsumerGroups can be one release's only.
async fn home(cluster: &'static Cluster, values: &serde_json::Value) -> (Namespace<'static>, Release<'static>) {
    let namespace = cluster.namespace("rights").await.unwrap();
    let release = Release::new(cluster, namespace.name(), &format!("sluice-{}", namespace.name()));
    let mut all = json!({"replicas": 0, "crds": {"install": false}, "webhook": {"url": WEBHOOK}});
    all.as_object_mut().unwrap().extend(values.as_object().unwrap().clone());
    release.install(&all).unwrap();
    (namespace, release)
}

#[tokio::test]
async fn the_operator_may_do_what_it_has_to_and_nothing_else() {
    let cluster = cluster().await;
    let (home, release) = home(cluster, &json!({})).await;
    let plant = cluster.namespace("plant").await.unwrap();
    let at_home = granted(&home, &release, home.name()).await.unwrap();
    assert_eq!(at_home, rights(&release, &[EVERYWHERE, CREDENTIALS, AT_HOME]));
    let elsewhere = granted(&home, &release, plant.name()).await.unwrap();
    assert_eq!(elsewhere, rights(&release, &[EVERYWHERE, CREDENTIALS]));

    let everything = at_home.iter().flat_map(|(what, verbs)| verbs.iter().map(move |verb| format!("{verb} {what}")));
    for right in everything.collect::<Vec<_>>() {
        assert!(!right.contains('*'), "{right}");
    }
    let operator = cluster.account(home.name(), release.name()).await.unwrap().client().await.unwrap();
    check_denied(&operator, &[home.name(), plant.name()], &NEVER).await;
    check_denied(&operator, &[home.name(), plant.name()], &["create serviceaccounts/token"]).await;
    check_denied(&operator, &[plant.name()], &["create secrets", "list configmaps"]).await;
    check_denied(&operator, &[plant.name()], &["get leases.coordination.k8s.io"]).await;
    // The same question does get another answer.
    for request in ["get secrets", "patch pods", "patch deployments/scale.apps", "list nodes"] {
        assert!(may(&operator, plant.name(), request).await.unwrap(), "{request}");
    }
}

#[tokio::test]
async fn values_widen_and_narrow_its_rights_by_what_they_say() {
    let cluster = cluster().await;
    let plant = cluster.namespace("plant").await.unwrap();
    let other = cluster.namespace("other").await.unwrap();
    let values = json!({
        "credentials": {"namespaces": [plant.name()]},
        "workloadIdentity": {"enabled": true},
        "scaling": {"extraTargets": [{"apiGroup": "argoproj.io", "resource": "rollouts"}]},
    });
    let (home, release) = home(cluster, &values).await;
    let rollouts: &[(&str, &str)] = &[("rollouts/scale.argoproj.io", "get patch")];
    let in_plant = granted(&home, &release, plant.name()).await.unwrap();
    assert_eq!(in_plant, rights(&release, &[EVERYWHERE, rollouts, CREDENTIALS, IDENTITIES]));
    let in_other = granted(&home, &release, other.name()).await.unwrap();
    assert_eq!(in_other, rights(&release, &[EVERYWHERE, rollouts]));
    let at_home = granted(&home, &release, home.name()).await.unwrap();
    assert_eq!(at_home, rights(&release, &[EVERYWHERE, rollouts, AT_HOME]));

    let operator = cluster.account(home.name(), release.name()).await.unwrap().client().await.unwrap();
    check_denied(&operator, &[home.name(), plant.name(), other.name()], &NEVER).await;
    check_denied(&operator, &[home.name(), other.name()], &["get secrets", "create serviceaccounts/token"]).await;
    for request in ["get secrets", "create serviceaccounts/token"] {
        assert!(may(&operator, plant.name(), request).await.unwrap(), "{request}");
    }
}

#[tokio::test]
async fn who_may_view_or_edit_a_namespace_may_do_so_with_its_groups() {
    let cluster = cluster().await;
    let _installed = home(cluster, &json!({})).await;
    let plant = cluster.namespace("plant").await.unwrap();
    let (read, write) = ("list consumergroups.sluice.dev", "create consumergroups.sluice.dev");
    for (role, may_write) in [("view", false), ("edit", true), ("admin", true)] {
        let account = plant.account(role).await.unwrap();
        let binding = json!({
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": role, "namespace": plant.name()}],
        });
        plant.create::<RoleBinding>(binding).await.unwrap();
        let client = account.client().await.unwrap();
        // Kubernetes puts such roles together from their parts.
        until("the role has its part about ConsumerGroups", BOUND, || async {
            let complete = may(&client, plant.name(), if may_write { write } else { read }).await?;
            Ok(complete.then_some(()))
        })
        .await
        .unwrap();
        for request in [read, "get consumergroups/status.sluice.dev", "get consumergroups/scale.sluice.dev"] {
            assert!(may(&client, plant.name(), request).await.unwrap(), "{role}: {request}");
        }
        for request in [write, "delete consumergroups.sluice.dev", "patch consumergroups/scale.sluice.dev"] {
            assert_eq!(may(&client, plant.name(), request).await.unwrap(), may_write, "{role}: {request}");
        }
        // The status is the operator's alone.
        assert!(!may(&client, plant.name(), "patch consumergroups/status.sluice.dev").await.unwrap(), "{role}");
        assert!(!may(&client, "default", read).await.unwrap(), "{role}");
    }
}
