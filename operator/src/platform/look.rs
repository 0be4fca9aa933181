//! Looks at the subscriptions of one ConsumerGroup's products, and changes what it may. [`subscriptions`] decides what; here
//! its steps become calls, each of them made from what the platform said right before.

use std::sync::{Arc, Mutex};

use sluice_cloud::answer::{ApiError, ErrorClass, SignedAction};
use sluice_cloud::client::{CallError, Turn};
use sluice_cloud::iot::{
    CreateConsumerGroupSubscribeRelation, CreateSubscribeRelation, QuerySubscribeRelation, Subscription,
    UpdateSubscribeRelation,
};
use sluice_cloud::pace::Priority;
use sluice_crds::ProductSubscription;
use sluice_crds::status::Reason;
use tracing::info;

use super::line::{Lack, Line, lock};
use super::subscriptions::{self, Step};
use super::target::Wanted;
use super::{cycle, evidence};
use crate::group::view::Synced;
use crate::slots::GroupRef;

/// So many products are told of one by one; of more it is told how many.
const TOLD: usize = 5;

/// The subscriptions of one ConsumerGroup. Clones are the same.
#[derive(Clone)]
pub(super) struct Look {
    pub(super) line: Line,
    wanted: Arc<Wanted>,
    synced: Arc<Mutex<Option<Synced>>>,
}

/// A look that came to no end: the rest of the products would fare no better.
enum Broken {
    /// This replica leads no more.
    Over,
    /// There is no key to sign with.
    NoKey,
    /// The platform refuses the key of this number, or has it look at nothing; in words.
    Refused(Option<u64>, String),
    /// The platform can't be reached.
    Unreachable(String),
}

/// What became of a change that was due.
enum Change {
    /// It was not made, and this is what is known of the product.
    Not(Synced),
    /// It was made, or may have been; and what to say if it can't be seen afterwards.
    Made(String),
}

/// What the platform has said about one product.
type Said<T> = Result<Result<T, CallError>, Broken>;

impl Look {
    /// Nothing has been looked at yet.
    pub(super) fn new(line: Line, wanted: Wanted) -> Self {
        Self { line, wanted: Arc::new(wanted), synced: Arc::default() }
    }

    /// What came of the last look; `None` before the first.
    pub(super) fn synced(&self) -> Option<Synced> {
        lock(&self.synced).clone()
    }

    /// Looks again and again, until this replica leads no more.
    pub(super) async fn run(self) {
        let timing = &self.line.office.timing;
        let mut failures = 0;
        loop {
            let mut refused = None;
            let (result, class) = match self.look().await {
                Ok(synced @ Synced::Unknown(_)) => (synced, Some(ErrorClass::Unavailable)),
                Ok(synced) => (synced, None),
                Err(Broken::Over) => return,
                Err(Broken::NoKey) => {
                    self.line.rest_until_keyed().await;
                    continue;
                }
                Err(Broken::Refused(version, words)) => {
                    refused = version;
                    (Synced::Unknown(words), Some(ErrorClass::Credentials))
                }
                Err(Broken::Unreachable(words)) => (Synced::Unknown(words), Some(ErrorClass::Unavailable)),
            };
            self.tell(&result);
            failures = if class.is_some() { failures + 1 } else { 0 };
            let whole = class.map_or(timing.subscriptions, |class| cycle::pause(class, failures, timing, 1.0));
            let pause = cycle::jittered(whole, rand::random());
            self.line.rest(self.line.office.clock.now() + pause, refused).await;
        }
    }

    fn tell(&self, result: &Synced) {
        let changed = lock(&self.synced).replace(result.clone()).is_none_or(|before| before != *result);
        if changed {
            self.line.office.nudge.group(&self.line.caller);
        }
    }

    /// Looks at all products, one after the other.
    async fn look(&self) -> Result<Synced, Broken> {
        let mut all = Vec::new();
        for wanted in &self.wanted.products {
            all.push(self.product(wanted).await?);
        }
        Ok(together(all))
    }

    async fn product(&self, wanted: &ProductSubscription) -> Result<Synced, Broken> {
        let product = &wanted.product_key;
        let mut changed = None;
        loop {
            let turn = self.line.turn(Priority::Background).await;
            let step = match self.query(turn, product).await? {
                Err(error) if error.class() == ErrorClass::Throttled => continue,
                said => match self.step(wanted, said) {
                    Ok(step) => step,
                    Err(synced) => return Ok(synced),
                },
            };
            match step {
                Step::Done => return Ok(Synced::Yes),
                Step::Report(words) => return Ok(no(Reason::Missing, words)),
                Step::Create(_) | Step::AddGroup | Step::Widen(_) => {}
            }
            if let Some(otherwise) = changed {
                return Ok(Synced::Unknown(otherwise));
            }
            match self.change(wanted).await? {
                Change::Made(otherwise) => changed = Some(otherwise),
                Change::Not(synced) => return Ok(synced),
            }
        }
    }

    /// What is to be done, if it is known what there is.
    fn step(
        &self,
        wanted: &ProductSubscription,
        said: Result<Option<Subscription>, CallError>,
    ) -> Result<Step, Synced> {
        let group = &self.line.subject.group_id;
        match said {
            Ok(found) => Ok(subscriptions::plan(self.wanted.manage, group, wanted, found.as_ref())),
            Err(error) => Err(failed(&wanted.product_key, &error)),
        }
    }

    /// Makes the change that is due now: what was known of the product when a change was thought of may be old.
    async fn change(&self, wanted: &ProductSubscription) -> Result<Change, Broken> {
        let (product, group) = (&wanted.product_key, &self.line.subject.group_id);
        let instance = &self.line.subject.instance;
        loop {
            // Both turns first: what is between the question and the change, others may change too.
            let asks = self.line.turn(Priority::Background).await;
            let changes = self.line.turn(Priority::Background).await;
            let one_at_a_time = self.line.office.change_of(product);
            let _mine = one_at_a_time.lock().await;
            let step = match self.query(asks, product).await? {
                Err(error) if error.class() == ErrorClass::Throttled => continue,
                said => match self.step(wanted, said) {
                    Ok(step) => step,
                    Err(synced) => return Ok(Change::Not(synced)),
                },
            };
            let instance = instance.clone();
            let (name, said) = match step {
                Step::Done => return Ok(Change::Not(Synced::Yes)),
                Step::Report(words) => return Ok(Change::Not(no(Reason::Missing, words))),
                Step::Create(subscription) => {
                    self.send(changes, &CreateSubscribeRelation { instance, subscription }).await?
                }
                Step::AddGroup => {
                    let (product_key, group_id) = (product.clone(), group.clone());
                    self.send(changes, &CreateConsumerGroupSubscribeRelation { instance, product_key, group_id })
                        .await?
                }
                Step::Widen(subscription) => {
                    self.send(changes, &UpdateSubscribeRelation { instance, subscription }).await?
                }
            };
            let Err(error) = said else {
                info!(group = %self.line.caller, product, action = name, "subscription changed");
                let words =
                    format!("product {product}: {name} was answered well, and the platform does not show it yet");
                return Ok(Change::Made(words));
            };
            let words = evidence::words(&error);
            return Ok(match error.class() {
                ErrorClass::Throttled => continue,
                // It may have been made all the same.
                ErrorClass::Unavailable => Change::Made(format!("product {product}: {words}")),
                ErrorClass::PermissionDenied => {
                    let words = format!(
                        "product {product}: the platform recognises the keys, but they may not change subscriptions; grant \
                         them iot:{name}, or make the change in the console: {words}"
                    );
                    Change::Not(no(Reason::PermissionDenied, words))
                }
                _ => {
                    let words = format!("product {product}: the platform refuses the change: {words}");
                    Change::Not(no(Reason::ChangeRefused, words))
                }
            });
        }
    }

    /// Makes a change; with its name, for words about it.
    async fn send<A: SignedAction<Answer = ()>>(
        &self,
        turn: Turn<'_, GroupRef>,
        action: &A,
    ) -> Result<(&'static str, Result<(), CallError>), Broken> {
        Ok((A::NAME, self.ask(turn, action).await?))
    }

    /// Asks for a product's subscription. That there is none is an answer; that there is no such product is a failure.
    async fn query(&self, turn: Turn<'_, GroupRef>, product: &str) -> Said<Option<Subscription>> {
        let instance = self.line.subject.instance.clone();
        let action = QuerySubscribeRelation { instance, product_key: product.to_owned() };
        Ok(match self.ask(turn, &action).await? {
            Err(CallError::Api(error)) if is_nothing(&error) => Ok(None),
            Err(error) if error.class() == ErrorClass::PermissionDenied => {
                // It is about the action, so it would be the same for every product.
                let words = evidence::words(&error);
                return Err(Broken::Refused(
                    None,
                    format!(
                        "the platform recognises the keys, but they may not look at subscriptions; grant them \
                     iot:QuerySubscribeRelation: {words}"
                    ),
                ));
            }
            said => said.map(Some),
        })
    }

    async fn ask<A: SignedAction>(&self, turn: Turn<'_, GroupRef>, action: &A) -> Said<A::Answer> {
        let (version, said) = self.line.ask(turn, action).await;
        match said {
            Ok(answer) => Ok(Ok(answer)),
            Err(Lack::Over) => Err(Broken::Over),
            Err(Lack::NoKey) => Err(Broken::NoKey),
            Err(Lack::Failed(error)) if error.class() == ErrorClass::Credentials => {
                Err(Broken::Refused(version, evidence::words(&error)))
            }
            Err(Lack::Failed(
                error @ (CallError::NoAnswer { .. } | CallError::TimedOut { .. } | CallError::Endpoint(_)),
            )) => Err(Broken::Unreachable(evidence::words(&error))),
            Err(Lack::Failed(error)) => Ok(Err(error)),
        }
    }
}

/// Whether it says that the product has no subscription, and not that there is no such product or instance.
fn is_nothing(error: &ApiError) -> bool {
    let elsewhere = ["NotExistedProduct", "Instance"].iter().any(|part| error.code.contains(part));
    error.class == ErrorClass::NotFound && !elsewhere
}

/// What is known of a product that could not be looked at.
fn failed(product: &str, error: &CallError) -> Synced {
    let words = evidence::words(error);
    match error {
        CallError::Api(ApiError { class: ErrorClass::NotFound, .. }) => {
            let words = format!("product {product}: check the product's key and spec.instance: {words}");
            no(Reason::ProductNotFound, words)
        }
        _ => Synced::Unknown(format!("product {product}: {words}")),
    }
}

/// It is not as wanted.
fn no(reason: Reason, words: String) -> Synced {
    Synced::No { reason, words }
}

/// What is known of several products together: what is to be mended before what is not known. The reason is that of the
/// first one.
fn together(all: impl IntoIterator<Item = Synced>) -> Synced {
    let (mut differ, mut unknown, mut first) = (Vec::new(), Vec::new(), None);
    for one in all {
        match one {
            Synced::Yes => {}
            Synced::No { reason, words } => {
                first.get_or_insert(reason);
                differ.push(words);
            }
            Synced::Unknown(words) => unknown.push(words),
        }
    }
    if differ.is_empty() && unknown.is_empty() {
        return Synced::Yes;
    }
    differ.append(&mut unknown);
    let more = differ.len().saturating_sub(TOLD);
    differ.truncate(TOLD);
    if more > 0 {
        differ.push(format!("and {more} more"));
    }
    let words = differ.join("; ");
    match first {
        Some(reason) => Synced::No { reason, words },
        None => Synced::Unknown(words),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn synced() -> impl Strategy<Value = Synced> {
        let no = prop::sample::select(vec![Reason::Missing, Reason::ProductNotFound, Reason::ChangeRefused]);
        prop_oneof![
            Just(Synced::Yes),
            no.prop_map(|reason| super::no(reason, "differs".into())),
            Just(Synced::Unknown("lost".into())),
        ]
    }

    proptest! {
        #[test]
        fn it_is_as_wanted_only_if_every_product_is(all in prop::collection::vec(synced(), 0..20)) {
            let reasons = all.iter().filter_map(|one| match one {
                Synced::No { reason, .. } => Some(*reason),
                _ => None,
            });
            let reasons: Vec<Reason> = reasons.collect();
            let lost = all.iter().filter(|one| **one == Synced::Unknown("lost".into())).count();
            let differ = reasons.len();
            match together(all.clone()) {
                Synced::Yes => prop_assert_eq!(differ + lost, 0),
                Synced::No { reason, words } => {
                    prop_assert_eq!(Some(&reason), reasons.first());
                    prop_assert_eq!(words.matches("differs").count(), differ.min(TOLD));
                    prop_assert_eq!(words.contains("more"), differ + lost > TOLD);
                }
                Synced::Unknown(words) => {
                    prop_assert!(differ == 0 && lost > 0);
                    prop_assert_eq!(words.matches("lost").count(), lost.min(TOLD));
                }
            }
        }
    }

    #[test]
    fn a_product_without_a_subscription_is_told_from_one_that_does_not_exist() {
        let error = |code: &str, class| ApiError {
            action: "QuerySubscribeRelation",
            class,
            code: code.into(),
            message: "m".into(),
            request_id: None,
            status: 200,
        };
        assert!(is_nothing(&error("iot.messagebroker.NotExistedSubscribeRelation", ErrorClass::NotFound)));
        assert!(!is_nothing(&error("iot.prod.NotExistedProduct", ErrorClass::NotFound)));
        assert!(!is_nothing(&error("iot.Sre.IotInstanceNotFound", ErrorClass::NotFound)));
        assert!(!is_nothing(&error("iot.system.SystemException", ErrorClass::Unavailable)));
    }
}
