//! The platform's API over HTTP: the IoT OpenAPI (2018-01-20) and the token service STS (2015-04-01), behind one gateway as
//! at Alibaba Cloud, told apart by `Version` (PLATFORM.md 4). The gateway is the same for both: who calls, with which
//! signature, when, how often; what it says no to is a 4xx. This file is its order of questions; everything below is pure
//! but [`serve`].

mod answer;
mod call;
mod gate;
mod iot;
mod nonces;
mod oidc;
mod serve;
mod sts;

use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tracing::{debug, info};

pub(crate) use self::call::Received;
pub(crate) use self::gate::{ApiFault, Counted, Rate};
pub(crate) use self::iot::World;
pub(crate) use self::serve::accept;

use self::answer::{Answer, Format, Refusal};
use self::call::Call;
use self::gate::{Gate, Outcome};
use self::oidc::KeySet;
use crate::accounts::{Accounts, BadKey, Caller};
use crate::clock::{Micros, Now};
use crate::config::{OpenApi, ProviderEntry, Sts};
use crate::devices::SharedRegistry;
use crate::hub::Hub;
use crate::rules::Rule;
use crate::terms::Terms;

/// The APIs behind the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Product {
    /// The token service.
    Sts,
    /// The IoT OpenAPI.
    Iot,
}

impl Product {
    fn of(version: &str) -> Result<Self, Refusal> {
        match version {
            "2018-01-20" => Ok(Self::Iot),
            "2015-04-01" => Ok(Self::Sts),
            _ => Err(Refusal::invalid("InvalidVersion", "Specified parameter Version is not valid.")),
        }
    }

    fn action(self, name: &str) -> Result<&'static str, Refusal> {
        let found = match self {
            Self::Iot => iot::action(name),
            Self::Sts => sts::action(name),
        };
        found.ok_or_else(|| {
            let words = "Specified api is not found, please check your url and method.";
            Refusal::new(404, "InvalidAction.NotFound", words)
        })
    }
}

/// What is known of a call so far, for the counts.
#[derive(Debug, Default)]
struct Told {
    account: Option<String>,
    product: Option<Product>,
    action: Option<&'static str>,
}

/// An answer as it goes over the wire.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// How long the caller waits for it.
    pub(crate) after: Duration,
    pub(crate) content_type: &'static str,
    pub(crate) text: String,
}

/// The gateway and what is behind it.
#[derive(Debug)]
pub(crate) struct Service {
    hub: Arc<Hub>,
    accounts: Arc<Mutex<Accounts>>,
    gate: Mutex<Gate>,
    terms: Arc<Terms>,
    rules: OpenApi,
    sts: Sts,
    /// Wakes the calls that hang, when the faults have changed.
    faults: Notify,
    devices: SharedRegistry,
}

impl Service {
    pub(crate) fn new(
        hub: Arc<Hub>,
        accounts: Arc<Mutex<Accounts>>,
        terms: Arc<Terms>,
        rules: OpenApi,
        sts: Sts,
    ) -> Self {
        let gate = Mutex::new(Gate::new(rules.throttle, rules.timestamp_window));
        let (faults, devices) = (Notify::new(), SharedRegistry::default());
        Self { hub, accounts, gate, terms, rules, sts, faults, devices }
    }

    /// The same for these devices; without, there are none.
    pub(crate) fn reaching(self, devices: SharedRegistry) -> Self {
        Self { devices, ..self }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All counts since the start.
    pub(crate) fn counted(&self) -> (Vec<Counted>, Vec<Rate>) {
        let gate = self.gate();
        (gate.counted(), gate.rates())
    }

    /// Makes the gateway misbehave for a time, towards one product's callers or all.
    pub(crate) fn misbehave(&self, fault: ApiFault, product: Option<Product>, time: Duration) {
        let until = self.hub.clock().now().mono.after(time);
        self.gate().misbehave(fault, product, until);
        self.faults.notify_waiters();
    }

    /// Until when a call hangs, if it does.
    fn frozen_until(&self, received: &Received) -> Option<Micros> {
        let now = self.hub.clock().now().mono;
        let product = received.version().and_then(|version| Product::of(&version).ok());
        self.gate().frozen_until(product, now)
    }

    /// Counts a call that has to wait. Whose it is has not been looked at yet.
    fn count_frozen(&self, received: &Received) {
        if let Some(product) = received.version().and_then(|version| Product::of(&version).ok()) {
            self.gate().count(None, product, None, Outcome::Frozen);
        }
    }

    /// Answers a call.
    fn handle(&self, received: Received) -> Reply {
        self.handle_at(received, self.hub.clock().now())
    }

    /// Answers a call that comes at this time.
    pub(crate) fn handle_at(&self, received: Received, now: Now) -> Reply {
        let (format, host) = (received.format(), received.host().to_owned());
        let mut told = Told::default();
        let (answer, outcome) = match self.serve(received, now, &mut told) {
            Ok((true, answer)) => (answer, Outcome::Succeeded),
            Ok((false, answer)) => (answer, Outcome::Failed),
            Err(refusal) => {
                let outcome = match refusal.code {
                    THROTTLED => Outcome::Throttled,
                    UNAVAILABLE => Outcome::Unavailable,
                    _ => Outcome::Refused,
                };
                (Answer::refused(&refusal, &host), outcome)
            }
        };
        debug!(action = told.action, account = told.account, ?outcome, "call answered");
        if let Some(product) = told.product {
            self.gate().count(told.account.as_deref(), product, told.action, outcome);
        }
        reply(answer, format)
    }

    /// A call that can't even be read as far as its action.
    fn refuse(refusal: &Refusal, host: &str) -> Reply {
        reply(Answer::refused(refusal, host), Format::Json)
    }

    fn serve(&self, received: Received, now: Now, told: &mut Told) -> Result<(bool, Answer), Refusal> {
        let call = Call::read(received)?;
        let product = Product::of(call.version()?)?;
        told.product = Some(product);
        let action = product.action(call.action()?)?;
        told.action = Some(action);
        let fault = self.gate().fault(product, now.mono);
        if fault == Some(ApiFault::Unavailable) {
            let words = "The request has failed due to a temporary failure of the server.";
            return Err(Refusal::new(503, UNAVAILABLE, words));
        }
        if action == sts::ASSUME_ROLE_WITH_OIDC {
            return self.exchange(&call, now, told);
        }
        let caller = self.authenticate(&call, now)?;
        told.account = Some(caller.account.clone());
        self.admit(told, Some((&caller.key_id, call.nonce())), now.mono)?;
        match product {
            Product::Iot => {
                let (hub, devices) = (&self.hub, &self.devices);
                if let Some(done) = iot::devices::perform(action, &caller, call.params(), &self.rules, hub, devices) {
                    return done;
                }
                self.hub.with_world_at(now, |world| iot::perform(action, &caller, call.params(), &self.rules, world))
            }
            Product::Sts => {
                let accounts = &mut self.accounts();
                let answer = sts::assume_role(accounts, &caller, call.params(), &self.sts, now.unix_us / 1_000)?;
                Ok((true, answer))
            }
        }
    }

    /// The one action that nobody signs: the token is the proof. It counts for the account of the role.
    fn exchange(&self, call: &Call, now: Now, told: &mut Told) -> Result<(bool, Answer), Refusal> {
        let role = call.params().get("RoleArn").unwrap_or_default();
        told.account = self.accounts().role(role).map(|role| role.account().to_owned());
        self.check_time(call, now)?;
        self.admit(told, None, now.mono)?;
        let (accounts, kept) = (&mut self.accounts(), self.terms.rules);
        let now_ms = now.unix_us / 1_000;
        let answer = sts::assume_role_with_oidc(accounts, call.params(), &self.sts, keys_of, kept, now_ms)?;
        info!(role, "token of an identity provider exchanged");
        Ok((true, answer))
    }

    fn authenticate(&self, call: &Call, now: Now) -> Result<Caller, Refusal> {
        let key_id = call.key_id()?;
        let found = self.accounts().look_up(key_id, call.security_token(), now.unix_us / 1_000);
        let (secret, caller) = found.map_err(bad_key)?;
        self.check_time(call, now)?;
        if self.terms.keeps(Rule::ApiSignature) {
            call.check_signature(&secret)?;
        }
        Ok(caller)
    }

    fn check_time(&self, call: &Call, now: Now) -> Result<(), Refusal> {
        let now_ms = i64::try_from(now.unix_us / 1_000).unwrap_or(i64::MAX);
        let window_ms = self.rules.timestamp_window.as_millis();
        let off_ms = u128::from(call.made_at_ms()?.abs_diff(now_ms));
        if off_ms > window_ms && self.terms.keeps(Rule::ApiTimestamp) {
            return Err(Refusal::invalid("InvalidTimeStamp.Expired", "Specified time stamp or date value is expired."));
        }
        Ok(())
    }

    /// Lets a call in whose nonce is new and which fits into its second. Only such a nonce is remembered: a call that was
    /// one too many may be made again as it is.
    fn admit(&self, told: &Told, nonce: Option<(&str, &str)>, now: Micros) -> Result<(), Refusal> {
        let (Some(product), Some(action)) = (told.product, told.action) else { return Ok(()) };
        let (rule, per_second) = match product {
            Product::Iot => (Rule::ApiRate, self.rules.calls_per_second),
            Product::Sts => (Rule::StsRate, self.sts.calls_per_second),
        };
        // Some actions of devices have a rate of their own.
        let own = if product == Product::Iot { iot::own_rate(action) } else { None };
        let (per_second, apart) = (own.unwrap_or(per_second), own.is_some());
        let mut gate = self.gate();
        if let Some((key_id, nonce)) = nonce
            && gate.nonces().knows(key_id, nonce, now)
            && self.terms.keeps(Rule::ApiNonce)
        {
            return Err(Refusal::invalid("SignatureNonceUsed", "Specified signature nonce was used already."));
        }
        let fits = gate.admits(told.account.as_deref().unwrap_or_default(), product, action, per_second, apart, now);
        let one_too_many = !fits && self.terms.keeps(rule);
        if one_too_many || gate.fault(product, now) == Some(ApiFault::Throttle) {
            return Err(Refusal::invalid(THROTTLED, "Request was denied due to user flow control."));
        }
        if let Some((key_id, nonce)) = nonce {
            gate.nonces().add(key_id, nonce, now);
        }
        Ok(())
    }
}

/// The code for one call too many.
const THROTTLED: &str = "Throttling.User";
/// The code for a gateway that does not work.
const UNAVAILABLE: &str = "ServiceUnavailable";

fn reply(answer: Answer, format: Format) -> Reply {
    let bits: u128 = rand::random();
    let id = format!("{bits:032X}");
    let request_id = format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
    let (status, after) = (answer.status, answer.after);
    Reply { status, after, content_type: format.content_type(), text: answer.write(format, &request_id) }
}

fn bad_key(reason: BadKey) -> Refusal {
    match reason {
        BadKey::Unknown => Refusal::new(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found."),
        BadKey::Disabled => Refusal::invalid("InvalidAccessKeyId.Inactive", "Specified access key is disabled."),
        BadKey::TokenMissing => Refusal::invalid("MissingSecurityToken", "SecurityToken is mandatory for this action."),
        BadKey::TokenUnknown => {
            Refusal::invalid("InvalidSecurityToken.Malformed", "Specified SecurityToken is malformed.")
        }
        BadKey::TokenOfAnother => Refusal::invalid(
            "InvalidSecurityToken.MismatchWithAccessKey",
            "Specified SecurityToken mismatch with the AccessKey.",
        ),
        BadKey::TokenExpired => Refusal::invalid("InvalidSecurityToken.Expired", "Specified SecurityToken is expired."),
    }
}

/// A provider's keys, as they are now: a file may be there later than the emulator, and may change.
fn keys_of(provider: &ProviderEntry) -> Result<KeySet, String> {
    let text = match (&provider.keys, &provider.keys_file) {
        (Some(keys), _) => keys.clone(),
        (None, Some(file)) => {
            fs::read_to_string(file).map_err(|error| format!("The provider's keys, {}: {error}.", file.display()))?
        }
        (None, None) => String::new(),
    };
    KeySet::parse(&text).map_err(|error| format!("The provider's keys: {error}."))
}

#[cfg(test)]
pub(crate) use self::oidc::tests as oidc_tests;

#[cfg(test)]
pub(crate) mod tests;
