//! Devices, made up: what they say, of all sixteen kinds (PLATFORM.md 3), and what becomes of them. By default they say
//! property posts for the most part, now and then a status change, an event, a custom topic.
//!
//! Everything here is a value: the time comes with every call, and the same plan says the same at the same times, byte for
//! byte. [`Registry`] alone is shared, with those who ask for a device's status or have something to say to it.

mod ids;
mod kind;
mod life;
mod model;
mod names;
mod payload;
mod pen;
mod plan;
mod pool;
mod registry;
mod rubbish;
mod shuffle;
mod time;
mod topology;

#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError};

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

pub(crate) use self::kind::{Kind, Weights};
pub(crate) use self::plan::{Burst, Plan};
pub(crate) use self::registry::{Called, Downlink, Registry, SharedRegistry};

use self::kind::{Batch, Topic};
use self::life::{Life, StatusChange};
use self::model::Event;
use self::names::Names;
use self::payload::Writer;
use self::pen::Pen;
use self::shuffle::Shuffle;
use self::time::Moment;
use crate::message::Draft;

/// How far back the values of the past go, in ms: a day.
const PAST_MS: u64 = 86_400_000;
/// What a firmware update job goes through.
const JOB: [&str; 3] = ["PLANNED", "IN_PROGRESS", "COMPLETED"];
/// One job of so many is canceled instead of being completed.
const CANCELED_AMONG: u64 = 5;
/// One request of so many is to a device that can't be reached, if there is one.
const UNREACHED_AMONG: u32 = 16;
/// One custom message of so many is about an error.
const ERRORS_AMONG: u32 = 16;

/// One crowd of devices. See the module.
#[derive(Debug)]
pub(crate) struct Devices {
    names: Arc<Names>,
    registry: SharedRegistry,
    kinds: Weights,
    total: u32,
    payload_bytes: usize,
    rubbish_per_million: u32,
    life: Life,
    order: Shuffle<StatusChange>,
    at: Moment,
    pen: Pen,
    rng: SmallRng,
    /// How many states of update jobs have been told.
    job_states: u64,
}

impl Devices {
    pub(crate) fn new(plan: &Plan, registry: SharedRegistry) -> Self {
        let count = plan.devices.max(1);
        let gateways = plan.gateways.min(count - 1);
        let names = Arc::new(Names::new(&plan.product_key, count));
        registry.lock().unwrap_or_else(PoisonError::into_inner).enter(plan, &names);
        let mut devices = Self {
            names,
            registry,
            total: plan.kinds.total(),
            payload_bytes: plan.payload_bytes,
            rubbish_per_million: plan.rubbish_per_million,
            life: Life::new(count, gateways, plan.kinds.get(Kind::Status) > 0),
            order: Shuffle::new(plan.disorder),
            kinds: plan.kinds.clone(),
            at: Moment::default(),
            pen: Pen::default(),
            rng: SmallRng::seed_from_u64(plan.seed),
            job_states: 0,
        };
        devices.register();
        devices
    }

    /// Lets the registry know who has changed.
    fn register(&mut self) {
        if self.life.has_changed() {
            let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
            registry.change(self.names.product(), self.life.changed());
        }
    }

    /// The next message.
    pub(crate) fn next(&mut self, unix_us: u64) -> Draft {
        self.at.set(unix_us);
        let mut kind = self.kinds.draw(self.total, &mut self.rng);
        if self.rubbish_per_million > 0 && self.rng.random_range(0..1_000_000) < self.rubbish_per_million {
            return self.rubbish(kind);
        }
        // Where a device must be online for it and none is, one goes online instead.
        let speaker = if kind.is_spoken() { self.life.speaker(self.at.ms(), &mut self.rng) } else { None };
        if kind.is_spoken() && speaker.is_none() {
            kind = Kind::Status;
        }
        let device = speaker.unwrap_or_else(|| self.life.someone(&mut self.rng));
        let topic = self.say(kind, device);
        self.register();
        Draft { topic, payload: self.pen.take(), ..Draft::default() }
    }

    /// Writes the payload, and returns the topic.
    fn say(&mut self, kind: Kind, device: u32) -> String {
        let now_ms = self.at.ms();
        let Self { names, life, order, at, pen, rng, .. } = self;
        let name = names.get(device);
        match kind {
            Kind::Status => {
                while order.wants_more() {
                    let Some(change) = life.status(now_ms, rng) else { break };
                    order.put(change, rng);
                }
                // There is always one: somebody is always in service.
                if let Some(change) = order.take() {
                    let name = names.get(change.device);
                    Writer { pen, at, names, rng }.status(name, change);
                    return Topic::Status.of(name);
                }
            }
            Kind::Lifecycle => {
                if let Some((device, action)) = life.lifecycle(now_ms, rng) {
                    let name = names.get(device);
                    Writer { pen, at, names, rng }.lifecycle(name, action);
                    return Topic::Lifecycle.of(name);
                }
            }
            Kind::Topology => {
                if let Some(change) = life.topology.change(rng) {
                    let gateway = names.get(change.gateway);
                    Writer { pen, at, names, rng }.topology(gateway, &change);
                    return Topic::Topology.of(gateway);
                }
            }
            Kind::SubDeviceFound => {
                if let Some((gateway, devices)) = life.topology.found(rng) {
                    let gateway = names.get(gateway);
                    Writer { pen, at, names, rng }.found(gateway, &devices);
                    return Topic::SubDeviceFound.of(gateway);
                }
            }
            Kind::DownlinkReply if rng.random_range(0..UNREACHED_AMONG) == 0 => {
                if let Some((device, why)) = life.unreached(rng) {
                    let name = names.get(device);
                    Writer { pen, at, names, rng }.reply(name, Some(why));
                    return Topic::DownlinkReply.of(name);
                }
            }
            Kind::OtaJobStatus => return self.job(),
            _ => {}
        }
        let past_ms = || now_ms.saturating_sub(u64::from(device) * 1_000 % PAST_MS);
        let job = || ids::job(job_number(self.job_states));
        let mut writer = Writer { pen, at, names, rng };
        let topic = match kind {
            Kind::PropertyPost => {
                writer.properties(name, now_ms, self.payload_bytes);
                Topic::PropertyPost
            }
            Kind::EventPost => {
                let event = Event::draw(writer.rng);
                writer.event(name, event, now_ms);
                Topic::EventPost(event.identifier())
            }
            Kind::BatchPost => {
                let batch = if writer.rng.random_bool(0.5) { Batch::Properties } else { Batch::Events };
                writer.batch(name, batch);
                Topic::BatchPost(batch)
            }
            Kind::DownlinkReply => {
                writer.reply(name, None);
                Topic::DownlinkReply
            }
            Kind::PropertyHistory => {
                writer.properties(name, past_ms(), 0);
                Topic::PropertyHistory
            }
            Kind::EventHistory => {
                let event = Event::draw(writer.rng);
                writer.event(name, event, past_ms());
                Topic::EventHistory(event.identifier())
            }
            Kind::OtaResult => {
                writer.ota_result(name, &job());
                Topic::OtaResult
            }
            Kind::OtaProgress => {
                writer.ota_progress(name, &job());
                Topic::OtaProgress
            }
            Kind::OtaVersion => {
                writer.ota_version(name);
                Topic::OtaVersion
            }
            Kind::Custom => {
                let error = writer.rng.random_range(0..ERRORS_AMONG) == 0;
                writer.custom(name, error);
                Topic::Custom { error }
            }
            // The others are here only when there was nothing to tell of their kind.
            _ => {
                writer.tags(name);
                Topic::Tags
            }
        };
        topic.of(name)
    }

    /// The next state of the firmware update job, or the first one of another.
    fn job(&mut self) -> String {
        let (job, stage) = (job_number(self.job_states), self.job_states % JOB.len() as u64);
        let (id, package) = (ids::job(job), ids::package(job));
        let canceled = stage == 2 && job % CANCELED_AMONG == CANCELED_AMONG - 1;
        let status = if canceled { "CANCELED" } else { JOB[usize::try_from(stage).unwrap_or_default()] };
        self.job_states += 1;
        let Self { names, at, pen, rng, .. } = self;
        Writer { pen, at, names, rng }.ota_job(&package, &id, status);
        Topic::OtaJobStatus { product: names.product(), package: &package, job: &id }.of(names.get(0))
    }

    /// Rubbish under the topic of this kind. It is not a change of anything: those are all told.
    fn rubbish(&mut self, kind: Kind) -> Draft {
        let (event, job) = (Event::draw(&mut self.rng).identifier(), job_number(self.job_states));
        let (package, job) = (ids::package(job), ids::job(job));
        let name = self.names.get(self.rng.random_range(0..self.names.count()));
        let topic = match kind {
            Kind::Custom => Topic::Custom { error: false },
            Kind::Status => Topic::Status,
            Kind::PropertyPost => Topic::PropertyPost,
            Kind::EventPost => Topic::EventPost(event),
            Kind::BatchPost => Topic::BatchPost(Batch::Properties),
            Kind::DownlinkReply => Topic::DownlinkReply,
            Kind::Lifecycle => Topic::Lifecycle,
            Kind::Topology => Topic::Topology,
            Kind::SubDeviceFound => Topic::SubDeviceFound,
            Kind::Tags => Topic::Tags,
            Kind::PropertyHistory => Topic::PropertyHistory,
            Kind::EventHistory => Topic::EventHistory(event),
            Kind::OtaResult => Topic::OtaResult,
            Kind::OtaProgress => Topic::OtaProgress,
            Kind::OtaVersion => Topic::OtaVersion,
            Kind::OtaJobStatus => Topic::OtaJobStatus { product: self.names.product(), package: &package, job: &job },
        };
        rubbish::write(&mut self.pen, &name.who, &mut self.rng);
        Draft { topic: topic.of(name), payload: self.pen.take(), ..Draft::default() }
    }
}

/// The number of the job that is told of next, after so many states.
fn job_number(states: u64) -> u64 {
    states / JOB.len() as u64
}
