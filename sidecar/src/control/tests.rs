//! The sidecar between a scripted broker, a scripted platform and scripted applications, in stopped time. The broker speaks
//! `sluice.control.v1` over TLS and HTTP/2, on connections that are made in this process.

mod broker;

use std::path::PathBuf;
use std::time::Duration;

use sluice_proto::control::v1::{self, broker_message, sidecar_message};
use sluice_proto::v1::link_state::State;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tonic::Status;

use self::broker::{Broker, Conversation, authority};
use super::client::{self, Control, Settings};
use super::status::{ControlPhase, ControlStatus};
use super::terms::tests::policy;
use crate::clock;
use crate::consumer::tests::{Application, Platform, Told, incoming, lost, settle_down};
use crate::consumer::{Consumer, Handle, Snapshot};
use crate::ledger::{LeaseId, Policy};
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::readiness::Readiness;

/// A sidecar in a cluster.
struct Sidecar {
    platform: Platform,
    handle: Handle,
    consumer: watch::Receiver<Snapshot>,
    status: watch::Receiver<ControlStatus>,
    readiness: watch::Receiver<Readiness>,
    shutdown: watch::Sender<Option<std::time::Instant>>,
    tasks: Vec<JoinHandle<()>>,
    dir: TempDir,
}

impl Sidecar {
    fn start(broker: &Broker) -> Self {
        Self::start_in(broker, tempfile::tempdir().unwrap(), "the-token\n")
    }

    fn start_in(broker: &Broker, dir: TempDir, token: &str) -> Self {
        let platform = Platform::default();
        let token_file: PathBuf = dir.path().join("token");
        std::fs::write(&token_file, token).unwrap();
        let (memory, remembered) = Memory::open(dir.path()).unwrap();
        let metrics = Metrics::default();
        let (desk, orders, permits) = client::prepare(Policy::default());
        let (consumer, handle, snapshots) = Consumer::new(permits, orders, LeaseId(1), metrics.clone());
        let links = platform.clone();
        let settings = Settings {
            group: "telemetry".to_owned(),
            token: token_file,
            memory,
            remembered,
            connector: Box::new(move |endpoint| match endpoint.ca_pem.as_deref() {
                None => Ok(links.clone()),
                Some(_) => Err("no certificate in it".to_owned()),
            }),
            metrics,
        };
        let (control, told) = Control::new(settings, broker.dial(), desk, snapshots.clone());
        let (shutdown, stop) = watch::channel(None);
        let consuming = async {
            consumer.run(stop).await;
        };
        let tasks = vec![tokio::spawn(consuming), tokio::spawn(control.run())];
        let (status, readiness) = (told.status, told.readiness);
        Self { platform, handle, consumer: snapshots, status, readiness, shutdown, tasks, dir }
    }

    async fn attach(&self, client_id: &str) -> Application {
        Application::attach(&self.handle, client_id, 1000).await.unwrap()
    }

    /// Stops it in good order.
    async fn stop(self) -> TempDir {
        self.shutdown.send_replace(Some(clock::now()));
        for task in self.tasks {
            task.await.unwrap();
        }
        self.dir
    }

    /// Waits until the status is so, and returns it.
    async fn status(&mut self, what: impl FnMut(&ControlStatus) -> bool) -> ControlStatus {
        let found = tokio::time::timeout(Duration::from_secs(600), self.status.wait_for(what)).await;
        found.expect("the status is so within ten minutes").unwrap().clone()
    }
}

fn granted(epoch: u64, slots: &[u32]) -> broker_message::Message {
    broker_message::Message::SlotGranted(v1::SlotGranted { epoch, slots: slots.to_vec(), attempts_alone: 1 })
}

fn permit(id: u64, user: &str) -> broker_message::Message {
    let (user_name, password) = (user.to_owned(), "secret".to_owned());
    broker_message::Message::Permit(v1::Permit { id, user_name, password, usable_ms: 0 })
}

/// A sidecar whose link is up in slot 7 by grant 5, its application, its conversation, and what comes on the link.
async fn connected(broker: &mut Broker) -> (Sidecar, Application, Conversation, crate::consumer::tests::Events) {
    let sidecar = Sidecar::start(broker);
    let link = sidecar.platform.link();
    let mut application = sidecar.attach("a").await;
    let mut talk = broker.welcome(policy()).await;
    talk.until(|report| report.wants_slot).await;
    talk.say(granted(5, &[7])).await;
    let request = talk.permit_request().await;
    assert_eq!((request.id, request.epoch, request.slot), (1, 5, 7));
    talk.say(permit(1, "pod-7")).await;
    application.link_state(State::Up).await;
    assert_eq!(sidecar.platform.users(), ["pod-7"]);
    (sidecar, application, talk, link)
}

#[tokio::test(start_paused = true)]
async fn the_sidecar_says_who_it_is_and_what_it_holds() {
    let mut broker = Broker::start();
    let sidecar = Sidecar::start(&broker);
    let (mut talk, hello) = broker.accept().await;
    assert_eq!(talk.authorization, "Bearer the-token");
    let report = hello.report.unwrap();
    assert_eq!((hello.consumer_group.as_str(), hello.stream, hello.protocol_max), ("telemetry", 1, 1));
    assert!(hello.process > 0 && !hello.attempted_alone && report.figures.is_none());
    assert_eq!((report.wants_slot, report.held_epoch, report.seen_epoch), (false, 0, 0));
    talk.welcome().await;
    talk.say(broker_message::Message::Policy(policy())).await;
    let _application = sidecar.attach("a").await;
    let report = talk.until(|report| report.wants_slot).await;
    assert_eq!(report.link.unwrap().phase(), v1::link::Phase::Idle);
    assert_eq!(*sidecar.readiness.borrow(), Readiness::Link);
    assert_eq!(sidecar.platform.told(), []);
}

#[tokio::test(start_paused = true)]
async fn a_grant_and_a_permit_make_a_link_and_figures_follow() {
    let mut broker = Broker::start();
    let (sidecar, mut application, mut talk, link) = connected(&mut broker).await;
    let report = talk.until(|report| report.link.as_ref().unwrap().phase() == v1::link::Phase::Up).await;
    assert_eq!((report.held_epoch, report.seen_epoch, report.yielded), (5, 5, false));
    link.send(Ok(vec![incoming(0), incoming(1)])).unwrap();
    let ids: Vec<u64> = application.deliveries().await.iter().map(|delivery| delivery.delivery_id).collect();
    application.ack(&ids[..1]).await;
    let mut figures = v1::Figures::default();
    let from = Instant::now();
    while from.elapsed() < Duration::from_secs(12) {
        let more = talk.figures().await;
        figures.interval_ms += more.interval_ms;
        figures.received += more.received;
        figures.accepted += more.accepted;
        figures.in_flight = more.in_flight;
        figures.streams = more.streams;
    }
    assert_eq!((figures.received, figures.accepted, figures.in_flight, figures.streams), (2, 1, 1, 1));
    assert!(figures.interval_ms.abs_diff(u32::try_from(from.elapsed().as_millis()).unwrap()) < 6_000);
    drop(sidecar);
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_stands_by_makes_no_attempt_and_says_why() {
    let mut broker = Broker::start();
    let mut sidecar = Sidecar::start(&broker);
    let mut application = sidecar.attach("a").await;
    let mut talk = broker.welcome(policy()).await;
    talk.until(|report| report.wants_slot).await;
    let reason = "all 64 client slots are held".to_owned();
    talk.say(broker_message::Message::StandBy(v1::StandBy { reason: reason.clone() })).await;
    while application.link_state(State::Connecting).await != reason {}
    sidecar.status(|status| status.standing_by == reason).await;
    sleep(Duration::from_secs(300)).await;
    assert_eq!(sidecar.platform.told(), []);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_told_to_yield_answers_what_is_in_hand_and_gives_its_slot_back() {
    let mut broker = Broker::start();
    let (mut sidecar, mut application, mut talk, link) = connected(&mut broker).await;
    link.send(Ok(vec![incoming(0)])).unwrap();
    let deliveries = application.deliveries().await;
    talk.say(broker_message::Message::Yield(v1::Yield { epoch: 5, drain_ms: 20_000 })).await;
    sleep(Duration::from_secs(2)).await;
    assert!(!sidecar.platform.told().contains(&Told::Closed), "one message is not answered");
    application.ack(&[deliveries[0].delivery_id]).await;
    let report = talk.until(|report| report.held_epoch == 0).await;
    assert_eq!((report.seen_epoch, report.yielded, report.wants_slot), (5, true, true));
    assert_eq!(sidecar.platform.told().last(), Some(&Told::Closed));
    assert!(sidecar.status(|status| status.yielded).await.slots.is_empty());

    let _second = sidecar.platform.link();
    talk.say(granted(9, &[2])).await;
    let request = talk.permit_request().await;
    assert_eq!((request.epoch, request.slot), (9, 2));
    talk.say(permit(request.id, "pod-2")).await;
    application.link_state(State::Up).await;
    sidecar.status(|status| !status.yielded && status.slots == [2]).await;
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_no_application_wants_is_given_back_after_a_minute() {
    let mut broker = Broker::start();
    let (sidecar, application, mut talk, _link) = connected(&mut broker).await;
    application.leave().await;
    let from = Instant::now();
    let report = talk.until(|report| report.held_epoch == 0).await;
    assert!((Duration::from_secs(60)..Duration::from_secs(63)).contains(&from.elapsed()), "{:?}", from.elapsed());
    assert_eq!((report.wants_slot, report.yielded, report.seen_epoch), (false, false, 5));
    assert!(sidecar.platform.told().contains(&Told::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_slot_whose_links_the_platform_may_take_for_alive_is_kept_until_it_cannot() {
    let mut broker = Broker::start();
    let (sidecar, _application, mut talk, _link) = connected(&mut broker).await;
    sidecar.platform.block(true);
    talk.say(broker_message::Message::Yield(v1::Yield { epoch: 5, drain_ms: 0 })).await;
    let from = Instant::now();
    talk.until(|report| report.held_epoch == 0).await;
    let kept = from.elapsed();
    // The idle time-out, 60 s, and 15 s; it counts from the end of the 3 s in which the platform could have confirmed.
    assert!((Duration::from_secs(74)..Duration::from_secs(81)).contains(&kept), "{kept:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_not_the_leader_is_passed_over() {
    let mut broker = Broker::start();
    let mut sidecar = Sidecar::start(&broker);
    for _ in 0..2 {
        let (talk, _) = broker.accept().await;
        talk.end(Status::unavailable("the leader is sluice-operator-1"));
    }
    let (mut talk, hello) = broker.accept().await;
    assert_eq!(hello.stream, 3);
    talk.welcome().await;
    let status = sidecar.status(|status| status.phase == ControlPhase::Connected).await;
    assert_eq!((status.reason.as_str(), status.operator_version.as_str()), ("", "9.9.9"));
}

#[tokio::test(start_paused = true)]
async fn without_a_broker_links_stay_and_after_ninety_seconds_they_are_renewed_without_a_permit() {
    let mut broker = Broker::start();
    let (mut sidecar, mut application, talk, link) = connected(&mut broker).await;
    let heard = Instant::now();
    talk.end(Status::unavailable("going away"));
    broker.refuse(true);
    sidecar.status(|status| status.phase != ControlPhase::Connected).await;
    link.send(Ok(vec![incoming(0)])).unwrap();
    let deliveries = application.deliveries().await;
    application.ack(&[deliveries[0].delivery_id]).await;
    assert_eq!(application.results().await.settled.len(), 1, "consumption goes on");

    let _second = sidecar.platform.link();
    link.send(Err(lost("cut"))).unwrap();
    while heard.elapsed() < Duration::from_secs(84) {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(sidecar.platform.attempts(), 1, "after {:?}", heard.elapsed());
    }
    application.link_state(State::Up).await;
    assert!(heard.elapsed() >= Duration::from_secs(85), "{:?}", heard.elapsed());
    assert_eq!(sidecar.platform.users(), ["pod-7", "pod-7"], "with the last pair");
    assert!(sidecar.status(|status| status.alone).await.permits_awaited == 0);

    // The next broker hears of it, and so does a successor.
    broker.refuse(false);
    let (_talk, hello) = broker.accept().await;
    let report = hello.report.unwrap();
    assert!(hello.attempted_alone && report.held_epoch == 5 && report.seen_epoch == 5, "{report:?}");
    let process = hello.process;
    let dir = sidecar.stop().await;
    let successor = Sidecar::start_in(&broker, dir, "the-token");
    let (_talk, hello) = broker.accept().await;
    assert!(hello.attempted_alone && hello.process > process && hello.stream == 1);
    assert_eq!(hello.report.unwrap().held_epoch, 0);
    drop(successor);
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_has_said_hello_makes_no_attempt_of_its_own() {
    let mut broker = Broker::start();
    let (sidecar, _application, talk, link) = connected(&mut broker).await;
    talk.hush();
    link.send(Err(lost("cut"))).unwrap();
    // The broker takes streams and says nothing on them: most of the time a Hello is waiting for its answer.
    let mut silent = Vec::new();
    let mut made_at = None;
    for _ in 0..1_300 {
        tokio::select! {
            (talk, _) = broker.accept() => silent.push((talk, Instant::now())),
            () = sleep(Duration::from_millis(100)) => {}
        }
        if sidecar.platform.attempts() > 1 && made_at.is_none() {
            made_at = Some(Instant::now());
        }
    }
    let at = made_at.expect("between two streams an attempt is made");
    let greeted = |since: &Instant| *since + Duration::from_millis(200) < at && at < *since + Duration::from_secs(10);
    assert!(!silent.iter().any(|(_, since)| greeted(since)), "made {at:?} while a Hello waited");
    assert!(silent.len() > 2, "silent streams are given up");
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_with_a_new_grant_does_not_connect_with_what_was_signed_under_the_old_one() {
    let mut broker = Broker::start();
    let (sidecar, _application, mut talk, _link) = connected(&mut broker).await;
    talk.say(broker_message::Message::Yield(v1::Yield { epoch: 5, drain_ms: 0 })).await;
    talk.until(|report| report.held_epoch == 0).await;
    let _second = sidecar.platform.link();
    // The same slot again, of another group perhaps.
    talk.say(granted(9, &[7])).await;
    let request = talk.permit_request().await;
    assert_eq!((request.epoch, request.slot), (9, 7));
    talk.end(Status::unavailable("going away"));
    broker.refuse(true);
    sleep(Duration::from_secs(600)).await;
    assert!(sidecar.status.borrow().alone && sidecar.status.borrow().permits_awaited == 1);
    assert_eq!(sidecar.platform.users(), ["pod-7"], "signed under grant 5");
}

#[tokio::test(start_paused = true)]
async fn a_permit_asked_for_under_the_old_grant_is_of_no_use_under_the_new_one() {
    let mut broker = Broker::start();
    let sidecar = Sidecar::start(&broker);
    let _link = sidecar.platform.link();
    let mut application = sidecar.attach("a").await;
    let mut talk = broker.welcome(policy()).await;
    talk.say(granted(5, &[7])).await;
    let old = talk.permit_request().await;
    // In one breath: the answer comes while the old grant is being left.
    talk.say(granted(9, &[7])).await;
    talk.say(permit(old.id, "old")).await;
    let new = talk.permit_request().await;
    assert_eq!((new.epoch, new.slot), (9, 7));
    talk.end(Status::unavailable("going away"));
    broker.refuse(true);
    sleep(Duration::from_secs(600)).await;
    assert!(sidecar.status.borrow().alone);
    assert_eq!(sidecar.platform.users(), [""; 0], "not now, and not when it is alone");
    broker.refuse(false);
    let mut talk = broker.welcome(policy()).await;
    let again = talk.permit_request().await;
    talk.say(permit(again.id, "new")).await;
    application.link_state(State::Up).await;
    assert_eq!(sidecar.platform.users(), ["new"]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_must_be_written_four_seconds_after_its_permit_was_asked_for() {
    let mut broker = Broker::start();
    let sidecar = Sidecar::start(&broker);
    let _link = sidecar.platform.link();
    let mut application = sidecar.attach("a").await;
    let mut talk = broker.welcome(policy()).await;
    let from = clock::now();
    talk.say(granted(5, &[7])).await;
    let request = talk.permit_request().await;
    let asked = clock::now();
    sleep(Duration::from_secs(3)).await;
    talk.say(permit(request.id, "pod-7")).await;
    application.link_state(State::Up).await;
    let [Some(until)] = sidecar.platform.untils()[..] else { panic!("{:?}", sidecar.platform.untils()) };
    let lapse = Duration::from_secs(4);
    assert!((from + lapse..=asked + lapse).contains(&until), "{:?} after the request", until - asked);
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_comes_after_four_seconds_is_thrown_away_and_asked_for_again() {
    let mut broker = Broker::start();
    let sidecar = Sidecar::start(&broker);
    let _link = sidecar.platform.link();
    let mut application = sidecar.attach("a").await;
    let mut talk = broker.welcome(policy()).await;
    talk.say(granted(5, &[7])).await;
    let late = talk.permit_request().await;
    sleep(Duration::from_millis(4_001)).await;
    talk.say(permit(late.id, "late")).await;
    let again = talk.permit_request().await;
    assert_eq!((again.id, again.slot), (late.id + 1, 7));
    assert_eq!(sidecar.platform.told(), []);
    let refused = v1::PermitRefused { id: again.id, reason: "full".to_owned(), retry_after_ms: 30_000 };
    talk.say(broker_message::Message::PermitRefused(refused)).await;
    let from = Instant::now();
    let third = talk.permit_request().await;
    assert!((Duration::from_secs(30)..Duration::from_secs(40)).contains(&from.elapsed()));
    sleep(Duration::from_millis(3_500)).await;
    talk.say(permit(third.id, "in time")).await;
    application.link_state(State::Up).await;
    assert_eq!(sidecar.platform.users(), ["in time"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_on_a_lost_stream_is_asked_for_again_on_the_next() {
    let mut broker = Broker::start();
    let sidecar = Sidecar::start(&broker);
    let _link = sidecar.platform.link();
    let mut application = sidecar.attach("a").await;
    let mut talk = broker.welcome(policy()).await;
    talk.say(granted(5, &[7])).await;
    let first = talk.permit_request().await;
    talk.end(Status::aborted("a newer stream of this pod has come"));
    let (mut talk, hello) = broker.accept().await;
    let report = hello.report.unwrap();
    assert_eq!((hello.stream, report.held_epoch, report.seen_epoch), (2, 5, 5));
    talk.welcome().await;
    // The answer to the old request counts no more.
    talk.say(permit(first.id, "stale")).await;
    let second = talk.permit_request().await;
    assert!(second.id > first.id);
    talk.say(permit(second.id, "fresh")).await;
    application.link_state(State::Up).await;
    assert_eq!(sidecar.platform.users(), ["fresh"]);
}

#[tokio::test(start_paused = true)]
async fn policy_changes_live_and_what_cannot_be_followed_is_not() {
    let mut broker = Broker::start();
    let (mut sidecar, _application, talk, _link) = connected(&mut broker).await;
    let delivery = v1::Delivery { max_in_flight: 1, ..policy().delivery.unwrap() };
    let narrow = v1::Policy { delivery: Some(delivery), readiness: v1::Readiness::Process.into(), ..policy() };
    talk.say(broker_message::Message::Policy(narrow.clone())).await;
    settle_down().await;
    assert_eq!(*sidecar.readiness.borrow(), Readiness::Process);

    let garbage = v1::Policy { amqp_port: 0, readiness: v1::Readiness::Link.into(), ..narrow.clone() };
    talk.say(broker_message::Message::Policy(garbage)).await;
    let status = sidecar.status(|status| !status.bad_policy.is_empty()).await;
    assert!(status.bad_policy.contains("amqp_port is 0"), "{}", status.bad_policy);
    let no_ca = v1::Policy { ca_pem: "nonsense".to_owned(), ..narrow };
    talk.say(broker_message::Message::Policy(no_ca)).await;
    sidecar.status(|status| status.bad_policy.contains("no certificate")).await;
    assert_eq!(*sidecar.readiness.borrow(), Readiness::Process, "the last that could be followed holds");
    assert_eq!(sidecar.platform.attempts(), 1, "the link stays");
    talk.say(broker_message::Message::Policy(policy())).await;
    sidecar.status(|status| status.bad_policy.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_falls_silent_is_given_up_for_another() {
    let mut broker = Broker::start();
    let (mut sidecar, _application, talk, _link) = connected(&mut broker).await;
    talk.hush();
    let from = Instant::now();
    let (mut next, hello) = broker.accept().await;
    assert!((Duration::from_secs(15)..Duration::from_secs(27)).contains(&from.elapsed()), "{:?}", from.elapsed());
    assert_eq!((hello.stream, hello.report.unwrap().held_epoch), (2, 5));
    next.welcome().await;
    sidecar.status(|status| status.phase == ControlPhase::Connected).await;
    assert_eq!(sidecar.platform.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_cannot_be_followed_is_named_and_consumption_goes_on() {
    let mut broker = Broker::start();
    let (mut sidecar, _application, talk, _link) = connected(&mut broker).await;
    for (status, words) in [
        (Status::unauthenticated("audience"), "refused the token"),
        (Status::failed_precondition("this operator speaks 7 to 9"), "this operator speaks 7 to 9"),
    ] {
        broker.refuse(false);
        talk.end(status.clone());
        let (refused, _) = broker.accept().await;
        refused.end(status);
        let shown = sidecar.status(|shown| shown.reason.contains(words)).await;
        assert!(!shown.reason.contains("the-token"), "{}", shown.reason);
    }
    // A first word that is no welcome, and a version that nobody speaks.
    let (odd, _) = broker.accept().await;
    odd.say(granted(77, &[1])).await;
    sidecar.status(|shown| shown.reason.contains("did not begin with a Welcome")).await;
    let (odd, _) = broker.accept().await;
    let welcome = v1::Welcome { protocol: 12, version: "x".to_owned(), report_interval_ms: 0 };
    odd.say(broker_message::Message::Welcome(welcome)).await;
    sidecar.status(|shown| shown.reason.contains("version 12")).await;
    // Grants that can't be, and messages that are none.
    let (mut next, _) = broker.accept().await;
    next.welcome().await;
    next.say(granted(99, &[])).await;
    next.say(granted(0, &[1])).await;
    next.say_nothing().await;
    let report = next.until(|report| report.held_epoch == 5).await;
    assert_eq!((report.seen_epoch, sidecar.platform.attempts()), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn a_broker_of_another_authority_is_not_spoken_with() {
    let broker = Broker::start();
    broker.trust(&authority());
    let mut sidecar = Sidecar::start(&broker);
    let status = sidecar.status(|status| !status.reason.is_empty()).await;
    assert!(
        status.reason.contains("TLS with the broker") && status.reason.contains("--broker-ca"),
        "{}",
        status.reason
    );
    assert_eq!(broker.accepted(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_file_that_is_empty_is_named() {
    let broker = Broker::start();
    let mut sidecar = Sidecar::start_in(&broker, tempfile::tempdir().unwrap(), "\n");
    let status = sidecar.status(|status| !status.reason.is_empty()).await;
    assert!(status.reason.contains("--token-file") && status.reason.contains("empty"), "{}", status.reason);
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_gives_its_slot_back_with_its_last_word() {
    let mut broker = Broker::start();
    let (sidecar, application, mut talk, _link) = connected(&mut broker).await;
    drop(application);
    let stopping = tokio::spawn(sidecar.stop());
    let report = talk.until(|report| report.held_epoch == 0).await;
    assert_eq!((report.draining, report.wants_slot, report.seen_epoch), (true, false, 5));
    talk.end(Status::ok(""));
    stopping.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_grant_of_several_slots_makes_as_many_links_with_a_permit_each() {
    let mut broker = Broker::start();
    let sidecar = Sidecar::start(&broker);
    let _links = (sidecar.platform.link(), sidecar.platform.link());
    let mut application = sidecar.attach("a").await;
    let mut talk = broker.welcome(policy()).await;
    talk.say(granted(5, &[8, 3])).await;
    for _ in 0..2 {
        let request = talk.permit_request().await;
        talk.say(permit(request.id, &format!("pod-{}", request.slot))).await;
    }
    application.link_state(State::Up).await;
    let report = talk.until(|report| report.link.as_ref().unwrap().phase() == v1::link::Phase::Up).await;
    assert_eq!(report.held_epoch, 5);
    let mut users = sidecar.platform.users();
    users.sort();
    assert_eq!(users, ["pod-3", "pod-8"]);
    assert_eq!(sidecar.consumer.borrow().links.len(), 2);
}

/// Whether it is a report; the rest is passed over.
fn report_of(message: sidecar_message::Message) -> Option<v1::Report> {
    match message {
        sidecar_message::Message::Report(report) => Some(report),
        _ => None,
    }
}
