//! Sends calls to the OpenAPI and STS: over HTTPS only, to allowed endpoints only, with bounds on every wait and on every
//! answer. The thin edge around [`crate::answer`], [`crate::iot`] and [`crate::sts`]; what is pure about a call is there.
//!
//! What is logged of a call (at level debug): action, endpoint, status, the platform's code and `RequestId`, and how long it
//! took. Never a parameter, a signature, or a body.

mod connect;
mod error;
mod tls;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use tokio::time::{Instant, timeout};
use tracing::debug;
use zeroize::Zeroizing;

pub use self::error::{CallError, outcome};
pub use self::tls::{Roots, TlsError, check_bundle};
pub use self::turns::{Turn, Turns};

use crate::answer::{Action, ApiError, SignedAction, UnsignedAction, judge};
use crate::credentials::AccessKey;
use crate::endpoint::{Endpoint, EndpointPolicy};
use crate::rpc::{Nonce, Params};
use crate::secret::SecretString;

/// How long a call may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To look a name up, connect, and agree on TLS.
    pub connect: Duration,
    /// To answer, once connected; and again to send the rest of the answer once it began.
    pub read: Duration,
}

impl Default for Timeouts {
    /// 5 s and 10 s, as the vendor's own library has them (PLATFORM.md 4.4).
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), read: Duration::from_secs(10) }
    }
}

/// The largest answer that is read: a page of 1,000 groups is a fifth of it.
pub const MAX_ANSWER: usize = 1024 * 1024;

/// The method of every call. All of them are made to be sent once: nothing on the way may repeat them.
const METHOD: &str = "POST";

/// A client for every API. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    http: connect::Http,
    policy: Arc<EndpointPolicy>,
    timeouts: Timeouts,
}

/// An answer, and when it was made.
#[derive(Clone, Debug)]
pub struct Answered<T> {
    /// What it says.
    pub answer: T,
    /// The `Date` of it, by the platform's clock.
    pub date: Option<Timestamp>,
}

impl Client {
    /// A client that trusts `roots` and sends nothing to where `policy` forbids it.
    pub fn new(roots: Roots<'_>, policy: Arc<EndpointPolicy>, timeouts: Timeouts) -> Result<Self, TlsError> {
        let connector = connect::connector(tls::config(roots)?, timeouts.connect);
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(4)
            .build(connector);
        Ok(Self { http, policy, timeouts })
    }

    /// Makes a call that `key` signs.
    pub async fn ask<A: SignedAction>(
        &self,
        endpoint: &Endpoint,
        key: &AccessKey,
        action: &A,
    ) -> Result<Answered<A::Answer>, CallError> {
        let params = action.call().signed(METHOD, key, Timestamp::now(), &Nonce::from_bits(rand::random()));
        let secrets =
            [Some(key.secret().expose()), key.security_token().map(SecretString::expose), params.get("Signature")];
        let (body, date) =
            self.send(endpoint, A::NAME, &params, None).await.map_err(|error| error.without(&secrets))?;
        read(endpoint, action, &body, date)
    }

    /// Makes a call that carries its proof in its parameters.
    pub async fn ask_unsigned<A: UnsignedAction>(
        &self,
        endpoint: &Endpoint,
        action: &A,
    ) -> Result<Answered<A::Answer>, CallError> {
        // Whoever gets it can use what it carries.
        self.policy.check_sts(endpoint)?;
        let call = action.call();
        let query = call.unsigned(Timestamp::now(), &Nonce::from_bits(rand::random()));
        let sent = self.send(endpoint, A::NAME, &query, Some(&call.params)).await;
        let (body, date) = sent.map_err(|error| error.without(&[call.params.get("OIDCToken")]))?;
        read(endpoint, action, &body, date)
    }

    /// Sends a call and reads the answer to it, if it is not a failure.
    async fn send(
        &self,
        endpoint: &Endpoint,
        action: &'static str,
        query: &Params,
        form: Option<&Params>,
    ) -> Result<(Zeroizing<Vec<u8>>, Option<Timestamp>), CallError> {
        self.policy.check(endpoint)?;
        let started = Instant::now();
        let answer = self.exchange(endpoint, action, query, form).await;
        let took = started.elapsed();
        let result = answer.and_then(|(status, body, date)| match judge(action, status, &body) {
            Ok(()) => {
                debug!(action, %endpoint, status, ?took, "call answered");
                Ok((body, date))
            }
            Err(failure) => Err(CallError::Api(failure)),
        });
        match &result {
            Ok(_) => {}
            Err(CallError::Api(ApiError { class, code, request_id, status, .. })) => {
                debug!(action, %endpoint, status, ?class, code, request_id, ?took, "call failed");
            }
            Err(other) => debug!(action, %endpoint, class = ?other.class(), ?took, "no answer to a call"),
        }
        result
    }

    async fn exchange(
        &self,
        endpoint: &Endpoint,
        action: &'static str,
        query: &Params,
        form: Option<&Params>,
    ) -> Result<(u16, Zeroizing<Vec<u8>>, Option<Timestamp>), CallError> {
        let lost = |reason: String| CallError::NoAnswer { action, endpoint: endpoint.clone(), reason };
        let late = || CallError::TimedOut { action, endpoint: endpoint.clone(), after: self.timeouts.read };

        let uri = Zeroizing::new(format!("https://{endpoint}/?{}", query.encode().expose()));
        let body = form.map_or_else(Bytes::new, |form| Bytes::copy_from_slice(form.encode().expose().as_bytes()));
        let mut request = Request::builder().method(METHOD).uri(uri.as_str());
        request = request.header(header::USER_AGENT, concat!("sluice/", env!("CARGO_PKG_VERSION")));
        request = request.header(header::ACCEPT, "application/json");
        request = match form {
            Some(_) => request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded"),
            // A POST that says nothing of its length is refused by some (411).
            None => request.header(header::CONTENT_LENGTH, 0),
        };
        let request = request.body(Full::new(body)).map_err(|_| lost("the call is too long for a URL".to_owned()))?;

        let whole = self.timeouts.connect + self.timeouts.read;
        let response = timeout(whole, self.http.request(request)).await.map_err(|_| late())?;
        let response = response.map_err(|error| lost(error::chain(&error)))?;
        let status = response.status().as_u16();
        let date = response.headers().get(header::DATE).and_then(|date| http_date(date.to_str().ok()?));

        let body = timeout(self.timeouts.read, Limited::new(response.into_body(), MAX_ANSWER).collect());
        let body = body.await.map_err(|_| late())?.map_err(|error| {
            if error.is::<LengthLimitError>() {
                CallError::TooLarge { action, endpoint: endpoint.clone() }
            } else {
                lost(error::chain(&*error))
            }
        })?;
        Ok((status, Zeroizing::new(body.to_bytes().to_vec()), date))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("policy", &self.policy).field("timeouts", &self.timeouts).finish_non_exhaustive()
    }
}

fn read<A: Action>(
    endpoint: &Endpoint,
    action: &A,
    body: &[u8],
    date: Option<Timestamp>,
) -> Result<Answered<A::Answer>, CallError> {
    let unreadable = |error| CallError::Unreadable { action: A::NAME, endpoint: endpoint.clone(), error };
    Ok(Answered { answer: action.read(body).map_err(unreadable)?, date })
}

/// The time in a `Date` header (RFC 9110, section 5.6.7).
fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp())
}

#[cfg(test)]
mod tests;
