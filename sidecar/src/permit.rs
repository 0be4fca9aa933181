//! The right to make one attempt to connect, with user name and password signed for it.
//!
//! The platform allows 100 attempts a minute and group (`PLATFORM.md 1.8`). Without a broker the sidecar signs for itself,
//! anew each time (a token may have been renewed), and paces itself.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sluice_cloud::sign::{ClientId, ClientIdError, ConnectIdentity, SaslCredentials, SignError, SignMethod};

use crate::clock;
use crate::credentials::{Credentials, CredentialsError};
use crate::memory::{Memory, MemoryError};

/// The span over which the platform counts attempts.
const SPAN: Duration = Duration::from_secs(60);

/// The client slot that an attempt is for, and the grant by which it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The grant; 1 where there is no broker.
    pub epoch: u64,
    /// The slot's index.
    pub slot: u32,
}

/// The right to make one attempt.
#[derive(Debug)]
pub struct Permit {
    /// Signed for this attempt.
    pub credentials: SaslCredentials,
    /// The attempt must have reached the platform by then, with its user name: somebody else counts attempts, and has
    /// reckoned with no later one. `None` for a permit of the sidecar's own: only the bounds of each step hold.
    pub until: Option<Instant>,
}

/// Who hands out permits.
pub trait Permits: Send + Sync + 'static {
    /// Waits for the next permit for this place. Can be dropped at any await.
    fn next(&self, place: Place) -> impl Future<Output = Result<Permit, PermitError>> + Send;
}

/// Why there is no permit.
#[derive(Debug, thiserror::Error)]
pub enum PermitError {
    /// The AccessKey is not to be had.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// What there is can't be signed.
    #[error("the connect attempt can't be signed: {0}")]
    Sign(#[from] SignError),
    /// The name can't be one on the platform.
    #[error("the connect attempt can't be named: {0}")]
    Name(#[from] ClientIdError),
    /// What a successor of this process must know of could not be written down.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Nobody hands out permits any more.
    #[error("the sidecar is shutting down")]
    Closed,
}

/// At most so many attempts in any minute.
#[derive(Debug)]
pub struct Pace {
    limit: usize,
    recent: VecDeque<Instant>,
}

impl Pace {
    /// At most `limit` attempts in any 60 s; at least one.
    pub fn new(limit: u32) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).max(1);
        Self { limit, recent: VecDeque::new() }
    }

    /// When the next attempt may be made, given that it is `now`.
    pub fn next_at(&self, now: Instant) -> Instant {
        match self.recent.len().checked_sub(self.limit) {
            None => now,
            Some(at) => now.max(self.recent[at] + SPAN),
        }
    }

    /// An attempt is made.
    pub fn record(&mut self, now: Instant) {
        self.recent.push_back(now);
        while self.recent.len() > self.limit {
            self.recent.pop_front();
        }
    }

    /// How many of the attempts known of count at this moment.
    pub fn counting(&self, now: Instant) -> usize {
        self.recent.iter().filter(|at| now < **at + SPAN).count()
    }
}

/// Permits of the sidecar's own, for where there is no broker.
#[derive(Debug)]
pub struct SelfSigned {
    /// Where the AccessKey comes from; read anew for each attempt.
    pub credentials: Credentials,
    /// This client's name on the platform; that of a connection has the slot's index at its end.
    pub client_id: String,
    /// The instance; `None` for a legacy public one.
    pub iot_instance_id: Option<String>,
    /// The consumer group.
    pub consumer_group_id: String,
    /// How passwords are made.
    pub sign_method: SignMethod,
    /// The attempts of the last minute.
    pub pace: Mutex<Pace>,
    /// Where attempts are remembered over restarts, if anywhere.
    pub memory: Option<Memory>,
}

impl Permits for SelfSigned {
    async fn next(&self, place: Place) -> Result<Permit, PermitError> {
        loop {
            let next = self.pace().next_at(clock::now());
            tokio::time::sleep_until(next.into()).await;
            let credentials = self.sign(place.slot)?;
            let mut attempts = self.pace();
            let now = clock::now();
            // Another connection may have been faster.
            if attempts.next_at(now) <= now {
                attempts.record(now);
                if let Some(memory) = &self.memory {
                    // Nothing depends on whose they were.
                    memory.save(&vec![0; attempts.counting(now)])?;
                }
                return Ok(Permit { credentials, until: None });
            }
        }
    }
}

impl SelfSigned {
    fn sign(&self, slot: u32) -> Result<SaslCredentials, PermitError> {
        let key = self.credentials.current()?;
        let identity = ConnectIdentity {
            client_id: ClientId::try_new(format!("{}-{slot}", self.client_id))?,
            iot_instance_id: self.iot_instance_id.clone(),
            consumer_group_id: self.consumer_group_id.clone(),
            sign_method: self.sign_method,
            timestamp_ms: unix_ms(SystemTime::now()),
            access_key_id: key.id().to_owned(),
            security_token: key.security_token().cloned(),
        };
        Ok(identity.sign(key.secret())?)
    }

    fn pace(&self) -> std::sync::MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_minute_sees_more_attempts_than_the_limit(limit in 1_u32..8, gaps in prop::collection::vec(0_u64..40, 1..60)) {
            let start = Instant::now();
            let mut pace = Pace::new(limit);
            let mut made: Vec<Instant> = Vec::new();
            let mut now = start;
            for gap in gaps {
                now = pace.next_at(now + Duration::from_secs(gap));
                pace.record(now);
                made.push(now);
            }
            for (i, at) in made.iter().enumerate() {
                let within = made[i..].iter().filter(|other| **other < *at + SPAN).count();
                prop_assert!(within <= limit as usize);
            }
        }
    }

    #[test]
    fn an_attempt_inside_the_limit_does_not_wait() {
        let mut pace = Pace::new(2);
        let now = Instant::now();
        pace.record(now);
        assert_eq!(pace.next_at(now), now);
        pace.record(now);
        assert_eq!(pace.next_at(now), now + SPAN);
    }
}
