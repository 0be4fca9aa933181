//! How a client comes in: the limits of a group on connections and on attempts to connect (PLATFORM.md 1.8), and what
//! becomes of those beyond them. The documents know the limits and a code for the log; what a client sees is a question of
//! the profile.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

use serde::Serialize;

use super::UnknownGroup;
use super::client::Client;
use crate::clock::Micros;
use crate::limits::Limits;
use crate::profile::{ClientsCounted, Profile, SameClientId, SurplusAttempt, SurplusClient};
use crate::rules::Rule;
use crate::terms::Terms;

/// The window of the limit on connection attempts, in µs.
const ATTEMPT_WINDOW_US: u64 = 60_000_000;
/// How many attempts of the last minute are remembered, at least; the peak is not counted beyond.
const ATTEMPTS_REMEMBERED: usize = 20_000;

/// Why a client may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The group has its full number of clients (PLATFORM.md 1.8).
    #[error("connections in the group exceed the limit of {limit} (9600)")]
    TooManyClients {
        /// The limit.
        limit: u32,
    },
    /// The group was deleted meanwhile.
    #[error("the consumer group is gone")]
    NoGroup,
    /// Too many attempts to connect in the last minute (PLATFORM.md 1.8).
    #[error("more than {limit} connection attempts of the group in one minute")]
    TooManyAttempts {
        /// The limit.
        limit: u32,
    },
}

impl Refusal {
    /// Whether SASL, if it is SASL that refuses, says that it may be otherwise later (`sys-temp`, not `auth`).
    #[must_use]
    pub fn is_temporary(self, profile: &Profile) -> bool {
        matches!(self, Self::TooManyClients { .. }) && profile.surplus_client == SurplusClient::SaslTemporary
    }
}

impl From<UnknownGroup> for Refusal {
    fn from(_: UnknownGroup) -> Self {
        Self::NoGroup
    }
}

/// Where a client can be refused on its way in. It passes all of them, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Its credentials are right, and SASL has no outcome yet.
    Sasl,
    /// Its Open has come.
    Open,
    /// It attaches its link.
    Attach,
}

/// Someone on the way in.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// The group it comes to.
    pub group: &'a str,
    /// Its client ID.
    pub client_id: &'a str,
    /// Where it comes from.
    pub address: SocketAddr,
    /// What [`Platform::attempt`](super::Platform::attempt) had against it.
    pub refused: Option<Refusal>,
}

/// Why the platform ends a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// Its group was deleted.
    GroupDeleted,
    /// A newer client took its place, because there were too many.
    Surplus,
    /// Its client ID came again.
    SameClientId,
}

/// The limits that one group may have for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupLimits {
    /// Connections at a time.
    pub clients_per_group: u32,
    /// Attempts to connect in any 60 s.
    pub connect_attempts_per_minute: u32,
}

impl From<&Limits> for GroupLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            clients_per_group: limits.clients_per_group,
            connect_attempts_per_minute: limits.connect_attempts_per_minute,
        }
    }
}

/// Whether an attempt that was one too many is refused at this door, at the latest.
pub(super) fn refuses_attempts(door: Door, profile: &Profile) -> bool {
    match door {
        Door::Sasl => profile.surplus_attempt == SurplusAttempt::Sasl,
        Door::Open | Door::Attach => true,
    }
}

/// Whether a client gets its place at this door, if it has none yet.
pub(super) fn gives_places(door: Door, profile: &Profile) -> bool {
    let at_sasl = matches!(profile.surplus_client, SurplusClient::Sasl | SurplusClient::SaslTemporary);
    door != Door::Sasl || at_sasl
}

/// A group's attempts to connect. Refused ones count as well, for the platform can't tell beforehand.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    last_minute: VecDeque<Micros>,
    total: u64,
    peak: u64,
    /// How many more are refused, whatever the limit.
    refuse_next: u32,
}

impl Attempts {
    pub(super) fn count(&mut self, limit: u32, terms: &Terms, now: Micros) -> Result<(), Refusal> {
        while self.last_minute.front().is_some_and(|&at| now.since(at) >= ATTEMPT_WINDOW_US) {
            self.last_minute.pop_front();
        }
        if self.last_minute.len() > ATTEMPTS_REMEMBERED.max(limit as usize) {
            self.last_minute.pop_front();
        }
        self.last_minute.push_back(now);
        let in_window = self.last_minute.len() as u64;
        self.total += 1;
        self.peak = self.peak.max(in_window);
        let refused = self.refuse_next > 0;
        self.refuse_next = self.refuse_next.saturating_sub(1);
        let too_many = terms.keeps(Rule::AttemptsPerMinute) && in_window > u64::from(limit);
        if refused || too_many { Err(Refusal::TooManyAttempts { limit }) } else { Ok(()) }
    }

    /// Has the next `attempts` refused as though they were beyond the limit.
    pub(super) fn refuse_next(&mut self, attempts: u32) {
        self.refuse_next = attempts;
    }

    /// How many there were, and the most in a minute.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.total, self.peak)
    }
}

/// What a client is to its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has one of the places.
    Placed,
    /// It is beyond the limit: it gets no message.
    Surplus,
    /// Its connection is to be closed.
    Evicted,
}

/// How a client comes in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Admission {
    pub(super) standing: Standing,
    /// Who has to go for it.
    pub(super) evicts: Vec<(u64, Eviction)>,
}

/// How many places these have.
pub(super) fn places<'a>(clients: impl Iterator<Item = &'a Client>, profile: &Profile) -> usize {
    let placed = clients.filter(|client| client.standing == Standing::Placed);
    match profile.clients_counted {
        ClientsCounted::Connections => placed.count(),
        ClientsCounted::ClientIds => placed.map(|client| &client.id).collect::<BTreeSet<_>>().len(),
    }
}

/// Whether there is room for one more.
pub(super) fn has_room<'a>(
    clients: impl Iterator<Item = &'a Client> + Clone,
    client_id: &str,
    limit: u32,
    terms: &Terms,
) -> bool {
    let shares_a_place = terms.profile.clients_counted == ClientsCounted::ClientIds
        && clients.clone().any(|client| client.standing == Standing::Placed && *client.id == *client_id);
    shares_a_place || places(clients, &terms.profile) < limit as usize || !terms.keeps(Rule::ClientsPerGroup)
}

/// Decides how a client comes in, or that it does not. `present` are in the order of their coming.
pub(super) fn admit(present: &[Client], client_id: &str, limit: u32, terms: &Terms) -> Result<Admission, Refusal> {
    let mut evicts: Vec<(u64, Eviction)> = Vec::new();
    if terms.profile.same_client_id == SameClientId::ClosesOlder {
        let same = present.iter().filter(|client| *client.id == *client_id && client.standing != Standing::Evicted);
        evicts.extend(same.map(|client| (client.serial, Eviction::SameClientId)));
    }
    loop {
        let stays = |client: &&Client| !evicts.iter().any(|(serial, _)| *serial == client.serial);
        let staying = present.iter().filter(stays);
        if has_room(staying.clone(), client_id, limit, terms) {
            return Ok(Admission { standing: Standing::Placed, evicts });
        }
        match terms.profile.surplus_client {
            SurplusClient::Open | SurplusClient::Sasl | SurplusClient::SaslTemporary => break,
            SurplusClient::Attach | SurplusClient::Starved => {
                return Ok(Admission { standing: Standing::Surplus, evicts });
            }
            SurplusClient::EvictsOldest => {
                let Some(oldest) = staying.clone().find(|client| client.standing == Standing::Placed) else { break };
                let goes = |client: &&Client| match terms.profile.clients_counted {
                    ClientsCounted::Connections => client.serial == oldest.serial,
                    ClientsCounted::ClientIds => client.id == oldest.id && client.standing == Standing::Placed,
                };
                let going: Vec<u64> = staying.filter(goes).map(|client| client.serial).collect();
                evicts.extend(going.into_iter().map(|serial| (serial, Eviction::Surplus)));
            }
        }
    }
    Err(Refusal::TooManyClients { limit })
}
