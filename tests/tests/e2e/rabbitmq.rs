//! `RabbitMQ` 3.10 as the server: the sidecar's AMQP engine against a stranger. `RabbitMQ` takes the source address
//! seriously, redelivers at once what is released, and knows how many of its messages are settled.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use sluice_proto::v1::MessageKind;
use sluice_proto::v1::link_state::State;
use sluice_tests::application::{Outcome, subscription};
use sluice_tests::rabbitmq::{Depth, Published, RabbitMq};
use sluice_tests::sidecar::{Settings, Sidecar};
use tonic::Code;

const BOUND: Duration = Duration::from_secs(30);
const EMPTY: Depth = Depth { ready: 0, unsettled: 0 };

/// The `n`th message, of the platform's shape.
fn message(n: usize) -> Published {
    Published {
        topic: format!("/a1TestProdct/meter-{n}/user/readings"),
        message_id: format!("id-{n}"),
        generate_time: 1_573_489_088_171,
        payload: BASE64.encode(format!("reading {n}")),
    }
}

fn messages(count: usize) -> Vec<Published> {
    (0..count).map(message).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_application_acknowledges_is_gone_and_what_it_hands_back_comes_again() {
    const QUEUE: &str = "handed-back";
    const COUNT: usize = 200;
    /// Every so many messages, the first delivery of one is handed back.
    const HAND_BACK_EVERY: usize = 10;

    let broker = RabbitMq::shared().unwrap();
    broker.publish(QUEUE, &messages(COUNT)).unwrap();
    assert_eq!(broker.depth(QUEUE).unwrap(), Depth { ready: 200, unsettled: 0 });

    let sidecar = Sidecar::start(Settings::for_rabbitmq(&broker, QUEUE)).unwrap();
    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    application.link_state(State::Up, BOUND).await.unwrap();

    let first = application.deliveries(COUNT, BOUND).await.unwrap();
    let mut handed_back = HashMap::new();
    for delivery in &first {
        let n: usize = delivery.message_id.strip_prefix("id-").unwrap().parse().unwrap();
        assert_eq!(delivery.topic, format!("/a1TestProdct/meter-{n}/user/readings"));
        assert_eq!(delivery.kind(), MessageKind::Custom);
        assert_eq!(delivery.device_name, format!("meter-{n}"));
        assert_eq!(delivery.generate_time_ms, 1_573_489_088_171);
        assert_eq!(delivery.payload, format!("reading {n}"));
        if n.is_multiple_of(HAND_BACK_EVERY) {
            // No lease has room for this: only the broker can give the message again.
            application.retry(delivery.delivery_id, Some(Duration::from_mins(1))).await.unwrap();
            handed_back.insert(delivery.message_id.clone(), delivery.delivery_id);
        } else {
            application.ack([delivery.delivery_id]).await.unwrap();
        }
    }
    for delivery in &first {
        let is_back = handed_back.contains_key(&delivery.message_id);
        let expected = if is_back { Outcome::HandedBack } else { Outcome::Settled };
        assert_eq!(application.outcome(delivery.delivery_id, BOUND).await.unwrap(), expected);
    }

    let again = application.deliveries(handed_back.len(), BOUND).await.unwrap();
    for delivery in &again {
        let former = handed_back.remove(&delivery.message_id).expect("a message that was handed back, once");
        assert_ne!(delivery.delivery_id, former, "another delivery of it");
        application.ack([delivery.delivery_id]).await.unwrap();
        assert_eq!(application.outcome(delivery.delivery_id, BOUND).await.unwrap(), Outcome::Settled);
    }
    broker.wait_for_depth(QUEUE, EMPTY, BOUND).unwrap();
    assert!(broker.verifier().admitted().iter().any(|identity| identity.consumer_group_id == "DEFAULT_GROUP"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_answered_is_in_the_queue_again_once_the_sidecar_is_gone() {
    const QUEUE: &str = "unanswered";
    let broker = RabbitMq::shared().unwrap();
    broker.publish(QUEUE, &messages(20)).unwrap();
    let mut sidecar = Sidecar::start(Settings::for_rabbitmq(&broker, QUEUE)).unwrap();
    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    let deliveries = application.deliveries(20, BOUND).await.unwrap();
    let (acknowledged, unanswered) = deliveries.split_at(15);
    application.ack(acknowledged.iter().map(|delivery| delivery.delivery_id)).await.unwrap();
    for delivery in acknowledged {
        assert_eq!(application.outcome(delivery.delivery_id, BOUND).await.unwrap(), Outcome::Settled);
    }
    broker.wait_for_depth(QUEUE, Depth { ready: 0, unsettled: unanswered.len() as u64 }, BOUND).unwrap();
    sidecar.process().kill().unwrap();
    broker.wait_for_depth(QUEUE, Depth { ready: 5, unsettled: 0 }, BOUND).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_hangs_loses_its_stream_and_its_message_comes_again() {
    const QUEUE: &str = "expired";

    let broker = RabbitMq::shared().unwrap();
    broker.publish(QUEUE, &messages(1)).unwrap();
    let settings = Settings::for_rabbitmq(&broker, QUEUE).with_delivery(json!({"leaseDuration": "1s"}));
    let sidecar = Sidecar::start(settings).unwrap();
    let mut hung = sidecar.attach(subscription("hung")).await.unwrap();
    hung.delivery(BOUND).await.unwrap();
    let status = hung.ended(BOUND).await.unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");

    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    let again = application.delivery(BOUND).await.unwrap();
    assert_eq!(again.message_id, "id-0");
    application.ack([again.delivery_id]).await.unwrap();
    // On a busy machine the second of the lease may be over before the ack is there. Then it counts for the repeat.
    let outcome = application.outcome(again.delivery_id, BOUND).await.unwrap();
    assert!(matches!(outcome, Outcome::Settled | Outcome::Expired), "{outcome:?}");
    broker.wait_for_depth(QUEUE, EMPTY, BOUND).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_above_1_mib_goes_back_aloud_and_does_not_stop_the_one_behind_it() {
    const QUEUE: &str = "too-large";

    let broker = RabbitMq::shared().unwrap();
    let large = Published { payload: BASE64.encode(vec![b'x'; 1536 * 1024]), ..message(0) };
    broker.publish(QUEUE, &[large, message(1)]).unwrap();
    let mut sidecar = Sidecar::start(Settings::for_rabbitmq(&broker, QUEUE)).unwrap();
    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    let delivery = application.delivery(BOUND).await.unwrap();
    assert_eq!(delivery.message_id, "id-1");
    application.ack([delivery.delivery_id]).await.unwrap();
    assert_eq!(application.outcome(delivery.delivery_id, BOUND).await.unwrap(), Outcome::Settled);
    sidecar.process().wait_for_log("larger than the 1048576 bytes", BOUND).unwrap();

    // This broker does not look at a link's limit, and gives what is released again at once. It is never lost.
    sidecar.process().kill().unwrap();
    broker.wait_for_depth(QUEUE, Depth { ready: 1, unsettled: 0 }, BOUND).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_signs_wrongly_is_not_let_in_and_says_so() {
    let broker = RabbitMq::shared().unwrap();
    let settings = Settings::for_rabbitmq(&broker, "refused").with_access_key("testid", "wrongsecret");
    let sidecar = Sidecar::start(settings).unwrap();
    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    let (state, reason) = application.link_trouble(BOUND).await.unwrap();
    assert_eq!(state, State::Down, "{reason}");
    assert!(reason.contains("credentials"), "{reason}");
    assert_eq!(broker.verifier().refused(), ["the password is not the signature of the user name"]);
}
