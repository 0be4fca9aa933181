//! A sidecar that is written by hand, word for word as the chart's README has it.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::api::DeleteParams;
use kube::{Api, ResourceExt as _};
use sluice_tests::admin::NewMessage;
use sluice_tests::cluster::kubelet::Step;
use sluice_tests::cluster::until;
use sluice_tests::process::output_of;
use sluice_tests::stage::{BOUND, Stage, names};

const GROUP: &str = "g-manual";

/// What the README says about it: the commands, and the pod's parts.
fn by_the_readme() -> (String, String) {
    let readme = include_str!("../../../charts/sluice/README.md");
    let (_, section) = readme.split_once("### Written by hand\n").unwrap();
    let (before, rest) = section.split_once("```yaml\n").unwrap();
    let (manifest, _) = rest.split_once("```").unwrap();
    let commands = before.lines().filter_map(|line| line.strip_prefix("    ")).collect::<Vec<_>>().join("\n");
    (commands, manifest.to_owned())
}

/// The README's sidecar, in a Deployment of the example application.
fn deployment(manifest: &str) -> String {
    let application = "  - name: app\n";
    assert!(manifest.contains(application), "{manifest}");
    let manifest =
        manifest.replace(application, &format!("{application}    image: application:1\n    args: [--journal, '-']\n"));
    // The path that the program has for a default, in words: the kubelet of the tests can't put another in its place there.
    assert!(manifest.contains("[/sluice-sidecar, drain, "), "{manifest}");
    let manifest = manifest.replace(", drain, ", ", drain, --listen, 'unix:///run/sluice/sluice.sock', ");
    let parts = manifest.replace('\n', "\n      ");
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: worker}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: worker}}}}
  template:
    metadata: {{labels: {{app: worker, sluice.dev/consumer-group: telemetry}}}}
    spec:
      {parts}
"
    )
}

/// The arguments of all containers, by name.
fn arguments(spec: &PodSpec) -> Vec<(String, Vec<String>)> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.map(|container| (container.name.clone(), container.args.clone().unwrap_or_default())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_written_by_hand_as_the_readme_says_consumes_like_an_injected_one() {
    let stage = Stage::shared().await.unwrap();
    let plant = stage.plant("manual").await.unwrap();
    plant.group("telemetry", GROUP, |_| {}).await.unwrap();

    // The user's own steps. Only the namespace and the operator's address are other ones here.
    let (commands, manifest) = by_the_readme();
    assert!(commands.contains("plant-a") && manifest.contains("sluice-broker.sluice-system.svc:8443"), "{manifest}");
    let commands = commands.replace("plant-a", plant.namespace.name());
    let manifest = deployment(&manifest.replace("sluice-broker.sluice-system.svc:8443", &stage.broker(0)));
    let folder = tempfile::tempdir().unwrap();
    let shell = |script: &str| {
        let kubectl = stage.cluster.kubectl();
        let tools = Path::new(kubectl.get_program()).parent().unwrap();
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command.args(["-ec", script]).current_dir(folder.path()).env("PATH", path).env("HOME", folder.path());
        output_of("the README's commands", command.env("KUBECONFIG", stage.cluster.kubeconfig())).unwrap();
    };
    shell(&commands);
    std::fs::write(folder.path().join("worker.yaml"), manifest).unwrap();
    shell(&format!("kubectl --namespace {} apply --filename worker.yaml", plant.namespace.name()));

    let pods = plant.ready("worker", 2).await.unwrap();
    let deployments: Api<Deployment> = plant.namespace.api();
    let written = deployments.get("worker").await.unwrap().spec.unwrap().template.spec.unwrap();
    assert_eq!(arguments(&written).len(), 2);
    for pod in &pods {
        assert_eq!(arguments(pod.spec.as_ref().unwrap()), arguments(&written), "the webhook leaves it as it is");
    }
    assert_eq!(plant.holders(GROUP).await.unwrap(), names(&pods).into_iter().collect());
    plant.condition("telemetry", "Ready", "True").await.unwrap();
    let admin = stage.emulator.admin();
    let messages: Vec<_> = (0..200).map(|n| NewMessage::new("/a1/d1/user/data", n.to_string().as_bytes())).collect();
    admin.publish(GROUP, &messages).unwrap();
    admin.wait_for(GROUP, BOUND, |counts| counts.accepted == 200).unwrap();

    // The hook that is written there drains: the slot is given back with nothing left undone, and another pod has it soon.
    let old = pods[0].name_any();
    plant.namespace.api::<Pod>().delete(&old, &DeleteParams::default()).await.unwrap();
    until("another pod holds the slot", BOUND, || async {
        let holders = plant.holders(GROUP).await?;
        Ok((holders.len() == 2 && !holders.contains(&old)).then_some(()))
    })
    .await
    .unwrap();
    let drained = plant
        .kubelet
        .journal()
        .into_iter()
        .any(|entry| entry.pod == old && entry.container == "sluice" && entry.step == Step::PreStopped(None));
    assert!(drained, "{:#?}", plant.kubelet.journal());
    let counts = admin.group(GROUP).unwrap();
    assert_eq!((counts.expired, counts.released), (0, 0), "{counts:?}");
}
