//! The control stream as the operator serves it: who is let in, which versions are spoken, and what is said to those who
//! speak rubbish. The caller is a client of the tests' own, with the tokens of real pods.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use serde_json::json;
use sluice_proto::control::v1::control_client::ControlClient;
use sluice_proto::control::v1::{
    BrokerMessage, Hello, PermitRequest, Pong, Report, SidecarMessage, broker_message, sidecar_message,
};
use sluice_tests::cluster::until;
use sluice_tests::stage::{BOUND, Plant, SYSTEM, Stage};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic::{Code, Request, Status, Streaming};

/// A pod without a sidecar, whose place the test takes.
async fn bare_pod(plant: &Plant<'_>, name: &str, group: &str) -> Pod {
    let pod = json!({
        "metadata": {"name": name, "labels": {"sluice.dev/consumer-group": group}, "annotations": {"sluice.dev/inject": "false"}},
        "spec": {"containers": [{"name": "app", "image": "application:1", "command": ["sleep", "600"]}]},
    });
    plant.namespace.create::<Pod>(pod).await.unwrap()
}

async fn token(plant: &Plant<'_>, pod: &Pod, audience: &str) -> String {
    let accounts: Api<ServiceAccount> = plant.namespace.api();
    let bound = BoundObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(pod.name_any()),
        uid: pod.uid(),
    };
    let spec = TokenRequestSpec {
        audiences: vec![audience.into()],
        bound_object_ref: Some(bound),
        expiration_seconds: Some(600),
    };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer: TokenRequest =
        accounts.create_subresource("token", "default", &PostParams::default(), &request).await.unwrap();
    answer.status.unwrap().token
}

async fn channel(stage: &Stage, replica: usize) -> Channel {
    let secrets: Api<Secret> = Api::namespaced(stage.cluster.client().await.unwrap(), SYSTEM);
    let stored = secrets.get("sluice-ca").await.unwrap().data.unwrap();
    let bundle = &stored["ca.crt"];
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&bundle.0)).domain_name("127.0.0.1");
    let endpoint = Channel::from_shared(format!("https://{}", stage.broker(replica))).unwrap();
    endpoint.tls_config(tls).unwrap().connect().await.unwrap()
}

/// A stream to the broker.
struct Line {
    out: mpsc::Sender<SidecarMessage>,
    inward: Streaming<BrokerMessage>,
}

impl Line {
    async fn open(channel: Channel, token: Option<&str>, first: sidecar_message::Message) -> Result<Self, Status> {
        let (out, outward) = mpsc::channel(64);
        out.send(SidecarMessage { message: Some(first) }).await.unwrap();
        let mut request = Request::new(ReceiverStream::new(outward));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let inward = ControlClient::new(channel).connect(request).await?.into_inner();
        Ok(Self { out, inward })
    }

    async fn say(&self, message: sidecar_message::Message) {
        self.out.send(SidecarMessage { message: Some(message) }).await.unwrap();
    }

    async fn next(&mut self) -> Result<broker_message::Message, Status> {
        let message = tokio::time::timeout(BOUND, self.inward.message()).await.expect("the broker says something")?;
        message.and_then(|message| message.message).ok_or_else(|| Status::ok("the stream has ended"))
    }

    /// The next message of a kind; others are passed over.
    async fn until<T>(&mut self, wanted: impl Fn(broker_message::Message) -> Option<T>) -> Result<T, Status> {
        loop {
            if let Some(found) = wanted(self.next().await?) {
                return Ok(found);
            }
        }
    }

    /// How the stream ends.
    async fn end(&mut self) -> Status {
        let ends = async {
            loop {
                if let Err(status) = self.next().await {
                    return status;
                }
            }
        };
        tokio::time::timeout(BOUND, ends).await.expect("the stream ends")
    }
}

fn hello(group: &str, stream: u64) -> Hello {
    Hello {
        protocol_min: 1,
        protocol_max: 1,
        version: "0.0.9".into(),
        consumer_group: group.into(),
        process: 1,
        stream,
        report: Some(Report::default()),
        attempted_alone: false,
    }
}

fn says(hello: Hello) -> sidecar_message::Message {
    sidecar_message::Message::Hello(hello)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_pod_with_a_token_for_sluice_is_let_in() {
    let stage = Stage::shared().await.unwrap();
    let plant = stage.plant("letin").await.unwrap();
    let pod = bare_pod(&plant, "pod", "telemetry").await;
    let channel = channel(stage, 0).await;
    let refused = async |token: Option<&str>| {
        let Err(status) = Line::open(channel.clone(), token, says(hello("telemetry", 1))).await else {
            panic!("let in with {token:?}");
        };
        (status.code(), status.message().to_owned())
    };
    let (code, message) = refused(None).await;
    assert_eq!(code, Code::Unauthenticated);
    assert!(message.contains("authorization: Bearer"), "{message}");
    assert_eq!(refused(Some("rubbish")).await.0, Code::Unauthenticated);
    let other = token(&plant, &pod, "https://kubernetes.default.svc.cluster.local").await;
    assert_eq!(refused(Some(&other)).await.0, Code::Unauthenticated);
    let unbound = plant.namespace.account("robot").await.unwrap();
    assert_eq!(refused(Some(unbound.token())).await.0, Code::Unauthenticated);

    let right = token(&plant, &pod, "sluice.dev").await;
    let mut line = Line::open(channel.clone(), Some(&right), says(hello("telemetry", 1))).await.unwrap();
    assert!(matches!(line.next().await.unwrap(), broker_message::Message::Welcome(_)));
    // It speaks for the ConsumerGroup of its label, and for no other.
    plant.group("another", "g-rights", |_| {}).await.unwrap();
    let mut line = Line::open(channel, Some(&right), says(hello("another", 2))).await.unwrap();
    let status = line.end().await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("another") && status.message().contains("telemetry"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_are_agreed_upon_and_rubbish_is_answered() {
    let stage = Stage::shared().await.unwrap();
    let plant = stage.plant("skew").await.unwrap();
    let pod = bare_pod(&plant, "pod", "telemetry").await;
    let token = token(&plant, &pod, "sluice.dev").await;
    let channel = channel(stage, 0).await;
    let open = async |first| Line::open(channel.clone(), Some(&token), first).await.unwrap();

    // A sidecar of the release before, which also speaks what came before this protocol, and one of the next release.
    for (stream, (min, max)) in [(0, 1), (1, 2)].into_iter().enumerate() {
        let first = Hello { protocol_min: min, protocol_max: max, ..hello("telemetry", stream as u64 + 1) };
        let mut line = open(says(first)).await;
        let broker_message::Message::Welcome(welcome) = line.next().await.unwrap() else { panic!("no welcome") };
        assert_eq!(welcome.protocol, 1);
    }
    for (first, code, words) in [
        (says(Hello { protocol_min: 2, protocol_max: 3, ..hello("telemetry", 9) }), Code::FailedPrecondition, "2 to 3"),
        (says(Hello { process: 0, ..hello("telemetry", 9) }), Code::InvalidArgument, "count from 1"),
        (says(Hello { report: None, ..hello("telemetry", 9) }), Code::InvalidArgument, "hello.report"),
        (sidecar_message::Message::Pong(Pong { number: 1 }), Code::InvalidArgument, "must be `hello`"),
    ] {
        let status = open(first).await.end().await;
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(words), "{status}");
    }
    // Too much of anything ends the stream, not the broker.
    let mut line = open(says(hello("telemetry", 10))).await;
    for number in 0..300 {
        if line
            .out
            .send(SidecarMessage { message: Some(sidecar_message::Message::Pong(Pong { number })) })
            .await
            .is_err()
        {
            break;
        }
    }
    assert_eq!(line.end().await.code(), Code::ResourceExhausted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_is_recorded_before_it_is_told_and_given_back_by_a_report() {
    let stage = Stage::shared().await.unwrap();
    let plant = stage.plant("grant").await.unwrap();
    let pod = bare_pod(&plant, "pod", "telemetry").await;
    let token = token(&plant, &pod, "sluice.dev").await;
    let channel = channel(stage, 0).await;
    let wants = Report { wants_slot: true, ..Report::default() };

    // There is no such ConsumerGroup yet: the sidecar is told, and waits.
    let mut line =
        Line::open(channel.clone(), Some(&token), says(Hello { report: Some(wants.clone()), ..hello("telemetry", 1) }))
            .await
            .unwrap();
    let reason = line.until(|message| match message {
        broker_message::Message::StandBy(stand_by) => Some(stand_by.reason),
        _ => None,
    });
    assert!(reason.await.unwrap().contains("no valid ConsumerGroup"));

    plant.group("telemetry", "g-many", |_| {}).await.unwrap();
    let granted = |message| match message {
        broker_message::Message::SlotGranted(granted) => Some(granted),
        _ => None,
    };
    let grant = line.until(granted).await.unwrap();
    assert_eq!(grant.slots, [0]);
    assert_eq!(plant.holders("g-many").await.unwrap(), ["pod".to_owned()].into());

    // A permit carries what the platform takes; one for a slot that is not granted is refused.
    // (The first requests may come before the Secret has been read, and are told that instead.)
    for id in 1.. {
        line.say(sidecar_message::Message::PermitRequest(PermitRequest { id, epoch: grant.epoch, slot: 5 })).await;
        let refused = line.until(|message| match message {
            broker_message::Message::PermitRefused(refused) => Some(refused),
            _ => None,
        });
        if refused.await.unwrap().reason.contains("not granted") {
            break;
        }
        assert!(id < 300, "never told that the slot is not granted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // A newer stream takes the place of this one, and is told the same grant; an older one is turned away.
    let held = Report { held_epoch: grant.epoch, seen_epoch: grant.epoch, ..wants.clone() };
    let mut newer =
        Line::open(channel.clone(), Some(&token), says(Hello { report: Some(held), ..hello("telemetry", 3) }))
            .await
            .unwrap();
    assert_eq!(line.end().await.code(), Code::Aborted);
    assert_eq!(newer.until(granted).await.unwrap().epoch, grant.epoch);
    let mut older = Line::open(channel, Some(&token), says(hello("telemetry", 2))).await.unwrap();
    assert_eq!(older.end().await.code(), Code::Aborted);
    assert_eq!(plant.holders("g-many").await.unwrap().len(), 1);

    // Given back by a report.
    newer.say(sidecar_message::Message::Report(Report { seen_epoch: grant.epoch, ..Report::default() })).await;
    until("the slot is free", BOUND, || async { Ok(plant.holders("g-many").await?.is_empty().then_some(())) })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_does_not_lead_names_the_one_that_does() {
    let stage = Stage::shared().await.unwrap();
    let _follower = stage.operator(1).await.unwrap();
    let channel = channel(stage, 1).await;
    until("it has seen the leader", Duration::from_secs(30), || async {
        let Err(status) = Line::open(channel.clone(), None, says(hello("telemetry", 1))).await else { return Ok(None) };
        let leader = status.metadata().get("sluice-leader").and_then(|leader| leader.to_str().ok());
        let named = status.code() == Code::Unavailable && leader.is_some_and(|leader| leader.starts_with("operator-0"));
        Ok(named.then_some(()))
    })
    .await
    .unwrap();
}
