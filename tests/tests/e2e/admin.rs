//! What the sidecar shows of itself on its admin address, and credentials from a directory.

use std::fs;
use std::path::Path;
use std::time::Duration;

use sluice_proto::v1::link_state::State;
use sluice_tests::admin::{Fault, NewMessage};
use sluice_tests::application::{Application, Outcome, subscription};
use sluice_tests::emulator::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator, GROUP};
use sluice_tests::sidecar::{Settings, Sidecar};

const BOUND: Duration = Duration::from_mins(1);

fn publish(emulator: &Emulator, count: usize) {
    let message = NewMessage::new("/a1TestProdct/meter/user/readings", b"0123456789");
    emulator.admin().publish(GROUP, &vec![message; count]).unwrap();
}

/// Acknowledges the next `count` deliveries.
async fn acknowledge(application: &mut Application, count: usize) {
    let deliveries = application.deliveries(count, BOUND).await.unwrap();
    application.ack(deliveries.iter().map(|delivery| delivery.delivery_id)).await.unwrap();
    for delivery in &deliveries {
        assert_eq!(application.outcome(delivery.delivery_id, BOUND).await.unwrap(), Outcome::Settled);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_ready_once_the_link_has_been_up_and_stays_so_when_the_link_is_lost() {
    let emulator = Emulator::start().unwrap();
    let sidecar = Sidecar::start(Settings::for_emulator(&emulator).unwrap()).unwrap();
    assert_eq!(sidecar.get("/healthz").unwrap(), (200, "ok\n".to_owned()));
    let (status, reason) = sidecar.get("/readyz").unwrap();
    assert_eq!(status, 503, "{reason}");
    assert!(reason.contains("no application is attached"), "{reason}");

    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    application.link_state(State::Up, BOUND).await.unwrap();
    assert_eq!(sidecar.get("/readyz").unwrap(), (200, "ok\n".to_owned()));

    drop(emulator);
    application.link_trouble(BOUND).await.unwrap();
    assert_eq!(sidecar.get("/readyz").unwrap().0, 200);
    assert_eq!(sidecar.get("/healthz").unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_status_tells_the_link_and_what_is_in_hand() {
    let emulator = Emulator::start().unwrap();
    let sidecar = Sidecar::start(Settings::for_emulator(&emulator).unwrap()).unwrap();
    let idle = sidecar.status(BOUND, |_| true).unwrap();
    assert_eq!((idle.link.as_str(), idle.epoch, idle.was_up), ("idle", 0, false));
    assert_eq!((idle.held, idle.held_bytes, idle.leased, idle.credit, idle.streams), (0, 0, 0, 0, 0));

    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    publish(&emulator, 3);
    let deliveries = application.deliveries(3, BOUND).await.unwrap();
    let busy = sidecar.status(BOUND, |status| status.leased == 3).unwrap();
    assert_eq!((busy.link.as_str(), busy.reason.as_str(), busy.epoch, busy.was_up), ("up", "", 1, true));
    assert_eq!((busy.held, busy.streams, busy.draining), (3, 1, false));
    assert!(busy.held_bytes >= 30 && busy.credit > 0, "{busy:?}");

    application.ack(deliveries.iter().map(|delivery| delivery.delivery_id)).await.unwrap();
    let done = sidecar.status(BOUND, |status| status.held == 0).unwrap();
    assert_eq!((done.held_bytes, done.leased), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_metrics_count_what_was_accepted() {
    const COUNT: usize = 50;

    let emulator = Emulator::start().unwrap();
    let sidecar = Sidecar::start(Settings::for_emulator(&emulator).unwrap()).unwrap();
    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    publish(&emulator, COUNT);
    acknowledge(&mut application, COUNT).await;
    let counts = emulator.admin().wait_for(GROUP, BOUND, |counts| counts.accepted == COUNT as u64).unwrap();
    assert_eq!(counts.released, 0);

    let (status, metrics) = sidecar.get("/metrics").unwrap();
    assert_eq!(status, 200, "{metrics}");
    for line in [
        r#"sluice_sidecar_deliveries_settled_total{outcome="accepted"} 50"#,
        r#"sluice_sidecar_deliveries_settled_total{outcome="released"} 0"#,
        "sluice_sidecar_deliveries_received_total 50",
        "sluice_sidecar_link_up 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "no `{line}` in:\n{metrics}");
    }
}

/// Writes a key as an editor would: with a line end.
fn write_key(directory: &Path, secret: &str) {
    fs::write(directory.join("accessKeyId"), format!("{ACCESS_KEY_ID}\n")).unwrap();
    fs::write(directory.join("accessKeySecret"), format!("{secret}\n")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_from_a_directory_connects_and_is_read_again_for_the_next_attempt() {
    let emulator = Emulator::start().unwrap();
    let keys = tempfile::tempdir().unwrap();
    write_key(keys.path(), ACCESS_KEY_SECRET);
    let settings = Settings::for_emulator(&emulator).unwrap().with_credentials_dir(keys.path());
    let sidecar = Sidecar::start(settings).unwrap();
    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    publish(&emulator, 1);
    acknowledge(&mut application, 1).await;

    write_key(keys.path(), "wrongsecret");
    assert_eq!(emulator.admin().inject(Fault::Close).unwrap(), 1);
    let reason = application.link_state(State::Down, BOUND).await.unwrap();
    assert!(reason.contains("refused the credentials") && !reason.contains("wrongsecret"), "{reason}");
}

#[test]
fn a_directory_without_a_key_is_named() {
    let emulator = Emulator::start().unwrap();
    let keys = tempfile::tempdir().unwrap();
    let settings = Settings::for_emulator(&emulator).unwrap().with_credentials_dir(keys.path());
    let (status, log) = Sidecar::refused(&settings).unwrap();
    assert!(!status.success());
    assert!(log.contains(&keys.path().join("accessKeyId").display().to_string()), "{log}");
}
