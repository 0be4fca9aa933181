//! Sends what changes the cluster: costs of deletion, then replicas. Only while this replica leads, asked at each write.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::runtime::events::Recorder;
use sluice_crds::TargetReference;
use tokio::sync::watch;
use tracing::info;

use super::build::{self, FIELD_MANAGER};
use super::dereference::Kinds;
use super::plan::Plan;
use super::status::{self, Subject};
use crate::fault::{Class, Fault, bounded};
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::time::Clock;

/// What is written with.
#[derive(Clone)]
pub struct Writer {
    /// The API server.
    pub client: Client,
    /// Events.
    pub recorder: Arc<Recorder>,
    /// Whether this replica leads.
    pub leadership: watch::Receiver<Leadership>,
    /// The clock of that.
    pub clock: Clock,
    /// Counts writes and failures.
    pub metrics: Metrics,
    /// Kinds that were looked up.
    pub kinds: Kinds,
}

impl Writer {
    /// Nothing is written by a replica that does not lead (any more).
    pub fn may_write(&self) -> Result<(), Fault> {
        let leads = self.leadership.borrow().leads(self.clock.now());
        if leads { Ok(()) } else { Err(Fault::new(Class::Unavailable, "this replica does not lead any more")) }
    }

    /// A failed request, counted.
    pub fn failed(&self, error: impl Into<Fault>) -> Fault {
        let fault = error.into();
        self.metrics.api_error(fault.class);
        fault
    }
}

/// Sends what `plan` calls for, besides the status. Whether the workload was written.
pub async fn apply(
    writer: &Writer,
    subject: &Subject,
    target: Option<&TargetReference>,
    plan: &Plan,
) -> Result<bool, Fault> {
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let pods = Api::<Pod>::namespaced(writer.client.clone(), &subject.name.namespace);
    for cost in &plan.costs {
        writer.may_write()?;
        let patch = build::cost_patch(cost);
        match bounded(pods.patch_metadata(&cost.pod, &parameters, &Patch::Merge(&patch))).await {
            Ok(_) => writer.metrics.wrote("pod"),
            // A pod that has gone since, or made room for another of its name, needs no mark.
            Err(fault) if matches!(fault.class, Class::NotFound | Class::Conflict) => {}
            Err(fault) => return Err(writer.failed(fault)),
        }
    }
    let (Some(scale), Some(reference)) = (&plan.scale, target) else { return Ok(false) };
    let resource = writer.kinds.resolve(&writer.client, reference).await.map_err(|error| writer.failed(error))?;
    let Some(resource) = resource else { return Ok(false) };
    let workloads = Api::<DynamicObject>::namespaced_with(writer.client.clone(), &subject.name.namespace, &resource);
    writer.may_write()?;
    let patch = build::scale_patch(scale);
    let answer = bounded(workloads.patch_scale(&reference.name, &parameters, &Patch::Merge(&patch))).await;
    answer.map_err(|error| writer.failed(error))?;
    writer.metrics.wrote("scale");
    info!(group = %subject.name, from = scale.from, to = scale.replicas, reason = scale.reason, "workload scaled");
    status::tell(writer, subject, build::scaled(scale)).await;
    Ok(true)
}
