//! What the API server's refusals mean for what to do next: a class, and words for people.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;

/// How long the API server may take to answer one request. A watch is none: it has no end.
pub const ANSWER: Duration = Duration::from_secs(5);

/// What kind of failure it is, and so how soon it is worth trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// A person has to change something. What was changed is noticed; a slow look catches what is not.
    User,
    /// Somebody else wrote first: soon.
    Conflict,
    /// The API server, or another service, does not answer, or is busy.
    Unavailable,
    /// The operator lacks a right: slowly.
    Forbidden,
    /// What was asked for does not exist.
    NotFound,
    /// Anything else: a bug, or a server of another kind.
    Internal,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::User, Self::Conflict, Self::Unavailable, Self::Forbidden, Self::NotFound, Self::Internal];

    /// How metrics spell it.
    pub fn label(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Internal => "internal",
        }
    }

    /// The first wait and the longest one.
    fn bounds(self) -> (Duration, Duration) {
        let ms = Duration::from_millis;
        match self {
            Self::User | Self::NotFound => (ms(60_000), ms(300_000)),
            Self::Conflict => (ms(100), ms(5_000)),
            Self::Unavailable => (ms(1_000), ms(60_000)),
            Self::Forbidden => (ms(30_000), ms(300_000)),
            Self::Internal => (ms(5_000), ms(300_000)),
        }
    }

    /// How long to wait after `failures` in a row (at least one), doubling up to a bound; `jitter` (0 to 1) takes away up
    /// to a half, so that many objects that failed together don't come back together.
    pub fn backoff(self, failures: u32, jitter: f64) -> Duration {
        let (first, most) = self.bounds();
        let whole = first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(most);
        whole.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
    }
}

/// A failed request to the API server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// What kind it is.
    pub class: Class,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The server's words, or what happened to the connection.
    pub words: String,
    /// How long the server asks to be left alone.
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// A failure of a kind, in words of one's own.
    pub fn new(class: Class, words: impl Into<String>) -> Self {
        Self { class, status: None, words: words.into(), retry_after: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl From<kube::Error> for Fault {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = error else {
            let class = match &error {
                kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) | kube::Error::HttpError(_) => {
                    Class::Internal
                }
                _ => Class::Unavailable,
            };
            return Self::new(class, chain(&error));
        };
        let class = match status.code {
            401 | 403 => Class::Forbidden,
            404 => Class::NotFound,
            409 => Class::Conflict,
            400 | 422 => Class::User,
            408 | 429 | 500..=599 => Class::Unavailable,
            _ => Class::Internal,
        };
        let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        let retry_after = (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)));
        let words = if status.message.is_empty() { status.reason } else { status.message };
        Self { class, status: Some(status.code), words, retry_after }
    }
}

/// The answer to a request, or why there is none. A server that accepts the request and says nothing has failed too: nobody
/// may wait for it for ever. Whether a write that was given up was done is not known then.
pub async fn bounded<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Fault> {
    let late = || {
        let words = format!("the API server has not answered within {} s", ANSWER.as_secs());
        Fault::new(Class::Unavailable, words)
    };
    timeout(ANSWER, request).await.map_err(|_| late())?.map_err(Fault::from)
}

/// An error and what caused it, each thing said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !words.contains(&text) {
            words.push_str(": ");
            words.push_str(&text);
        }
        source = cause.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use kube::core::response::StatusDetails;
    use proptest::prelude::*;

    use super::*;

    fn answer(code: u16) -> Status {
        Status { code, message: format!("said {code}"), ..Status::default() }
    }

    fn fault(code: u16) -> Fault {
        Fault::from(kube::Error::Api(answer(code).boxed()))
    }

    #[test]
    fn an_answer_has_a_class_and_the_server_s_words_alone() {
        for (code, class) in [
            (400, Class::User),
            (403, Class::Forbidden),
            (404, Class::NotFound),
            (409, Class::Conflict),
            (422, Class::User),
            (429, Class::Unavailable),
            (500, Class::Unavailable),
            (503, Class::Unavailable),
            (302, Class::Internal),
        ] {
            assert_eq!(fault(code).class, class, "{code}");
            assert_eq!(fault(code).to_string(), format!("said {code}"));
        }
    }

    #[test]
    fn a_server_that_asks_to_be_left_alone_is() {
        let details: StatusDetails = serde_json::from_value(serde_json::json!({"retryAfterSeconds": 7})).unwrap();
        let status = Status { details: Some(details), ..answer(429) };
        assert_eq!(Fault::from(kube::Error::Api(status.boxed())).retry_after, Some(Duration::from_secs(7)));
        assert_eq!(fault(429).retry_after, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_is_not_waited_for() {
        let fault = bounded(std::future::pending::<Result<(), kube::Error>>()).await.unwrap_err();
        assert_eq!((fault.class, fault.status), (Class::Unavailable, None));
        assert!(fault.to_string().contains("within 5 s"), "{fault}");
        assert_eq!(bounded(async { Ok(7) }).await, Ok(7));
    }

    proptest! {
        #[test]
        fn waits_grow_and_stay_within_their_bounds(failures in 1..1000_u32, jitter in 0.0..1.0) {
            for class in Class::ALL {
                let (first, most) = class.bounds();
                let wait = class.backoff(failures, jitter);
                prop_assert!(wait >= first / 2 && wait <= most);
                prop_assert!(class.backoff(failures + 1, jitter) >= wait);
            }
        }
    }
}
