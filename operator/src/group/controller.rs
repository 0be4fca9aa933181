//! Runs the pipeline: watches feed the indexes, a queue says which ConsumerGroup is next, and a bounded number of them is
//! in hand at once. All of it lives in one term of leadership: dropped, it stops at once; asked, it ends what is in hand.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::api::{Api, DynamicObject};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde::de::DeserializeOwned;
use sluice_cloud::endpoint::EndpointPolicy;
use sluice_crds::status::{ConditionType, Reason};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{Instrument as _, debug, info, info_span, warn};

use super::apply::{self, Writer};
use super::build;
use super::contest;
use super::dereference::{Recall, Sources};
use super::directory::{Directory, Entry};
use super::hands::Hands;
use super::objects::{self, Known, Objects, Unreadable};
use super::orphans::Orphans;
use super::plan::{self, Plan, Truth, Verdict};
use super::pods;
use super::queue::{Lane, Queue};
use super::status::{self, Subject, Written};
use super::validate::{self, Problem};
use crate::credentials::{Handle, Source, Standing};
use crate::fault::{Class, Fault};
use crate::inject::names::GROUP_LABEL;
use crate::metrics::Metrics;
use crate::slots::GroupRef;
use crate::time::{Clock, Time};

/// So many ConsumerGroups are in hand at once: enough to hide the API server's answering times, few enough not to crowd
/// others out there.
const AT_ONCE: usize = 16;
/// How soon a workload whose pods report is looked at again: as often as they report.
const LOOK: Duration = Duration::from_secs(5);
/// How soon everything else is: as often as figures are written.
const ROUTINE: Duration = Duration::from_secs(30);
/// What is told of many times in this span is looked at once.
const GATHER: Duration = Duration::from_millis(50);
/// No run takes longer: each request has its own, shorter bound, and this one is for all of them together.
const RUN: Duration = Duration::from_secs(60);
/// How long what is in hand may take when the process is asked to stop.
const STOP: Duration = Duration::from_secs(5);

/// What the pipeline works with.
pub struct Controller {
    /// Where things are found.
    pub sources: Sources,
    /// What is written with.
    pub writer: Writer,
    /// Where credentials may go.
    pub endpoints: EndpointPolicy,
    /// Where what came of it is shown.
    pub directory: Directory,
    /// The objects.
    pub objects: Objects,
    /// The clock.
    pub clock: Clock,
    /// The metrics.
    pub metrics: Metrics,
}

/// What is remembered of one ConsumerGroup.
#[derive(Default)]
struct Memory {
    /// Of which object: one that is made anew under the same name is another.
    uid: String,
    recall: Recall,
    past: plan::Past,
    written: Written,
    failures: u32,
    /// The keys, so that they are kept fresh between two runs, and how they were doing in the last one.
    keys: Vec<(Handle, Standing)>,
}

/// A run that is in hand.
struct Held {
    name: GroupRef,
    /// How often it has failed before.
    failures: u32,
    begun: Time,
}

impl Held {
    /// A run that panicked, which is a bug. What was remembered is lost with it; it is tried again, less and less often.
    fn panicked(self, at: Time) -> Ended {
        let memory = Memory { failures: self.failures, ..Memory::default() };
        let next = Err(Fault::new(Class::Internal, "a bug in the operator: it panicked; the log says where"));
        Ended { name: self.name, memory, took: at.since(self.begun), next }
    }
}

/// How a run ended.
struct Ended {
    name: GroupRef,
    memory: Memory,
    took: Duration,
    next: Result<Duration, Fault>,
}

impl Controller {
    /// Runs until `stop`, and then ends what is in hand. `nudges` and `keys` say what has changed elsewhere.
    pub async fn run(
        self,
        nudges: &mut mpsc::UnboundedReceiver<GroupRef>,
        mut keys: mpsc::UnboundedReceiver<Source>,
        stop: impl Future<Output = ()>,
    ) {
        let mut queue = Queue::new(AT_ONCE);
        let mut memories: HashMap<GroupRef, Memory> = HashMap::new();
        let mut users: HashMap<GroupRef, Vec<Source>> = HashMap::new();
        let mut running: Hands<Held, Ended> = Hands::default();
        let (mut orphans, mut orphans_at) = (Orphans::default(), Time::default());
        let (_, mut pod_changes) = self.sources.pods.subscribe();
        let (tell, mut changes) = mpsc::unbounded_channel();
        let complete = Arc::new(Notify::new());
        let _watches = self.watches(&tell, &complete);
        let context = Arc::new(self);
        let now = || context.clock.now();
        tokio::pin!(stop);
        loop {
            let at = now();
            context.metrics.queue(queue.depth(at), queue.running(), queue.oldest(at));
            // Before all is listed, a pod that is missing means nothing, and a status made of that would be wrong.
            let listed = context.objects.synced() && context.sources.pods.synced();
            while listed && let Some(name) = queue.take(now()) {
                let memory = memories.remove(&name).unwrap_or_default();
                let span = info_span!("reconcile", group = %name);
                let held = Held { name: name.clone(), failures: memory.failures, begun: now() };
                running.take_up(held, context.clone().once(name, memory).instrument(span));
            }
            if listed && orphans_at <= at {
                orphans_at = at + LOOK;
                context.look_for_groups(&mut orphans, at);
            }
            let wake = queue.wake_at().filter(|_| listed).unwrap_or(at + LOOK).min(at + LOOK);
            let wake = tokio::time::sleep_until(context.clock.instant(wake).into());
            tokio::select! {
                () = &mut stop => break,
                () = wake => {}
                () = complete.notified() => {}
                Some(name) = changes.recv() => queue.add(&name, Lane::Change, now()),
                Some(name) = nudges.recv() => queue.add(&name, Lane::Change, now() + GATHER),
                Some(change) = pod_changes.recv() => {
                    let name = &change.pod().group;
                    if context.objects.get(name).is_some() {
                        if let Some(memory) = memories.get_mut(name) {
                            memory.recall.forget_target();
                        }
                        queue.add(name, Lane::Change, now() + GATHER);
                    }
                }
                Some(source) = keys.recv() => {
                    for (name, _) in users.iter().filter(|(_, sources)| sources.contains(&source)) {
                        queue.add(name, Lane::Change, now() + GATHER);
                    }
                }
                Some(ended) = running.ended() => {
                    let (held, ended) = ended;
                    let ended = ended.unwrap_or_else(|| held.panicked(now()));
                    queue.done(&ended.name);
                    context.metrics.reconciled(ended.took, ended.next.as_ref().err().map(|fault| fault.class));
                    context.settle(&mut queue, &mut memories, &mut users, ended);
                }
            }
        }
        info!(in_hand = running.len(), "the pipeline stops");
        let rest = async { while running.ended().await.is_some() {} };
        if timeout(STOP, rest).await.is_err() {
            warn!("some reconciles were given up");
        }
    }

    /// Puts a ConsumerGroup back after its run.
    fn settle(
        &self,
        queue: &mut Queue<GroupRef>,
        memories: &mut HashMap<GroupRef, Memory>,
        users: &mut HashMap<GroupRef, Vec<Source>>,
        ended: Ended,
    ) {
        let Ended { name, mut memory, next, .. } = ended;
        let at = self.clock.now();
        if self.objects.get(&name).is_none() {
            queue.remove(&name);
            users.remove(&name);
            self.directory.remove(&name);
            self.metrics.forget(&name);
            return;
        }
        let wait = match next {
            Ok(wait) => {
                memory.failures = 0;
                wait.mul_f64(0.9 + rand::random::<f64>() / 5.0)
            }
            Err(fault) => {
                memory.failures = memory.failures.saturating_add(1);
                let wait = fault.class.backoff(memory.failures, rand::random());
                let wait = fault.retry_after.map_or(wait, |asked| asked.max(wait));
                if fault.class == Class::Conflict {
                    memory.recall.forget_target();
                    debug!(group = %name, %fault, ?wait, "somebody else wrote first");
                } else {
                    warn!(group = %name, %fault, class = fault.class.label(), ?wait, "reconcile failed");
                }
                wait
            }
        };
        let used: Vec<Source> = memory.keys.iter().map(|(keys, _)| keys.source().clone()).collect();
        users.insert(name.clone(), used);
        queue.add(&name, Lane::Routine, at + wait);
        // Keys that changed while it was in hand were not known to be its own when that was told.
        if memory.keys.iter().any(|(keys, seen)| keys.standing() != *seen) {
            queue.add(&name, Lane::Change, at);
        }
        memories.insert(name, memory);
    }

    async fn once(self: Arc<Self>, name: GroupRef, mut memory: Memory) -> Ended {
        let begun = self.clock.now();
        let late = || Err(Fault::new(Class::Unavailable, "it took too long"));
        let next = timeout(RUN, self.pipeline(&name, &mut memory, begun)).await.unwrap_or_else(|_| late());
        Ended { name, memory, took: self.clock.now().since(begun), next }
    }

    /// The pipeline, for one object. How long until it is worth another look.
    async fn pipeline(&self, name: &GroupRef, memory: &mut Memory, at: Time) -> Result<Duration, Fault> {
        let Some(known) = self.objects.get(name) else { return Ok(ROUTINE) };
        let subject = subject(name, &known);
        if memory.uid != subject.uid {
            *memory = Memory { uid: subject.uid.clone(), ..Memory::default() };
        }
        let group = match known {
            Known::Read(group) => group,
            Known::Unreadable(unreadable) => {
                self.directory.remove(name);
                memory.keys.clear();
                let plan = unreadable_plan(&unreadable);
                let later = status::write(&self.writer, &subject, &plan, &mut memory.written, at).await?;
                return Ok(later.map_or(ROUTINE, |later| later.since(at)));
            }
        };
        let mut world = self.sources.dereference(name, &group, &mut memory.recall, at).await?;
        world.contest = world.contest.or_older(self.objects.older(name).as_ref());
        let standings = [Some(&world.standings.link), world.standings.api.as_ref()].into_iter().flatten().cloned();
        memory.keys = [&world.link_keys, &world.api_keys].into_iter().flatten().cloned().zip(standings).collect();
        let validated = validate::validate(&group, &world, &self.endpoints);
        match &validated {
            Ok(group) => {
                let entry = Entry { group: Arc::new(group.clone()), newest: world.newest.clone() };
                self.directory.put(entry);
            }
            // What may pass by itself does not take back what sidecars go by already.
            Err(problems) if problems.iter().all(|problem: &Problem| problem.passing) => {}
            Err(_) => self.directory.remove(name),
        }
        let mut plan = plan::plan(&validated, &world, &mut memory.past, at);
        self.show(name, &plan);
        let target = validated.as_ref().ok().and_then(|group| group.target.as_ref());
        let applied = apply::apply(&self.writer, &subject, target, &plan).await;
        match &applied {
            Ok(true) => memory.recall.forget_target(),
            Ok(false) => {}
            Err(fault) => not_applied(&mut plan, fault),
        }
        let later = status::write(&self.writer, &subject, &plan, &mut memory.written, at).await?;
        applied?;
        let reporting = world.sidecars.as_ref().is_some_and(|view| !view.pods.is_empty());
        let usual = if reporting && target.is_some() { LOOK } else { ROUTINE };
        Ok(later.map_or(usual, |later| later.since(at).min(usual)).max(GATHER))
    }

    fn show(&self, name: &GroupRef, plan: &Plan) {
        let figures = &plan.figures;
        if let (Some((held, limit)), Some((connected, standby, _))) = (figures.slots, figures.sidecars) {
            self.metrics.sidecars(name, limit, held, standby, connected);
        }
        if let Some((messages, _)) = figures.backlog {
            self.metrics.backlog(name, messages);
        }
    }

    /// Counts the pods that name what is not there, and tells of them on one of the pods.
    fn look_for_groups(&self, orphans: &mut Orphans, at: Time) {
        let missing = self.sources.pods.groups().into_iter().filter(|(name, ..)| self.objects.get(name).is_none());
        let missing: BTreeMap<GroupRef, _> = missing.map(|(name, pod, pods)| (name, (pod, pods))).collect();
        self.metrics.pods_without_group(missing.values().map(|(_, pods)| pods).sum());
        for name in orphans.look(missing.keys().cloned(), at) {
            let Some((pod, _)) = missing.get(&name) else { continue };
            if self.writer.may_write().is_err() {
                return;
            }
            let (writer, regarding, notice) = (self.writer.clone(), pod.reference(), build::no_such_group(&name));
            tokio::spawn(async move { status::tell_of(&writer, &regarding, notice).await });
        }
    }

    /// Feeds the indexes. Ends when what is returned is dropped.
    fn watches(&self, changed: &mpsc::UnboundedSender<GroupRef>, complete: &Arc<Notify>) -> JoinSet<()> {
        let client = &self.sources.client;
        let mut watches = JoinSet::new();
        let groups = Api::<DynamicObject>::all_with(client.clone(), &objects::resource());
        let (objects, metrics, changed) = (self.objects.clone(), self.metrics.clone(), changed.clone());
        watches.spawn(follow(groups, watcher::Config::default(), "consumergroups", metrics.clone(), move |event| {
            for name in objects.take(event) {
                let _ = changed.send(name);
            }
            let (all, unreadable) = objects.count();
            metrics.groups(all, unreadable);
        }));
        let labelled = watcher::Config::default().labels(GROUP_LABEL);
        let api = Api::<pods::RawPod>::all_with(client.clone(), &pods::resource());
        let (pods, metrics, complete) = (self.sources.pods.clone(), self.metrics.clone(), complete.clone());
        watches.spawn(follow(api, labelled, "pods", metrics.clone(), move |event| {
            pods.take(&event);
            metrics.pods(pods.len());
            if matches!(event, watcher::Event::InitDone) {
                complete.notify_one();
            }
        }));
        let api = Api::<contest::RawAutoscaler>::all_with(client.clone(), &contest::resource());
        let contests = self.sources.contests.clone();
        let any = watcher::Config::default();
        watches.spawn(follow(api, any, "horizontalpodautoscalers", self.metrics.clone(), move |event| {
            contests.take(&event);
        }));
        watches
    }
}

/// Follows a kind of object for ever: what breaks is begun anew, with backoff, and counted.
pub(crate) async fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    resource: &'static str,
    metrics: Metrics,
    mut take: impl FnMut(watcher::Event<K>),
) where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut stream = std::pin::pin!(watcher(api, config).default_backoff());
    let mut broken = false;
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                if std::mem::take(&mut broken) {
                    info!(resource, "the watch goes on");
                }
                take(event);
            }
            Err(error) => {
                metrics.watch_failed(resource);
                let why = crate::fault::chain(&error);
                if std::mem::replace(&mut broken, true) {
                    debug!(resource, why, "the watch is still broken");
                } else {
                    warn!(resource, why, "the watch broke: trying on");
                }
            }
        }
    }
}

fn subject(name: &GroupRef, known: &Known) -> Subject {
    let meta = known.metadata();
    Subject {
        name: name.clone(),
        uid: meta.uid.clone().unwrap_or_default(),
        generation: meta.generation.unwrap_or_default(),
        status: known.status().cloned(),
        version: meta.resource_version.clone(),
    }
}

fn unreadable_plan(unreadable: &Unreadable) -> Plan {
    let message = format!(
        "this operator can't read the object: {}; is the definition of ConsumerGroup in this cluster of its version?",
        unreadable.words
    );
    let verdict = Verdict { kind: ConditionType::Ready, truth: Some(Truth::False), reason: Reason::Invalid, message };
    Plan { verdicts: vec![verdict], ..Plan::default() }
}

/// What was decided could not be carried out. A conflict is tried again at once, and is nobody's business.
fn not_applied(plan: &mut Plan, fault: &Fault) {
    let scaling = plan.verdicts.iter_mut().find(|verdict| verdict.kind == ConditionType::Scaling);
    if let (Some(verdict), false) = (scaling, fault.class == Class::Conflict) {
        // Of a workload that nobody answered for, nothing is known.
        let passing = fault.class == Class::Unavailable;
        verdict.truth = Some(if passing { Truth::Unknown } else { Truth::False });
        verdict.reason = Reason::TargetNotScalable;
        verdict.message = format!("the workload could not be scaled: {fault}");
    }
}

#[cfg(test)]
mod tests;
