//! A call as it arrives: its parameters, its time, and how it is signed (PLATFORM.md 4.1, 4.2).

use std::collections::HashSet;

use sluice_cloud::rpc::{Params, VerifyError, acs3, parse_timestamp, verify};
use sluice_cloud::secret::SecretString;

use super::answer::{Format, Refusal};

/// The parts of an HTTP request that the gateway looks at. Tokens may be anywhere in it, so it can't be printed.
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// A header that has a part in signatures and is there twice.
    fn repeated(&self) -> Option<&str> {
        let names = self.headers.iter().map(|(name, _)| name.as_str());
        let mut signed = names
            .filter(|name| matches!(*name, "host" | "content-type" | "authorization") || name.starts_with("x-acs-"));
        let mut seen = HashSet::new();
        signed.find(|name| !seen.insert(*name))
    }

    /// The host that was called, which refusals name.
    pub(super) fn host(&self) -> &str {
        self.header("host").unwrap_or("localhost")
    }

    /// Whether headers say what is called, by whom and when. What decides is where the signature is: what it does not cover
    /// does not count.
    fn is_newer(&self) -> bool {
        let unsigned = self.parameter("Signature").is_none();
        self.header("authorization").is_some() || unsigned && self.header("x-acs-action").is_some()
    }

    /// A parameter of the query or the form as it stands there. What stands beside it may be why the call is refused.
    fn parameter(&self, name: &str) -> Option<&str> {
        let body = str::from_utf8(&self.body).unwrap_or_default();
        let parts = self.query.split('&').chain(body.split('&'));
        parts.filter_map(|part| part.split_once('=')).find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The version of the API that is called, as far as it can be told.
    pub(super) fn version(&self) -> Option<String> {
        let header = self.header("x-acs-version").filter(|_| self.is_newer());
        header.or_else(|| self.parameter("Version")).map(str::to_owned)
    }

    /// The format to answer in, as far as it can be told; for calls of which nothing else can.
    pub(super) fn format(&self) -> Format {
        let asked = self.parameter("Format").and_then(Format::parse);
        // The newer signature's callers say `accept: application/json`, and mean JSON when they say nothing.
        let xml = self.header("accept").is_some_and(|accept| accept.contains("xml"));
        asked.unwrap_or(if self.is_newer() && !xml { Format::Json } else { Format::Xml })
    }
}

/// A call. It can't be printed either.
pub(super) struct Call {
    received: Received,
    query: Params,
    /// Those of the query and of the form together.
    params: Params,
}

impl Call {
    pub(super) fn read(received: Received) -> Result<Self, Refusal> {
        if received.path != "/" {
            let words = "Specified api is not found, please check your url and method.";
            return Err(Refusal::new(404, "InvalidAction.NotFound", words));
        }
        if !matches!(received.method.as_str(), "GET" | "POST") {
            return Err(Refusal::new(405, "UnsupportedHTTPMethod", "This http method is not supported."));
        }
        let unreadable = |reason: String| Refusal::invalid("InvalidParameter", reason);
        if let Some(name) = received.repeated() {
            return Err(unreadable(format!("The header {name} is there twice.")));
        }
        let query = Params::parse(&received.query).map_err(|error| unreadable(error.to_string()))?;
        let mut params = query.clone();
        // A body is a form, whatever its type is said to be, unless it is said to be something that it can't be read as.
        let is_form = |of: &str| of.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded");
        let form = received.header("content-type").is_none_or(is_form);
        if form && !received.body.is_empty() {
            let body = str::from_utf8(&received.body).map_err(|error| unreadable(format!("The body: {error}.")))?;
            params.read(body).map_err(|error| unreadable(error.to_string()))?;
        }
        if let Some(format) = params.get("Format").filter(|format| Format::parse(format).is_none()) {
            return Err(unreadable(format!("The specified parameter \"Format\" is not valid: {format}.")));
        }
        Ok(Self { received, query, params })
    }

    fn said(&self, parameter: &str, header: &str) -> Option<&str> {
        let said = if self.received.is_newer() { self.received.header(header) } else { None };
        said.or_else(|| self.params.get(parameter)).filter(|value| !value.is_empty())
    }

    pub(super) fn action(&self) -> Result<&str, Refusal> {
        self.said("Action", "x-acs-action").ok_or_else(|| Refusal::missing("Action"))
    }

    pub(super) fn version(&self) -> Result<&str, Refusal> {
        self.said("Version", "x-acs-version").ok_or_else(|| Refusal::missing("Version"))
    }

    pub(super) fn params(&self) -> &Params {
        &self.params
    }

    pub(super) fn security_token(&self) -> Option<&str> {
        self.said("SecurityToken", "x-acs-security-token")
    }

    /// The nonce. A call without one is refused with the signature.
    pub(super) fn nonce(&self) -> &str {
        self.said("SignatureNonce", "x-acs-signature-nonce").unwrap_or_default()
    }

    /// The ID of the access key that is said to have signed it.
    pub(super) fn key_id(&self) -> Result<&str, Refusal> {
        if let Some(authorization) = self.received.header("authorization") {
            let credential = authorization.split("Credential=").nth(1).and_then(|rest| rest.split(',').next());
            return credential.filter(|id| !id.is_empty()).ok_or_else(|| Refusal::missing("Credential"));
        }
        self.params
            .get("AccessKeyId")
            .filter(|id| !id.is_empty())
            .ok_or_else(|| Refusal::new(400, "MissingAccessKeyId", "AccessKeyId is mandatory for this action."))
    }

    /// When it was made, in Unix ms.
    pub(super) fn made_at_ms(&self) -> Result<i64, Refusal> {
        let text = self.said("Timestamp", "x-acs-date").ok_or_else(|| Refusal::missing("Timestamp"))?;
        let at = parse_timestamp(text).ok_or_else(|| {
            Refusal::invalid("InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted.")
        })?;
        Ok(at.as_millisecond())
    }

    /// Checks the signature.
    pub(super) fn check_signature(&self, secret: &SecretString) -> Result<(), Refusal> {
        let received = &self.received;
        let checked = match received.header("authorization") {
            Some(authorization) => {
                let request = acs3::Request {
                    method: &received.method,
                    path: &received.path,
                    query: &self.query,
                    headers: &received.headers,
                    body: &received.body,
                };
                acs3::verify(&request, authorization, |_| Some(secret.clone()))
            }
            None => verify(&received.method, &self.params, |_| Some(secret.clone())),
        };
        checked.map(|_| ()).map_err(|error| match error {
            VerifyError::Missing(name) => Refusal::missing(&name),
            VerifyError::Unsupported { .. } => Refusal::invalid(
                "IncompleteSignature",
                format!("The request signature does not conform to Aliyun standards: {error}."),
            ),
            // The real gateway's words go on with the string it has signed itself. It may hold a security token, so it
            // is left out here.
            VerifyError::UnknownAccessKey(_) | VerifyError::Mismatch => {
                Refusal::invalid("SignatureDoesNotMatch", "Specified signature is not matched with our calculation.")
            }
        })
    }
}
