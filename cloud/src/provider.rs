//! The life of a credential that ends: when a new one is fetched, what counts while that fails, and what is said about it.
//! A pure core; who fetches (with [`crate::sts`], say) reports here how it went.
//!
//! A time is what has passed since a moment of the caller's choice, on its own clock that never goes back. A lease ends on
//! *that* clock, counted from before it was asked for ([`crate::sts::Session::lifetime`]): the clocks of two machines are
//! never compared.

use std::time::Duration;

use crate::answer::ErrorClass;
use crate::credentials::AccessKey;

/// A credential and how long it serves.
#[derive(Clone, Debug)]
pub struct Lease {
    key: AccessKey,
    from: Duration,
    /// `None`: for ever.
    until: Option<Duration>,
}

impl Lease {
    /// A key that does not end by itself.
    pub fn permanent(key: AccessKey) -> Self {
        Self { key, from: Duration::ZERO, until: None }
    }

    /// A key that serves for `lifetime` from the time `asked`, when the request for it was sent.
    pub fn temporary(key: AccessKey, asked: Duration, lifetime: Duration) -> Self {
        Self { key, from: asked, until: Some(asked + lifetime) }
    }

    /// The key.
    pub fn key(&self) -> &AccessKey {
        &self.key
    }

    /// When it ends; `None` if it does not.
    pub fn until(&self) -> Option<Duration> {
        self.until
    }

    fn is_over(&self, at: Duration) -> bool {
        self.until.is_some_and(|until| at >= until)
    }
}

/// How a credential is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// There has never been one.
    Empty,
    /// It serves, and will for a good while.
    Fresh,
    /// It serves, and the next one is being fetched.
    Refreshing,
    /// It serves still, and the next one should be here but is not.
    Stale,
    /// It serves no more, and there is no next one yet.
    Expired,
}

/// How the last attempt to fetch one failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub class: ErrorClass,
    /// What was said, in the words of STS if it said anything.
    pub words: String,
    /// When.
    pub at: Duration,
    /// How many attempts in a row have failed, this one among them.
    pub in_a_row: u32,
}

/// An attempt to fetch a credential. The outcome of one that is not the latest is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt(u64);

/// The life of one credential, through all its leases.
#[derive(Clone, Debug)]
pub struct Life {
    seed: u64,
    lease: Option<Lease>,
    failure: Option<Failure>,
    attempts: u64,
    under_way: bool,
    /// When the next attempt should begin; `None`: never, for the key is permanent.
    due: Option<Duration>,
}

/// A new credential is fetched at the latest this long before the old one ends (PLATFORM.md 4.4).
const LEAD: Duration = Duration::from_secs(180);
/// Two attempts are at least this far apart, however short what they bring lasts.
const LEAST: Duration = Duration::from_secs(1);
/// And so far, if what they bring is refused.
const REFUSED: Duration = Duration::from_secs(30);

impl Life {
    /// No credential yet, and the first one is to be fetched at once. `seed` spreads the attempts of many such lives.
    pub fn new(seed: u64) -> Self {
        Self { seed, lease: None, failure: None, attempts: 0, under_way: false, due: Some(Duration::ZERO) }
    }

    /// When the next attempt should begin; a time that has passed means at once. `None` while one is under way, and for a
    /// permanent key.
    pub fn due(&self) -> Option<Duration> {
        if self.under_way { None } else { self.due }
    }

    /// How it is doing.
    pub fn state(&self, at: Duration) -> State {
        match &self.lease {
            None => State::Empty,
            Some(lease) if lease.is_over(at) => State::Expired,
            Some(_) if self.under_way => State::Refreshing,
            Some(_) if self.failure.is_some() || self.due.is_some_and(|due| at >= due) => State::Stale,
            Some(_) => State::Fresh,
        }
    }

    /// The key to sign with, if there is one that serves.
    pub fn key(&self, at: Duration) -> Option<&AccessKey> {
        self.lease.as_ref().filter(|lease| !lease.is_over(at)).map(Lease::key)
    }

    /// When the present credential ends; `None` if there is none or it does not.
    pub fn until(&self) -> Option<Duration> {
        self.lease.as_ref().and_then(Lease::until)
    }

    /// How the last attempt failed; `None` once one has succeeded.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// An attempt begins. Its outcome must be told, or [`renew`](Self::renew) called: until then no other is due.
    pub fn begin(&mut self) -> Attempt {
        self.attempts += 1;
        self.under_way = true;
        Attempt(self.attempts)
    }

    /// The attempt brought a credential.
    pub fn succeeded(&mut self, attempt: Attempt, lease: Lease) {
        if !self.ends(attempt) {
            return;
        }
        // Who had trouble this time begins earlier the next time.
        let trouble = self.failure.take().map_or(0, |failure| failure.in_a_row);
        self.due = lease.until.map(|until| {
            let lifetime = until.saturating_sub(lease.from);
            let lead = LEAD * (1 + trouble.min(4)) + self.spread(lifetime / 10);
            until.saturating_sub(lead.min(lifetime / 2)).max(lease.from + LEAST)
        });
        self.lease = Some(lease);
    }

    /// The attempt failed.
    pub fn failed(&mut self, attempt: Attempt, class: ErrorClass, words: impl Into<String>, at: Duration) {
        if !self.ends(attempt) {
            return;
        }
        let in_a_row = self.failure.as_ref().map_or(0, |failure| failure.in_a_row).saturating_add(1);
        // What somebody has to change first is not asked for every second.
        let (first, longest) = match class {
            ErrorClass::Unavailable => (1, 60),
            ErrorClass::Throttled => (5, 60),
            _ => (30, 300),
        };
        let pause = Duration::from_secs(first << (in_a_row - 1).min(8)).min(Duration::from_secs(longest));
        self.due = Some(at + pause / 2 + self.spread(pause / 2));
        self.failure = Some(Failure { class, words: words.into(), at, in_a_row });
    }

    /// The platform refused `key`, as far as it is still the present one: it was revoked, or ended early. The next one is
    /// due at once, unless fetching it fails just now, or this one was fetched within the last half minute.
    pub fn refused(&mut self, key: &AccessKey, at: Duration) {
        let Some(lease) = self.lease.as_ref().filter(|lease| lease.key.id() == key.id()) else { return };
        if self.failure.is_none() {
            self.due = self.due.map(|due| due.min(at.max(lease.from + REFUSED)));
        }
    }

    /// The source changed (a Secret was written): whatever was learnt of the old one is void, and the next attempt is due
    /// at once. The present credential serves until the new one is here.
    pub fn renew(&mut self, at: Duration) {
        self.attempts += 1;
        self.under_way = false;
        self.failure = None;
        self.due = Some(at);
    }

    /// Whether it is the latest attempt, which is over with this.
    fn ends(&mut self, attempt: Attempt) -> bool {
        let latest = self.under_way && attempt.0 == self.attempts;
        self.under_way &= !latest;
        latest
    }

    /// Something from zero to `most`, which is another for each life and each attempt.
    fn spread(&self, most: Duration) -> Duration {
        // SplitMix64's finaliser (Steele, Lea, Flood 2014).
        let mut bits = self.seed.wrapping_add(self.attempts.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = u32::try_from((bits ^ (bits >> 31)) >> 48).unwrap_or_default(); // 0 to 65535
        most * share / 65_536
    }
}

#[cfg(test)]
mod tests;
