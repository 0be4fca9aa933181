//! The clerk towards sidecars: what they are told, and who is sent away.

use std::sync::Arc;

use sluice_proto::control::v1;
use tonic::Status;
use tracing::{info, warn};

use super::super::wire;
use super::keys::Signed;
use super::{Clerk, LEAVING, UNSIGNED};
use crate::credentials::Credential;
use crate::slots::{Say, StreamId};

impl Clerk {
    pub(super) fn tell(&mut self, id: StreamId, say: Say) {
        let Some(stream) = self.streams.get(&id) else { return };
        let message = match say {
            Say::Grant { epoch, slots, attempts_alone } => {
                info!(pod = %stream.pod, group = %stream.group, epoch = epoch.0, ?slots, "slots granted");
                wire::granted(epoch, &slots, attempts_alone)
            }
            Say::StandBy(reason) => {
                info!(pod = %stream.pod, group = %stream.group, %reason, "standing by");
                wire::stand_by(&reason)
            }
            Say::Yield { epoch, drain } => {
                info!(pod = %stream.pod, group = %stream.group, epoch = epoch.0, "told to yield");
                wire::yields(epoch, drain)
            }
            Say::Permit { id: request, slot } => match self.sign(stream, slot) {
                Ok((credentials, Credential { key, usable, version })) => {
                    self.office.metrics.permit("issued");
                    let message = wire::permit(request, &credentials, usable);
                    if let Some(stream) = self.streams.get_mut(&id) {
                        stream.signed = Some(Signed { key, version });
                    }
                    message
                }
                Err(reason) => {
                    self.office.metrics.permit("unsigned");
                    wire::unsigned(request, reason, UNSIGNED)
                }
            },
            Say::RefusePermit { id: request, because, retry_after } => {
                self.office.metrics.permit("refused");
                wire::refused(request, because, retry_after)
            }
            Say::Ping { number } => wire::ping(number),
        };
        if self.streams.get(&id).is_some_and(|stream| !stream.outlet.send(message)) {
            self.drop_stream(id);
        }
    }

    /// The sidecar does not read what it is told: it has to come again.
    pub(super) fn drop_stream(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.remove(&id) {
            warn!(pod = %stream.pod, group = %stream.group, "the sidecar does not read its stream: ended");
            stream.outlet.end(Status::resource_exhausted("too much is unread on this stream"));
            self.desk.stream_gone(id);
        }
    }

    /// Sidecars whose ConsumerGroup has moved give back what they hold here, and then call again elsewhere.
    pub(super) fn see_off(&mut self) {
        if self.moved.is_empty() {
            return;
        }
        let moved: Vec<StreamId> =
            self.streams.iter().filter(|(_, stream)| self.moved.contains(&stream.group)).map(|(id, _)| *id).collect();
        for id in moved {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            match self.desk.table().and_then(|table| table.of_pod(&stream.pod.uid)) {
                Some(holder) if stream.told_to_leave == holder.epoch => {}
                Some(holder) => {
                    stream.told_to_leave = holder.epoch;
                    let _ = stream.outlet.send(wire::yields(holder.epoch, LEAVING));
                }
                None => {
                    let words = "the ConsumerGroup is about another group of the platform now; connect again";
                    stream.outlet.end(Status::unavailable(words));
                    self.streams.remove(&id);
                    self.desk.stream_gone(id);
                }
            }
        }
    }

    /// Every stream knows its ConsumerGroup's policy, as it is now.
    pub(super) fn tell_policies(&mut self) {
        let mut deaf = Vec::new();
        let versions = self.credentials_versions();
        for (id, stream) in &mut self.streams {
            let Some(registration) = self.members.get(&stream.group) else { continue };
            let told = stream.policy.as_ref();
            // Keys that are missing are no other keys.
            let known = versions.get(&stream.group).copied();
            let version = known.unwrap_or_else(|| told.map_or(0, |(_, version)| *version));
            let same =
                |policy: &Arc<v1::Policy>| Arc::ptr_eq(policy, &registration.policy) || *policy == registration.policy;
            if told.is_some_and(|(policy, told)| *told == version && same(policy)) {
                continue;
            }
            let policy = v1::Policy { credentials_version: version, ..v1::Policy::clone(&registration.policy) };
            if stream.outlet.send(wire::message(v1::broker_message::Message::Policy(policy))) {
                stream.policy = Some((Arc::clone(&registration.policy), version));
            } else {
                deaf.push(*id);
            }
        }
        for id in deaf {
            self.drop_stream(id);
        }
    }
}
