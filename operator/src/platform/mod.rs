//! The platform's poller: asks the OpenAPI for the figures of every group that is consumed, looks after subscriptions, and
//! finds out on the way whether credentials work. One for the whole operator, since the platform counts calls per account;
//! it runs only on the replica that leads.
//!
//! [`cycle`], [`known`], [`evidence`] and [`subscriptions`] decide, and know no network; [`poll`] and [`look`] are the tasks
//! that call. Who makes calls takes turns in the [`line`] of their account.

mod cycle;
mod evidence;
mod known;
mod line;
mod look;
mod poll;
mod subscriptions;
mod target;
#[cfg(test)]
mod tests;
mod timing;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

pub use self::target::{ApiKey, ApiKeys, Subject, Target, Wanted};
pub use self::timing::Timing;

use self::known::Known;
use self::line::{Account, Line, Office, lock};
use self::look::Look;
use self::poll::Poll;
use crate::credentials::Clients;
use crate::group::view::{self as seam, Evidence, Nudge, PlatformGroup};
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::slots::GroupRef;
use crate::time::Clock;

/// So many accounts are remembered, with what was learnt of their pace, although nothing of theirs is polled.
const ACCOUNTS: usize = 1_024;

/// See the module. Clones are the same poller.
#[derive(Clone)]
pub struct Poller(Arc<Shared>);

struct Shared {
    office: Arc<Office>,
    registry: Mutex<Registry>,
    /// Pacing goes on through changes of registrations and terms.
    accounts: Mutex<HashMap<String, Arc<Account>>>,
}

#[derive(Default)]
struct Registry {
    /// The term that all of this is of.
    term: u64,
    groups: HashMap<GroupRef, Group>,
    /// Polls of the same subject differ by their keys.
    polls: HashMap<Subject, Vec<(Poll, Running)>>,
}

struct Group {
    target: Target,
    /// The poll that it takes part in, or why there can be none.
    poll: Result<Poll, String>,
    look: Option<(Look, Running)>,
}

/// A task that ends when this is dropped.
struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Poller {
    /// A poller that knows of no group yet. `nudge` tells the pipeline when there is something new.
    pub fn new(
        clients: Clients,
        clock: Clock,
        leadership: watch::Receiver<Leadership>,
        nudge: Nudge,
        metrics: Metrics,
        timing: Timing,
    ) -> Self {
        let changes = Mutex::default();
        let office = Office { clients, clock, leadership, nudge, metrics, timing, changes };
        Self(Arc::new(Shared { office: Arc::new(office), registry: Mutex::default(), accounts: Mutex::default() }))
    }

    /// The ConsumerGroup is valid, and this is what it says; or it is gone, not valid any more, or says nothing of an
    /// OpenAPI. To be called by the leader's pipeline, as often as it likes: nothing happens if nothing is new, except that
    /// keys which were missing or refused are looked at again. Must be called within a runtime.
    pub fn register(&self, name: &GroupRef, target: Option<Target>) {
        let Some(term) = self.0.office.term() else { return };
        let mut registry = self.registry(term);
        let old = registry.groups.get(name);
        if let (Some(old), Some(new)) = (old, &target)
            && old.target == *new
        {
            old.wake();
            return;
        }
        let old = registry.remove(name);
        if let Some(target) = target {
            let group = self.begin(&mut registry, name, target, old);
            registry.groups.insert(name.clone(), group);
        }
    }

    fn begin(&self, registry: &mut Registry, name: &GroupRef, target: Target, old: Option<Group>) -> Group {
        let office = &self.0.office;
        let client = office.clients.get(target.subject.ca.as_ref());
        let line = client.map_err(|error| error.to_string()).map(|client| Line {
            office: Arc::clone(office),
            term: registry.term,
            account: self.account(&target.subject.account),
            subject: target.subject.clone(),
            client,
            keys: Arc::clone(&target.keys),
            caller: name.clone(),
            wake: Arc::new(Notify::new()),
        });
        // What was said of the group stays true, whoever asks next.
        let known = old.filter(|old| old.target.subject == target.subject).and_then(|old| {
            let known = old.poll.as_ref().ok()?.known();
            let same = old.target.keys.is(&*target.keys);
            Some(if same { known } else { Known { evidence: Evidence::Untried, ..known } })
        });
        let poll = line.clone().map(|line| {
            let term = registry.term;
            let polls = registry.polls.entry(target.subject.clone()).or_default();
            let shared = polls.iter().find(|(poll, _)| poll.line.keys.is(&*target.keys)).map(|(poll, _)| poll.clone());
            let poll = shared.unwrap_or_else(|| {
                let poll = Poll::new(line, known.unwrap_or_default());
                let running = self.spawn(term, poll.clone().run());
                polls.push((poll.clone(), running));
                poll
            });
            poll.join(name);
            poll
        });
        if poll.is_err() {
            office.nudge.group(name);
        }
        let look = line.ok().zip(target.subscriptions.clone()).map(|(line, wanted)| {
            let look = Look::new(Line { wake: Arc::new(Notify::new()), ..line }, wanted);
            let running = self.spawn(registry.term, look.clone().run());
            (look, running)
        });
        Group { target, poll, look }
    }

    /// Starts a task that runs while this replica leads. The first one to end forgets all that is of the term.
    fn spawn(&self, term: u64, task: impl Future<Output = ()> + Send + 'static) -> Running {
        let shared = Arc::downgrade(&self.0);
        let task = tokio::spawn(async move {
            task.await;
            if let Some(shared) = shared.upgrade() {
                let mut registry = lock(&shared.registry);
                if registry.term == term {
                    *registry = Registry::default();
                }
            }
        });
        Running(task.abort_handle())
    }

    fn account(&self, name: &str) -> Arc<Account> {
        let mut accounts = lock(&self.0.accounts);
        if accounts.len() >= ACCOUNTS {
            accounts.retain(|_, account| Arc::strong_count(account) > 1);
        }
        let account =
            accounts.entry(name.to_owned()).or_insert_with(|| Arc::new(Account::new(self.0.office.timing.rate)));
        Arc::clone(account)
    }

    /// The registry of this term; what is of another one is forgotten.
    fn registry(&self, term: u64) -> MutexGuard<'_, Registry> {
        let mut registry = lock(&self.0.registry);
        if registry.term != term {
            *registry = Registry { term, ..Registry::default() };
        }
        registry
    }
}

impl Registry {
    fn remove(&mut self, name: &GroupRef) -> Option<Group> {
        let group = self.groups.remove(name)?;
        if let Ok(poll) = &group.poll
            && poll.leave(name)
            && let Some(polls) = self.polls.get_mut(&group.target.subject)
        {
            polls.retain(|(other, _)| !other.line.keys.is(&*group.target.keys));
            if polls.is_empty() {
                self.polls.remove(&group.target.subject);
            }
        }
        Some(group)
    }
}

impl Group {
    fn wake(&self) {
        for line in self.poll.iter().map(|poll| &poll.line).chain(self.look.iter().map(|(look, _)| &look.line)) {
            line.wake.notify_one();
        }
    }
}

impl seam::Platform for Poller {
    fn group(&self, group: &GroupRef) -> Option<PlatformGroup> {
        let registry = self.registry(self.0.office.term()?);
        let Group { poll, look, .. } = registry.groups.get(group)?;
        let subscriptions = look.as_ref().and_then(|(look, _)| look.synced());
        Some(match poll {
            Ok(poll) => {
                let Known { clients, evidence: api, .. } = poll.known();
                PlatformGroup { figures: poll.figures(), api, subscriptions, clients }
            }
            Err(words) => PlatformGroup { api: Evidence::Unreachable(words.clone()), ..PlatformGroup::default() },
        })
    }
}
