//! The clerk and keys: permits are signed with them, and what becomes of the links shows what they are worth.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use sluice_cloud::credentials::AccessKey;
use sluice_cloud::sign::{ConnectIdentity, SaslCredentials};
use sluice_proto::control::v1;
use sluice_proto::control::v1::link::Phase;

use super::super::registration::Registration;
use super::super::wire;
use super::{Clerk, Stream, UNSIGNED};
use crate::credentials::Credential;
use crate::slots::{Epoch, GroupRef, SlotIndex, StreamId, client_id};

/// A key that a permit was signed with.
pub(super) struct Signed {
    pub(super) key: AccessKey,
    /// Which of the keys that the ConsumerGroup has had.
    pub(super) version: u64,
}

/// What links have shown of a ConsumerGroup's keys.
#[derive(Default)]
pub(super) struct Proof {
    /// A link came up that was signed with this one.
    pub(super) taken: Option<u64>,
    /// A link that was signed with this one was refused, in these words.
    pub(super) refused: Option<(u64, String)>,
}

impl Clerk {
    /// What has become of the last permit of a stream, as far as it proves something about the key. Whoever keeps a key
    /// that was refused should look for another.
    pub(super) fn note_proof(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Some(link) = &stream.report.link else { return };
        let up = link.phase() == Phase::Up;
        if !up && !link.credentials_refused {
            return;
        }
        let Some(Signed { key, version }) = stream.signed.take() else { return };
        let proof = self.proofs.entry(stream.group.clone()).or_default();
        if up {
            proof.taken = proof.taken.max(Some(version));
        } else {
            proof.refused = Some((version, wire::words(&link.reason)));
            if let Some(registration) = self.members.get(&stream.group) {
                registration.group().link_keys.refused(&key);
            }
        }
    }

    /// The platform's words, for ConsumerGroups whose present keys it refuses, whatever older links are still up.
    pub(super) fn refusals(&self) -> HashMap<GroupRef, String> {
        let refused = self.proofs.iter().filter_map(|(name, proof)| {
            let (version, words) = proof.refused.as_ref()?;
            let present = self.members.get(name)?.group().link_keys.current().ok()?.version;
            (*version == present && proof.taken != Some(present)).then(|| (name.clone(), words.clone()))
        });
        refused.collect()
    }

    /// What the present user names and passwords of each ConsumerGroup are made of, as a number; none if there are no keys.
    pub(super) fn credentials_versions(&self) -> HashMap<GroupRef, u64> {
        let version = |member: &Registration| {
            let keys = member.group().link_keys.current().ok()?.version;
            let mut hasher = DefaultHasher::new();
            (keys, member.instance_id(), member.sign_method()).hash(&mut hasher);
            Some(hasher.finish())
        };
        self.members.iter().filter_map(|(name, member)| Some((name.clone(), version(member)?))).collect()
    }

    /// A permit that could not be signed is not asked for: it would be one less for everybody else.
    pub(super) fn asked_for_permit(&mut self, id: StreamId, request: &v1::PermitRequest) {
        let Some(stream) = self.streams.get(&id) else { return };
        let slot = SlotIndex(request.slot);
        match self.sign(stream, slot) {
            Ok(_) => self.desk.permit_request(id, request.id, Epoch(request.epoch), slot),
            Err(reason) => {
                self.office.metrics.permit("unsigned");
                if !stream.outlet.send(wire::unsigned(request.id, reason, UNSIGNED)) {
                    self.drop_stream(id);
                }
            }
        }
    }

    pub(super) fn sign(&self, stream: &Stream, slot: SlotIndex) -> Result<(SaslCredentials, Credential), String> {
        let Some(registration) = self.members.get(&stream.group) else {
            return Err(format!("there is no valid ConsumerGroup {}", stream.group));
        };
        let credential = registration.group().link_keys.current().map_err(|fault| fault.words)?;
        let pod = &stream.pod;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let identity = ConnectIdentity {
            client_id: client_id(pod, slot).map_err(|error| error.to_string())?,
            iot_instance_id: registration.instance_id(),
            consumer_group_id: self.desk.group().group_id.clone(),
            sign_method: registration.sign_method(),
            timestamp_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            access_key_id: credential.key.id().to_owned(),
            security_token: credential.key.security_token().cloned(),
        };
        let credentials = identity.sign(credential.key.secret()).map_err(|error| error.to_string())?;
        Ok((credentials, credential))
    }
}
