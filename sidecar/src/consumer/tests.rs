//! The consumer between a scripted platform and scripted applications, in stopped time.

mod seats;

use std::collections::VecDeque;
use std::sync::Mutex;

use sluice_cloud::sign::SaslCredentials;
use sluice_proto::v1::Retry;
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};
use tonic::Code;

use super::*;
use crate::amqp::fault::{Fault, Renew};
use crate::amqp::hot;
use crate::amqp::message::Unreadable;
use crate::ledger::{LinkEpoch, Policy};
use crate::orders::Seating;
use crate::permit::{Permit, PermitError, Place};
use crate::source::{ConnectError, Source};
use crate::stream::wire::Response;
use crate::stream::wire::tests::message;

/// What the scripted platform was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Attempt,
    Grant(u32),
    Settle(u32, u32, hot::Outcome),
    Closed,
}

type Script = mpsc::UnboundedReceiver<Result<Vec<Incoming>, Fault>>;

/// A platform that does what a test says and keeps what it was told.
#[derive(Clone, Default)]
pub(crate) struct Platform {
    told: Arc<Mutex<Vec<Told>>>,
    /// One entry per attempt: what comes on its link, or why there is none.
    links: Arc<Mutex<VecDeque<Result<Script, ConnectError>>>>,
    /// While set, nothing that is to be written gets through.
    blocked: Arc<Mutex<bool>>,
    unblocked: Arc<Notify>,
    /// The user names that attempts were made with.
    users: Arc<Mutex<Vec<String>>>,
    /// Until when attempts were to have reached it.
    untils: Arc<Mutex<Vec<Option<Instant>>>>,
}

pub(crate) struct ScriptedSource {
    platform: Platform,
    script: Script,
    epoch: LinkEpoch,
    outstanding: u32,
    to_write: u64,
    written: u64,
}

impl Platform {
    pub(crate) fn link(&self) -> mpsc::UnboundedSender<Result<Vec<Incoming>, Fault>> {
        let (events, script) = mpsc::unbounded_channel();
        self.links.lock().unwrap().push_back(Ok(script));
        events
    }

    pub(crate) fn refuse(&self, error: ConnectError) {
        self.links.lock().unwrap().push_back(Err(error));
    }

    fn tell(&self, what: Told) {
        self.told.lock().unwrap().push(what);
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    pub(crate) fn settled(&self) -> Vec<Told> {
        self.told().into_iter().filter(|told| matches!(told, Told::Settle(..))).collect()
    }

    pub(crate) fn users(&self) -> Vec<String> {
        self.users.lock().unwrap().clone()
    }

    pub(crate) fn untils(&self) -> Vec<Option<Instant>> {
        self.untils.lock().unwrap().clone()
    }

    pub(crate) fn attempts(&self) -> usize {
        self.told().iter().filter(|told| **told == Told::Attempt).count()
    }

    pub(crate) fn block(&self, blocked: bool) {
        *self.blocked.lock().unwrap() = blocked;
        self.unblocked.notify_one();
    }
}

impl Connect for Platform {
    type Source = ScriptedSource;
    type Target = ();

    async fn locate(&self) -> Result<(), ConnectError> {
        Ok(())
    }

    async fn connect_to(
        &self,
        (): (),
        epoch: LinkEpoch,
        with: SaslCredentials,
        until: Option<Instant>,
    ) -> Result<ScriptedSource, ConnectError> {
        self.tell(Told::Attempt);
        self.untils.lock().unwrap().push(until);
        self.users.lock().unwrap().push(with.user_name.expose().to_owned());
        let next = self.links.lock().unwrap().pop_front();
        let script = match next {
            Some(link) => link?,
            None => std::future::pending().await,
        };
        Ok(ScriptedSource { platform: self.clone(), script, epoch, outstanding: 0, to_write: 0, written: 0 })
    }
}

impl Source for ScriptedSource {
    async fn receive(&mut self, deliveries: &mut Vec<Incoming>) -> Result<Mark, Fault> {
        loop {
            let blocked = *self.platform.blocked.lock().unwrap();
            if self.written < self.to_write && !blocked {
                self.written = self.to_write;
                return Ok(Mark(self.written));
            }
            tokio::select! {
                event = self.script.recv() => {
                    let came = event.unwrap_or(Err(lost("the script is over")))?;
                    self.outstanding -= u32::try_from(came.len()).unwrap();
                    deliveries.extend(came);
                    return Ok(Mark(self.written));
                }
                () = self.platform.unblocked.notified() => {}
            }
        }
    }

    fn settle(&mut self, epoch: LinkEpoch, first: u32, last: u32, outcome: hot::Outcome) -> Result<Mark, Fault> {
        assert_eq!(epoch, self.epoch, "the consumer settles on the link that a delivery came on");
        self.platform.tell(Told::Settle(first, last, outcome));
        self.to_write += 1;
        Ok(Mark(self.to_write))
    }

    fn grant(&mut self, credit: u32) {
        assert!(credit >= self.outstanding, "credit is never lowered");
        self.outstanding = credit;
        self.platform.tell(Told::Grant(credit));
    }

    fn outstanding_credit(&self) -> u32 {
        self.outstanding
    }

    async fn close(self) -> bool {
        self.platform.tell(Told::Closed);
        !*self.platform.blocked.lock().unwrap()
    }
}

struct FreePermits;

impl Permits for FreePermits {
    async fn next(&self, _: Place) -> Result<Permit, PermitError> {
        let credentials = SaslCredentials { user_name: "user".into(), password: "password".into() };
        Ok(Permit { credentials, until: None })
    }
}

/// A running consumer and its platform.
pub(crate) struct World {
    platform: Platform,
    handle: Handle,
    status: watch::Receiver<Snapshot>,
    orders: watch::Sender<Arc<Orders<Platform>>>,
    shutdown: watch::Sender<Option<Instant>>,
    consumer: JoinHandle<bool>,
}

impl World {
    /// With one slot.
    fn new(platform: Platform, policy: Policy) -> Self {
        Self::seated(platform, policy, Seating::Use { epoch: 1, slots: vec![0] })
    }

    fn seated(platform: Platform, policy: Policy, seat: Seating) -> Self {
        let first =
            Orders { number: 1, seat, connector: Some(Arc::new(platform.clone())), policy, credentials_version: 1 };
        let (orders, ordered) = watch::channel(Arc::new(first));
        let (consumer, handle, status) = Consumer::new(FreePermits, ordered, LeaseId(1), Metrics::default());
        let (shutdown, stop) = watch::channel(None);
        Self { platform, handle, status, orders, shutdown, consumer: tokio::spawn(consumer.run(stop)) }
    }

    /// Gives other orders.
    fn order(&self, seat: Seating, policy: Policy) {
        let (number, credentials_version) = {
            let before = self.orders.borrow();
            (before.number + 1, before.credentials_version)
        };
        let connector = Some(Arc::new(self.platform.clone()));
        self.orders.send_replace(Arc::new(Orders { number, seat, connector, policy, credentials_version }));
    }

    /// The same orders, with other credentials.
    fn renew_credentials(&self) {
        let before = Arc::clone(&self.orders.borrow());
        self.orders.send_replace(Arc::new(Orders {
            number: before.number + 1,
            seat: before.seat.clone(),
            connector: before.connector.clone(),
            policy: before.policy.clone(),
            credentials_version: before.credentials_version + 1,
        }));
    }

    async fn attach(&self, client_id: &str) -> Result<Application, Status> {
        Application::attach(&self.handle, client_id, 1000).await
    }
}

/// An application, on this side of gRPC.
pub(crate) struct Application {
    attachment: Attachment,
    responses: mpsc::Receiver<Result<Response, Status>>,
    handle: Handle,
}

impl Application {
    /// A new stream, which takes so many messages at a time.
    pub(crate) async fn attach(handle: &Handle, client_id: &str, messages: u32) -> Result<Self, Status> {
        let (out, responses) = mpsc::channel(16);
        let (reply, answer) = oneshot::channel();
        let limits = Limits { messages, bytes: 1 << 20, largest: 1 << 20 };
        let command = Command::Attach { client_id: client_id.into(), limits, resume: false, out, reply };
        handle.commands.send(command).await.unwrap();
        let attachment = answer.await.unwrap()?;
        Ok(Self { attachment, responses, handle: handle.clone() })
    }

    /// Waits until the link is told to be in this state, and returns why.
    pub(crate) async fn link_state(&mut self, wanted: v1::link_state::State) -> String {
        loop {
            if let Response::Other(v1::ConsumeResponse { response: Some(consume_response::Response::Notice(notice)) }) =
                self.next().await.unwrap()
                && let Some(v1::notice::Notice::LinkState(state)) = notice.notice
                && state.state() == wanted
            {
                return state.reason;
            }
        }
    }

    /// Goes away.
    pub(crate) async fn leave(self) {
        self.say(Command::Detach(self.attachment)).await;
    }

    async fn next(&mut self) -> Result<Response, Status> {
        let next = timeout(Duration::from_secs(600), self.responses.recv()).await.expect("something comes");
        self.handle.room.notify_one();
        next.unwrap_or(Err(Status::ok("the end")))
    }

    /// The next deliveries; notices are passed over.
    pub(crate) async fn deliveries(&mut self) -> Vec<v1::Delivery> {
        loop {
            if let Response::Deliveries(batch) = self.next().await.unwrap() {
                return batch.read();
            }
        }
    }

    /// The next results; notices are passed over.
    pub(crate) async fn results(&mut self) -> v1::VerdictResults {
        loop {
            if let Response::Other(v1::ConsumeResponse {
                response: Some(consume_response::Response::Results(results)),
            }) = self.next().await.unwrap()
            {
                return results;
            }
        }
    }

    /// How the stream ends.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }

    pub(crate) async fn say(&self, command: Command) {
        self.handle.commands.send(command).await.unwrap();
    }

    pub(crate) async fn ack(&self, ids: &[u64]) {
        let verdicts = Verdicts { ack_delivery_ids: ids.to_vec(), retry: Vec::new() };
        self.say(Command::Verdicts(self.attachment, verdicts)).await;
    }
}

/// What comes on a link.
pub(crate) type Events = mpsc::UnboundedSender<Result<Vec<Incoming>, Fault>>;

/// A world whose link is up, and an application in it.
async fn attached() -> (World, Events, Application) {
    let platform = Platform::default();
    let link = platform.link();
    let world = World::new(platform, Policy::default());
    let application = world.attach("a").await.unwrap();
    settle_down().await;
    (world, link, application)
}

/// A connection that the peer has ended without a word.
pub(crate) fn lost(reason: &str) -> Fault {
    Fault::Lost { kind: std::io::ErrorKind::ConnectionReset, reason: reason.to_owned() }
}

/// The platform ends a connection whose credentials are good no longer.
fn unauthorized() -> Fault {
    let (condition, description) = ("amqp:unauthorized-access".to_owned(), None);
    Fault::Ended { level: Renew::Connection, condition, description }
}

pub(crate) fn incoming(delivery_id: u32) -> Incoming {
    let id = delivery_id.to_string();
    let message = message(&[("topic", "/pk/dn/user/up"), ("messageId", &id)], id.as_bytes());
    Incoming { delivery_id, message: Ok(message) }
}

/// Lets everything that can happen now happen.
pub(crate) async fn settle_down() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn without_an_application_there_is_no_attempt_and_no_credit() {
    let platform = Platform::default();
    let link = platform.link();
    let world = World::new(platform, Policy::default());
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.platform.told(), []);
    let _application = world.attach("a").await.unwrap();
    settle_down().await;
    let told = world.platform.told();
    assert!(matches!(told[..], [Told::Attempt, Told::Grant(credit)] if credit > 0), "{told:?}");
    drop(link);
}

#[tokio::test(start_paused = true)]
async fn a_message_is_settled_after_its_ack_and_the_result_comes_once_that_is_written() {
    let (world, link, mut application) = attached().await;
    link.send(Ok(vec![incoming(0), incoming(1), incoming(2)])).unwrap();
    let deliveries = application.deliveries().await;
    let payloads: Vec<&[u8]> = deliveries.iter().map(|delivery| delivery.payload.as_ref()).collect();
    assert_eq!(payloads, [b"0", b"1", b"2"]);
    settle_down().await;
    assert_eq!(world.platform.settled(), [], "nothing is settled before its ack");

    world.platform.block(true);
    let ids: Vec<u64> = deliveries.iter().map(|delivery| delivery.delivery_id).collect();
    application.ack(&ids).await;
    settle_down().await;
    assert_eq!(world.platform.settled(), [Told::Settle(0, 2, hot::Outcome::Accepted)], "one frame for all");
    let early = timeout(Duration::from_secs(5), application.results()).await;
    assert!(early.is_err(), "no result before the settlement is written: {early:?}");
    world.platform.block(false);
    assert_eq!(application.results().await.settled, ids);
}

#[tokio::test(start_paused = true)]
async fn a_link_lost_before_the_settlement_is_written_is_told() {
    let platform = Platform::default();
    let (first, second) = (platform.link(), platform.link());
    let world = World::new(platform, Policy::default());
    let mut application = world.attach("a").await.unwrap();
    settle_down().await;
    first.send(Ok(vec![incoming(0), incoming(1)])).unwrap();
    let deliveries = application.deliveries().await;
    world.platform.block(true);
    application.ack(&[deliveries[0].delivery_id]).await;
    settle_down().await;
    first.send(Err(lost("cut"))).unwrap();
    settle_down().await;
    world.platform.block(false);
    assert_eq!(application.results().await.link_lost, [deliveries[0].delivery_id]);
    // The other one is acked with no link at all.
    application.ack(&[deliveries[1].delivery_id]).await;
    assert_eq!(application.results().await.link_lost, [deliveries[1].delivery_id]);
    // The platform pushes both again; they are known as acked, and accepted without troubling the application.
    while world.platform.attempts() < 2 {
        sleep(Duration::from_millis(100)).await;
    }
    settle_down().await;
    second.send(Ok(vec![incoming(0), incoming(1)])).unwrap();
    settle_down().await;
    assert_eq!(world.platform.settled().last(), Some(&Told::Settle(0, 1, hot::Outcome::Accepted)));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_read_is_handed_back_and_not_given_out() {
    let (world, link, mut application) = attached().await;
    link.send(Ok(vec![Incoming { delivery_id: 7, message: Err(Unreadable::NoData) }, incoming(8)])).unwrap();
    let deliveries = application.deliveries().await;
    assert_eq!(deliveries.len(), 1);
    assert_eq!(world.platform.settled(), [Told::Settle(7, 7, hot::Outcome::Released)]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_comes_again_and_one_that_is_too_long_goes_back() {
    let (world, link, mut application) = attached().await;
    link.send(Ok(vec![incoming(0), incoming(1)])).unwrap();
    let deliveries = application.deliveries().await;
    let retry =
        |delivery: &v1::Delivery, delay_ms| Retry { delivery_id: delivery.delivery_id, delay_ms: Some(delay_ms) };
    let verdicts = Verdicts {
        ack_delivery_ids: Vec::new(),
        retry: vec![retry(&deliveries[0], 1_000), retry(&deliveries[1], 60_000)],
    };
    application.say(Command::Verdicts(application.attachment, verdicts)).await;
    let results = application.results().await;
    assert_eq!(results.retry_scheduled, [deliveries[0].delivery_id]);
    let again = application.deliveries().await;
    assert_eq!((again.len(), again[0].attempt), (1, 2));
    assert_ne!(again[0].delivery_id, deliveries[0].delivery_id);
    assert_eq!(world.platform.settled(), [Told::Settle(1, 1, hot::Outcome::Released)]);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_is_hung_loses_its_stream_and_gets_no_more_credit() {
    let (world, link, mut application) = attached().await;
    link.send(Ok(vec![incoming(0)])).unwrap();
    application.deliveries().await;
    sleep(Duration::from_secs(26)).await;
    assert_eq!(world.platform.settled(), [Told::Settle(0, 0, hot::Outcome::Released)], "one slow message is no hang");
    link.send(Ok(vec![incoming(1)])).unwrap();
    application.deliveries().await;
    assert_eq!(application.end().await.code(), Code::DeadlineExceeded);
    let grants = world.platform.told().len();
    sleep(Duration::from_secs(20)).await;
    assert_eq!(world.platform.told().len(), grants);
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_verdicts_hands_the_rest_back_and_closes_the_link() {
    let (world, link, mut application) = attached().await;
    link.send(Ok(vec![incoming(0), incoming(1)])).unwrap();
    let deliveries = application.deliveries().await;
    world.shutdown.send_replace(Some(clock::now() + Duration::from_secs(10)));
    settle_down().await;
    assert_eq!(world.attach("b").await.err().map(|status| status.code()), Some(Code::Unavailable));
    application.ack(&[deliveries[0].delivery_id]).await;
    assert_eq!(application.results().await.settled, [deliveries[0].delivery_id]);
    assert_eq!(application.end().await.code(), Code::Unavailable);
    assert!(!world.consumer.await.unwrap(), "one was not answered");
    let told = world.platform.told();
    let end = [Told::Settle(0, 0, hot::Outcome::Accepted), Told::Settle(1, 1, hot::Outcome::Released), Told::Closed];
    assert!(told.ends_with(&end), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_as_soon_as_everything_is_answered() {
    let platform = Platform::default();
    let _link = platform.link();
    let world = World::new(platform, Policy::default());
    let _application = world.attach("a").await.unwrap();
    settle_down().await;
    let begun = clock::now();
    world.shutdown.send_replace(Some(begun + Duration::from_secs(600)));
    assert!(world.consumer.await.unwrap());
    assert!(clock::now() < begun + Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_link_that_nobody_reads_is_given_up_after_a_minute() {
    let platform = Platform::default();
    let (first, second) = (platform.link(), platform.link());
    let world = World::new(platform, Policy::default());
    let application = world.attach("a").await.unwrap();
    settle_down().await;
    application.say(Command::Detach(application.attachment)).await;
    sleep(Duration::from_secs(50)).await;
    assert!(!world.platform.told().contains(&Told::Closed));
    sleep(Duration::from_secs(15)).await;
    assert!(world.platform.told().contains(&Told::Closed));
    assert_eq!(world.platform.attempts(), 1);
    let _back = world.attach("a").await.unwrap();
    settle_down().await;
    assert_eq!(world.platform.attempts(), 2);
    drop((first, second));
}

#[tokio::test(start_paused = true)]
async fn a_trickle_on_old_credit_does_not_keep_a_link_that_nobody_reads() {
    let (world, link, application) = attached().await;
    application.say(Command::Detach(application.attachment)).await;
    for n in 0..20 {
        if link.send(Ok(vec![incoming(n)])).is_err() {
            break;
        }
        sleep(Duration::from_secs(5)).await;
    }
    assert!(world.platform.told().contains(&Told::Closed));
    let settled = world.platform.settled();
    assert!(settled.iter().all(|told| matches!(told, Told::Settle(_, _, hot::Outcome::Released))), "{settled:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_never_read_is_ended_and_hears_so_when_it_reads_again() {
    let (world, link, mut application) = attached().await;
    // A batch at a time, until the channel takes no more.
    for n in 0..40 {
        let credit = world.platform.told().iter().filter(|told| matches!(told, Told::Grant(_))).count();
        if credit > 0 && link.send(Ok(vec![incoming(n)])).is_err() {
            break;
        }
        settle_down().await;
    }
    sleep(Duration::from_secs(50)).await;
    assert_eq!(application.end().await.code(), Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_dropped_at_once_again_and_again_is_asked_for_less_and_less_often() {
    let platform = Platform::default();
    for _ in 0..200 {
        platform.link().send(Err(lost("evicted"))).unwrap();
    }
    let world = World::new(platform, Policy::default());
    let _application = world.attach("a").await.unwrap();
    sleep(Duration::from_secs(300)).await;
    let attempts = world.platform.attempts();
    assert!((10..60).contains(&attempts), "{attempts} attempts in five minutes");
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_said_aloud_and_tried_again_slowly() {
    let platform = Platform::default();
    for _ in 0..2 {
        platform.refuse(ConnectError::Amqp(Fault::Refused { code: 1 }));
    }
    let world = World::new(platform, Policy::default());
    let mut application = world.attach("a").await.unwrap();
    let reason = loop {
        if let Response::Other(v1::ConsumeResponse { response: Some(consume_response::Response::Notice(notice)) }) =
            application.next().await.unwrap()
            && let Some(v1::notice::Notice::LinkState(state)) = notice.notice
            && state.state() == v1::link_state::State::Down
            && !state.reason.is_empty()
        {
            break state.reason;
        }
    };
    assert!(reason.contains("refused the credentials") && reason.contains("iot:sub"), "{reason}");
    sleep(Duration::from_secs(240)).await;
    assert_eq!(world.platform.attempts(), 1);
    sleep(Duration::from_secs(120)).await;
    assert_eq!(world.platform.attempts(), 2);
    // Whoever mends them does not have to wait, and needs to change nothing else.
    world.renew_credentials();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.platform.attempts(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_ends_since_its_token_has_expired_is_followed_at_once_and_slowly_only_once_refused() {
    let platform = Platform::default();
    let first = platform.link();
    let world = World::new(platform, Policy::default());
    let _application = world.attach("a").await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.platform.attempts(), 1);
    world.platform.refuse(ConnectError::Amqp(Fault::Refused { code: 1 }));
    first.send(Err(unauthorized())).unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.platform.attempts(), 2, "with the credentials of now");
    sleep(Duration::from_secs(240)).await;
    assert_eq!(world.platform.attempts(), 2, "they are refused");
    sleep(Duration::from_secs(120)).await;
    assert_eq!(world.platform.attempts(), 3);
}

#[tokio::test(start_paused = true)]
async fn other_credentials_hasten_nobody_who_was_not_refused() {
    let platform = Platform::default();
    for _ in 0..100 {
        platform.refuse(ConnectError::Amqp(lost("the peer is gone")));
    }
    let world = World::new(platform, Policy::default());
    let _application = world.attach("a").await.unwrap();
    sleep(Duration::from_secs(200)).await;
    let before = world.platform.attempts();
    for _ in 0..20 {
        world.renew_credentials();
        settle_down().await;
    }
    assert_eq!(world.platform.attempts(), before);
}

#[tokio::test(start_paused = true)]
async fn a_client_has_one_stream_at_a_time() {
    let world = World::new(Platform::default(), Policy::default());
    let _first = world.attach("a").await.unwrap();
    assert_eq!(world.attach("a").await.err().map(|status| status.code()), Some(Code::AlreadyExists));
    assert!(world.attach("b").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_number_of_streams_is_bounded() {
    let world = World::new(Platform::default(), Policy::default());
    let mut streams = Vec::new();
    let refused = loop {
        match world.attach(&streams.len().to_string()).await {
            Ok(stream) => streams.push(stream),
            Err(status) => break status,
        }
    };
    assert_eq!((streams.len(), refused.code()), (256, Code::ResourceExhausted));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_sends_no_more_ends_once_its_results_are_told() {
    let (world, link, mut application) = attached().await;
    link.send(Ok(vec![incoming(0)])).unwrap();
    let deliveries = application.deliveries().await;
    world.platform.block(true);
    application.ack(&[deliveries[0].delivery_id]).await;
    application.say(Command::Finished(application.attachment)).await;
    advance(Duration::from_secs(2)).await;
    world.platform.block(false);
    assert_eq!(application.results().await.settled, [deliveries[0].delivery_id]);
    assert_eq!(application.end().await.code(), Code::Ok);
}
