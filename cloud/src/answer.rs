//! What an API answers: JSON that is either the result or a failure, and what kind of failure it is. A pure reading of
//! status and body. The platform's own words are kept, for they tell a user more than ours could; what they may quote of
//! a secret is not.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::rpc::Call;

/// One action of an API: what is asked, and how the answer is read.
pub trait Action {
    /// The action's name.
    const NAME: &'static str;
    /// What a successful answer says.
    type Answer;

    /// The call, before it is signed.
    fn call(&self) -> Call;

    /// Reads the JSON of a successful answer.
    fn read(&self, body: &[u8]) -> Result<Self::Answer, Unreadable>;
}

/// An action whose caller proves who it is by a signature over the parameters, which all go into the query.
pub trait SignedAction: Action {}

/// An action one of whose parameters is the proof (an identity token): the call is not signed, and the action's own
/// parameters go into the body.
pub trait UnsignedAction: Action {}

/// A successful answer that does not say what it should. Names fields, never their values: they may be secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer can't be used: {0}")]
pub struct Unreadable(pub String);

/// What kind of failure it is, which decides what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorClass {
    /// Too many calls: wait, and ask less often.
    Throttled,
    /// The AccessKey, its token or its signature is not accepted: another credential is needed.
    Credentials,
    /// The caller is known and may not do this: a permission is needed.
    PermissionDenied,
    /// What is asked about is not there.
    NotFound,
    /// The request itself is wrong; the same one will fail again.
    Invalid,
    /// The platform, or the way to it, is not well: the same request may work later.
    Unavailable,
}

impl ErrorClass {
    /// Whether the same request can succeed without anybody changing anything.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Throttled | Self::Unavailable)
    }

    /// The name as a label of metrics and a reason of conditions: `PermissionDenied`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Throttled => "Throttled",
            Self::Credentials => "Credentials",
            Self::PermissionDenied => "PermissionDenied",
            Self::NotFound => "NotFound",
            Self::Invalid => "Invalid",
            Self::Unavailable => "Unavailable",
        }
    }
}

/// A failure that the platform told, with its words: the business's (`Success: false` in an answer of status 200), or the
/// gateway's (status 4xx or 5xx; PLATFORM.md 4).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{action} failed: {}{message} (HTTP {status}{})", prefix(code), suffix(request_id.as_deref()))]
pub struct ApiError {
    /// The action that failed.
    pub action: &'static str,
    /// What kind of failure it is.
    pub class: ErrorClass,
    /// The platform's code, `InvalidAccessKeyId.NotFound` say; empty if it gave none.
    pub code: String,
    /// The platform's message, at most 500 characters of it, in one line.
    pub message: String,
    /// What the platform's support asks for.
    pub request_id: Option<String>,
    /// The HTTP status.
    pub status: u16,
}

fn prefix(code: &str) -> String {
    if code.is_empty() { String::new() } else { format!("{code}: ") }
}

fn suffix(request_id: Option<&str>) -> String {
    request_id.map(|id| format!(", RequestId {id}")).unwrap_or_default()
}

impl ApiError {
    /// Takes a secret out of the message, should the platform have quoted it.
    #[must_use]
    pub fn without(mut self, secret: &str) -> Self {
        if !secret.is_empty() && self.message.contains(secret) {
            self.message = self.message.replace(secret, "[redacted]");
        }
        self
    }
}

/// The members by which an answer says how it went.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Verdict {
    success: Option<Value>,
    code: Option<Value>,
    error_message: Option<Value>,
    message: Option<Value>,
    request_id: Option<Value>,
}

/// Sorts an answer into success, whose body an [`Action`] then reads, and failure.
pub fn judge(action: &'static str, status: u16, body: &[u8]) -> Result<(), ApiError> {
    let answered = (200..300).contains(&status);
    let Ok(verdict) = parse::<Verdict>(body) else {
        // A proxy's page, or nothing at all: its text would help nobody.
        let class = if answered { ErrorClass::Unavailable } else { classify("", status) };
        let message = "the answer is not the JSON that was asked for; is this the API's endpoint, and nothing between?";
        return Err(ApiError { action, class, code: String::new(), message: message.into(), request_id: None, status });
    };
    let failed = verdict.success.as_ref().is_some_and(|said| !is_true(said));
    if answered && !failed {
        return Ok(());
    }
    let code = verdict.code.as_ref().and_then(text).unwrap_or_default();
    let message = verdict.error_message.or(verdict.message).as_ref().and_then(text);
    Err(ApiError {
        action,
        class: classify(&code, status),
        code: tidy(&code),
        message: tidy(message.as_deref().unwrap_or("the platform gave no reason")),
        request_id: verdict.request_id.as_ref().and_then(text).map(|id| tidy(&id)),
        status,
    })
}

/// What kind of failure a code stands for; the status counts where the code says nothing (PLATFORM.md 4).
fn classify(code: &str, status: u16) -> ErrorClass {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| code.starts_with(prefix));
    let has = |parts: &[&str]| parts.iter().any(|part| code.contains(part));
    if has(&["Throttling", "RateLimit", "FlowControl"]) || status == 429 {
        ErrorClass::Throttled
    } else if has(&["PermissionDeny", "NoPermission", "InvalidTenant"])
        || starts(&["Forbidden", "AccessDenied", "ImplicitDeny", "Unauthorized"])
    {
        ErrorClass::PermissionDenied
    } else if starts(&[
        "InvalidAccessKey",
        "InvalidSecurityToken",
        "MissingSecurityToken",
        "MalformedSecurityToken",
        "SignatureDoesNotMatch",
        "IncompleteSignature",
        "InvalidSignature",
        "AuthenticationFail",
    ]) {
        ErrorClass::Credentials
    } else if starts(&["InvalidTimeStamp", "SignatureNonceUsed", "ServiceUnavailable", "InternalError"])
        || has(&["SystemException", "ServiceTimeout"])
        || status >= 500
    {
        // A wrong clock is no wrong credential; it is told in the platform's words, and passes when the clock is set.
        ErrorClass::Unavailable
    } else if starts(&["InvalidAction", "InvalidVersion", "UnsupportedOperation"]) {
        ErrorClass::Invalid
    } else if has(&["NotExist", "NotFound"]) || (code.is_empty() && status == 404) {
        ErrorClass::NotFound
    } else {
        match (code.is_empty(), status) {
            (true, 401) => ErrorClass::Credentials,
            (true, 403) => ErrorClass::PermissionDenied,
            _ => ErrorClass::Invalid,
        }
    }
}

fn is_true(value: &Value) -> bool {
    value.as_bool().unwrap_or_else(|| value.as_str().is_some_and(|text| text.eq_ignore_ascii_case("true")))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// One line of bounded length, without what `SignatureDoesNotMatch` quotes: the whole text that was signed, in which the
/// security token is.
fn tidy(text: &str) -> String {
    const MOST: usize = 500;
    let lower = text.to_ascii_lowercase();
    let end = lower.find("string to sign").unwrap_or(text.len());
    let line: String = text[..end].split(|c: char| c.is_control() || c.is_whitespace()).collect::<Vec<_>>().join(" ");
    let mut line: String = line.trim().chars().take(MOST).collect();
    if end < text.len() {
        line.push_str(" string to sign: [redacted]");
    }
    line
}

/// Reads a body as `T`. The reader's own words are not passed on: they quote values.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Unreadable> {
    // To a reader of structs a list of their members would do as well.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Unreadable("it is no JSON object".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "a member is missing or of another type",
            _ => "it is not JSON",
        };
        Unreadable(format!("{what} (at line {}, column {})", error.line(), error.column()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> ApiError {
        judge("Pub", status, body.as_bytes()).unwrap_err()
    }

    #[test]
    fn success_is_what_says_so_or_says_nothing_to_the_contrary() {
        for body in [r#"{"Success":true}"#, r#"{"Success":"true"}"#, r#"{"RequestId":"1"}"#, r#"{"Success":null}"#] {
            assert_eq!(judge("Pub", 200, body.as_bytes()), Ok(()), "{body}");
        }
    }

    #[test]
    fn a_business_failure_keeps_the_platforms_words() {
        let error = refused(
            200,
            r#"{"RequestId":"57144BCF-09CC-4916-838E-06668D2A6C3A","Success":false,"Code":"iot.prod.NotExistedProduct",
                "ErrorMessage":"The specified product\n does not exist."}"#,
        );
        assert_eq!(error.class, ErrorClass::NotFound);
        assert_eq!(
            error.to_string(),
            "Pub failed: iot.prod.NotExistedProduct: The specified product  does not exist. \
             (HTTP 200, RequestId 57144BCF-09CC-4916-838E-06668D2A6C3A)"
        );
    }

    #[test]
    fn a_gateways_failure_keeps_them_too() {
        let error = refused(
            400,
            r#"{"RequestId":"1","HostId":"iot.cn-shanghai.aliyuncs.com","Code":"Throttling.User",
                "Message":"Request was denied due to user flow control."}"#,
        );
        assert_eq!((error.class, error.status), (ErrorClass::Throttled, 400));
        assert_eq!(error.message, "Request was denied due to user flow control.");
        assert!(error.class.is_transient() && !ErrorClass::Credentials.is_transient());
    }

    #[test]
    fn what_is_no_json_is_told_apart_by_its_status_alone() {
        for (status, class) in [
            (200, ErrorClass::Unavailable),
            (302, ErrorClass::Invalid),
            (401, ErrorClass::Credentials),
            (403, ErrorClass::PermissionDenied),
            (404, ErrorClass::NotFound),
            (429, ErrorClass::Throttled),
            (502, ErrorClass::Unavailable),
        ] {
            for body in ["<html>hush</html>", "", "[]", "\u{0}"] {
                let error = refused(status, body);
                assert_eq!(error.class, class, "{status} {body}");
                assert!(!error.to_string().contains("hush"));
            }
        }
        let error = refused(503, "{}");
        assert_eq!(error.to_string(), "Pub failed: the platform gave no reason (HTTP 503)");
    }

    #[test]
    fn every_known_code_has_its_class() {
        use ErrorClass::{Credentials, Invalid, NotFound, PermissionDenied, Throttled, Unavailable};
        for (code, status, class) in [
            ("Throttling", 400, Throttled),
            ("Throttling.User", 400, Throttled),
            ("iot.messagebroker.RateLimit", 200, Throttled),
            ("InvalidAccessKeyId.NotFound", 404, Credentials),
            ("InvalidAccessKeyId.Inactive", 400, Credentials),
            ("InvalidAccessKeySecret", 400, Credentials),
            ("SignatureDoesNotMatch", 400, Credentials),
            ("IncompleteSignature", 400, Credentials),
            ("InvalidSecurityToken.Expired", 400, Credentials),
            ("InvalidSecurityToken.Malformed", 400, Credentials),
            ("MissingSecurityToken", 400, Credentials),
            ("AuthenticationFail.OIDCToken.Expired", 400, Credentials),
            ("AuthenticationFail.NoPermission", 403, PermissionDenied),
            ("NoPermission", 403, PermissionDenied),
            ("Forbidden.RAM", 403, PermissionDenied),
            ("iot.common.RamActionPermissionDeny", 200, PermissionDenied),
            ("iot.common.AuthActionPermissionDeny", 200, PermissionDenied),
            ("iot.common.InvalidTenant", 200, PermissionDenied),
            ("EntityNotExist.Role", 404, NotFound),
            ("iot.prod.NotExistedProduct", 200, NotFound),
            ("InvalidAction.NotFound", 404, Invalid),
            ("InvalidVersion", 400, Invalid),
            ("MissingParameter", 400, Invalid),
            ("InvalidParameter.RoleArn", 400, Invalid),
            ("iot.common.InvalidFormattedParameter", 200, Invalid),
            ("iot.common.InvalidPageParams", 200, Invalid),
            ("iot.common.APINotSupportedInInstance", 200, Invalid),
            ("iot.system.SystemException", 200, Unavailable),
            ("ServiceUnavailable", 503, Unavailable),
            ("InternalError", 500, Unavailable),
            ("InvalidTimeStamp.Expired", 400, Unavailable),
            ("SignatureNonceUsed", 400, Unavailable),
            ("", 500, Unavailable),
        ] {
            let body = format!(r#"{{"Success":false,"Code":"{code}","Message":"m"}}"#);
            assert_eq!(refused(status, &body).class, class, "{code}");
        }
    }

    #[test]
    fn a_message_that_quotes_what_was_signed_is_cut_short() {
        let error = refused(
            400,
            r#"{"Code":"SignatureDoesNotMatch","Message":"Specified signature is not matched with our calculation.\n server String to Sign is:GET&%2F&SecurityToken%3Dhush"}"#,
        );
        assert_eq!(
            error.message,
            "Specified signature is not matched with our calculation.  server string to sign: [redacted]"
        );
        let error = refused(400, r#"{"Message":"token hush-hush is bad"}"#).without("hush-hush").without("");
        assert_eq!(error.message, "token [redacted] is bad");
        let long = refused(400, &format!(r#"{{"Message":"{}"}}"#, "消".repeat(10_000)));
        assert_eq!(long.message.chars().count(), 500);
    }

    #[test]
    fn a_reader_that_fails_does_not_quote_what_it_read() {
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Number {
            secret: u64,
        }
        for body in [r#"{"secret":"hush"}"#, r#"{"secret":hush}"#, "{}"] {
            let error = parse::<Number>(body.as_bytes()).err().unwrap();
            assert!(!error.to_string().contains("hush"), "{error}");
        }
    }
}
