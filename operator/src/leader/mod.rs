//! Who leads: one Kubernetes Lease, held by at most one replica at a time. [`election`] decides; here its decisions become
//! requests, and its result is published. What may only be done by the leader asks [`Leadership::leads`] at the moment of
//! doing it: nothing here can stop a thread that is in the middle of something.

pub mod election;

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::fault::{Class, Fault};
use crate::time::{Clock, Time};
use election::{Action, Election, Found, Outcome, Record, Timing, Write};

/// The name of the Lease, in the operator's own namespace.
pub const LEASE: &str = "sluice-operator";

/// No request may take longer: two of them fit into the renew deadline.
const REQUEST: Duration = Duration::from_secs(4);

/// Where leadership stands, for everybody in this process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leadership {
    /// Until when this process leads, if nothing more comes. In the past: it does not.
    pub valid_until: Time,
    /// Who was last seen to hold the Lease: a name to show, not one to decide by.
    pub leader: Option<String>,
    /// Counts the times that this process came to lead. What a leader remembers belongs to its term.
    pub term: u64,
}

impl Leadership {
    /// Whether this process leads at `at`.
    pub fn leads(&self, at: Time) -> bool {
        at < self.valid_until
    }
}

/// Takes part in the election until `stop` is set, and then releases the Lease.
///
/// `identity` is the name to be seen under; a random part is added, since a process that is restarted under the same name
/// must not take the Lease of the one before it for its own.
pub async fn run(
    client: Client,
    namespace: String,
    identity: String,
    clock: Clock,
    leadership: watch::Sender<Leadership>,
    mut stop: watch::Receiver<bool>,
) {
    let identity = format!("{identity}_{:08x}", rand::random::<u32>());
    let timing = Timing::default();
    let mut edge = Edge {
        leases: Api::namespaced(client, &namespace),
        election: Election::new(identity.clone(), timing),
        identity,
        duration: timing.duration,
        last: None,
        silent: false,
        clock,
    };
    loop {
        tokio::select! {
            () = edge.step() => edge.publish(&leadership),
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    let release = edge.election.release(clock.now());
    edge.publish(&leadership);
    if let Some(write) = release {
        match timeout(REQUEST, edge.write(&write, None)).await {
            Ok(Ok(_)) => info!("lease released"),
            Ok(Err(fault)) => warn!(%fault, "the lease could not be released: the next leader waits until it lapses"),
            Err(_) => warn!("the lease could not be released in time: the next leader waits until it lapses"),
        }
    }
}

struct Edge {
    leases: Api<Lease>,
    election: Election,
    identity: String,
    duration: Duration,
    /// The object as last seen, so that what others wrote into its metadata stays there.
    last: Option<Lease>,
    /// Whether the last failure has been logged: the next one like it is not.
    silent: bool,
    clock: Clock,
}

impl Edge {
    /// One action of the election. May be dropped at any point: the election then reads anew.
    async fn step(&mut self) {
        match self.election.next(self.clock.now()) {
            Action::Wait(until) => tokio::time::sleep_until(self.clock.instant(until).into()).await,
            Action::Read => {
                let found = self.read().await;
                self.election.read(self.clock.now(), found, rand::random());
            }
            Action::Write(write) => {
                let sent = self.clock.now();
                let outcome = match timeout(REQUEST, self.write(&write, Some(self.identity.clone()))).await {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(fault)) if fault.class == Class::Conflict => Outcome::Refused,
                    Ok(Err(fault)) => self.unknown(&fault.to_string()),
                    Err(_) => self.unknown("no answer in time"),
                };
                self.election.written(sent, self.clock.now(), outcome);
            }
        }
    }

    async fn read(&mut self) -> Found {
        match timeout(REQUEST, self.leases.get_opt(LEASE)).await {
            Ok(Ok(Some(lease))) => {
                let (record, version) = parse(&lease);
                self.last = Some(lease);
                self.silent = false;
                Found::Lease(record, version)
            }
            Ok(Ok(None)) => {
                self.last = None;
                self.silent = false;
                Found::Nothing
            }
            Ok(Err(error)) => {
                self.failed(&Fault::from(error).to_string());
                Found::Failed
            }
            Err(_) => {
                self.failed("no answer in time");
                Found::Failed
            }
        }
    }

    async fn write(&mut self, write: &Write, holder: Option<String>) -> Result<Outcome, Fault> {
        let lease = self.compose(write, holder);
        let written = match &write.version {
            None => self.leases.create(&PostParams::default(), &lease).await,
            Some(_) => self.leases.replace(LEASE, &PostParams::default(), &lease).await,
        }?;
        let (record, version) = parse(&written);
        self.last = Some(written);
        self.silent = false;
        Ok(Outcome::Done(record, version))
    }

    fn compose(&self, write: &Write, holder: Option<String>) -> Lease {
        let last = self.last.clone().unwrap_or_default();
        let now = MicroTime(k8s_openapi::jiff::Timestamp::now());
        let acquired = last.spec.and_then(|spec| spec.acquire_time).filter(|_| !write.takes_over);
        Lease {
            metadata: ObjectMeta {
                name: Some(LEASE.to_owned()),
                resource_version: write.version.clone(),
                managed_fields: None,
                ..last.metadata
            },
            spec: Some(LeaseSpec {
                holder_identity: holder,
                lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
                acquire_time: acquired.or_else(|| Some(now.clone())),
                renew_time: Some(now),
                lease_transitions: i32::try_from(write.transitions).ok(),
                ..LeaseSpec::default()
            }),
        }
    }

    fn publish(&self, leadership: &watch::Sender<Leadership>) {
        let at = self.clock.now();
        let next = Leadership {
            valid_until: self.election.valid_until(),
            leader: self.election.holder().map(str::to_owned),
            term: 0,
        };
        leadership.send_if_modified(|now| {
            let next = Leadership { term: now.term + u64::from(next.leads(at) && !now.leads(at)), ..next };
            if *now == next {
                return false;
            }
            if now.leader != next.leader {
                info!(
                    leader = next.leader.as_deref().unwrap_or("nobody"),
                    me = self.identity,
                    "the lease has changed hands"
                );
            }
            *now = next;
            true
        });
    }

    fn unknown(&mut self, why: &str) -> Outcome {
        self.failed(why);
        Outcome::Unknown
    }

    fn failed(&mut self, why: &str) {
        if std::mem::replace(&mut self.silent, true) {
            debug!(lease = LEASE, why, "the lease could not be read or written");
        } else {
            warn!(lease = LEASE, why, "the lease could not be read or written: trying on");
        }
    }
}

fn parse(lease: &Lease) -> (Record, String) {
    let spec = lease.spec.clone().unwrap_or_default();
    let record = Record {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        renewed: spec.renew_time.map(|time| time.0.to_string()).unwrap_or_default(),
        transitions: spec.lease_transitions.and_then(|count| u32::try_from(count).ok()).unwrap_or_default(),
    };
    (record, lease.metadata.resource_version.clone().unwrap_or_default())
}
