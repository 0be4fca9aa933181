//! The API server's audit log: who asked for what, and what came of it.
//!
//! Every request is in it but for the reads of Kubernetes' own controllers. The file is read as it grows, never twice.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::Client;
use serde::Deserialize;

use crate::wait;

/// What is logged: metadata of every request, once it is answered.
pub(super) const POLICY: &str = r#"{
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {
            "level": "None",
            "verbs": ["get", "list", "watch"],
            "users": ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler"]
        },
        {"level": "None", "verbs": ["get", "list", "watch"], "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "Metadata"}
    ]
}"#;

/// One request. Watches appear when they begin (`ResponseStarted`) and when they end.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// `get`, `list`, `create`, `update`, `patch`, …
    pub verb: String,
    /// `ResponseComplete`, `ResponseStarted` or `Panic`.
    pub stage: String,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub uri: String,
    /// Who asked.
    pub user: User,
    /// What it was about. Requests such as `/readyz` are about nothing.
    #[serde(default)]
    pub object_ref: Object,
    /// What came of it.
    #[serde(default)]
    pub response_status: Response,
}

/// Who asked.
#[derive(Debug, Clone, Deserialize)]
pub struct User {
    /// `system:serviceaccount:NAMESPACE:NAME`, `system:node:NAME`, …
    #[serde(default)]
    pub username: String,
}

/// What a request is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Object {
    /// Empty for the core group.
    pub api_group: String,
    /// Plural, such as `pods`.
    pub resource: String,
    /// Such as `status`.
    pub subresource: String,
    /// Empty if it has none.
    pub namespace: String,
    /// Empty for lists and for what is created.
    pub name: String,
}

/// What came of a request.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Response {
    /// The HTTP status.
    pub code: u16,
    /// What was said of a failure.
    pub message: String,
}

impl Request {
    /// Whether it was to change something: an answered `create`, `update`, `patch`, `delete` or `deletecollection`.
    /// Reviews of tokens and of access, and requests for tokens, change nothing that is kept.
    pub fn is_write(&self) -> bool {
        let writes = ["create", "update", "patch", "delete", "deletecollection"].contains(&self.verb.as_str());
        let review = matches!(self.object_ref.api_group.as_str(), "authentication.k8s.io" | "authorization.k8s.io");
        let token = self.object_ref.resource == "serviceaccounts" && self.object_ref.subresource == "token";
        writes && !review && !token && self.stage == "ResponseComplete"
    }

    /// `RESOURCE[/SUBRESOURCE][.GROUP]`, as in `deployments/scale.apps`.
    pub fn resource(&self) -> String {
        let Object { api_group, resource, subresource, .. } = &self.object_ref;
        let slash = if subresource.is_empty() { "" } else { "/" };
        let dot = if api_group.is_empty() { "" } else { "." };
        format!("{resource}{slash}{subresource}{dot}{api_group}")
    }
}

/// A place in the log: what stands before it happened before [`Audit::mark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(usize);

impl Mark {
    /// The beginning of the log.
    pub const BEGINNING: Self = Self(0);
}

/// The audit log of one cluster.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    read: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    offset: u64,
    /// A line that is not whole yet.
    rest: Vec<u8>,
    requests: Vec<Request>,
}

impl Audit {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::new(Log::default()) }
    }

    /// Waits until every request answered so far is in the log, and returns the place after them. It asks through
    /// `client`: when its own request is logged, so are those before.
    pub async fn mark(&self, client: &Client) -> Result<Mark> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        const BOUND: Duration = Duration::from_secs(30);

        let from = self.requests(<[Request]>::len)?;
        let uri = format!("/version?sluice-mark={}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        client.request_text(http::Request::get(&uri).body(Vec::new())?).await?;
        let end = tokio::time::Instant::now() + BOUND;
        loop {
            let found = self.requests(|log| log.iter().skip(from).position(|request| request.uri == uri))?;
            match found {
                Some(position) => return Ok(Mark(from + position + 1)),
                None if tokio::time::Instant::now() > end => {
                    anyhow::bail!("{} does not show a request after {BOUND:?}", self.path.display())
                }
                None => tokio::time::sleep(wait::PAUSE).await,
            }
        }
    }

    /// The requests of `user` from `since` on.
    pub fn of(&self, user: &str, since: Mark) -> Result<Vec<Request>> {
        self.requests(|log| log.iter().skip(since.0).filter(|request| request.user.username == user).cloned().collect())
    }

    /// The requests of `user` that were refused for want of rights (403).
    pub fn refused(&self, user: &str) -> Result<Vec<Request>> {
        let requests = self.of(user, Mark::BEGINNING)?;
        Ok(requests.into_iter().filter(|request| request.response_status.code == 403).collect())
    }

    /// How many times `user` has tried to change something from `since` on, by [`Request::resource`].
    pub fn writes(&self, user: &str, since: Mark) -> Result<BTreeMap<String, usize>> {
        let mut writes = BTreeMap::new();
        for request in self.of(user, since)?.iter().filter(|request| request.is_write()) {
            *writes.entry(request.resource()).or_default() += 1;
        }
        Ok(writes)
    }

    /// Reads on, and passes all requests to `take`.
    fn requests<T>(&self, take: impl FnOnce(&[Request]) -> T) -> Result<T> {
        let mut log = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        log.read_on(&self.path).with_context(|| format!("cannot read the audit log {}", self.path.display()))?;
        Ok(take(&log.requests))
    }
}

impl Log {
    fn read_on(&mut self, path: &PathBuf) -> Result<()> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let read = file.read_to_end(&mut self.rest)?;
        self.offset += u64::try_from(read)?;
        let whole = self.rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        for line in self.rest[..whole].split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let request = serde_json::from_slice(line);
            self.requests.push(request.with_context(|| format!("the line {}", String::from_utf8_lossy(line)))?);
        }
        self.rest.drain(..whole);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    const SCALE: &str = r#"{"kind":"Event","level":"Metadata","auditID":"a","stage":"ResponseComplete","requestURI":"/apis/apps/v1/x","verb":"patch","user":{"username":"operator","groups":[]},"objectRef":{"resource":"deployments","namespace":"a","name":"b","apiGroup":"apps","apiVersion":"v1","subresource":"scale"},"responseStatus":{"metadata":{},"code":200}}"#;
    const REFUSED: &str = r#"{"stage":"ResponseComplete","requestURI":"/api/v1/nodes","verb":"list","user":{"username":"operator"},"objectRef":{"resource":"nodes"},"responseStatus":{"status":"Failure","message":"nodes is forbidden","code":403}}"#;
    const REVIEW: &str = r#"{"stage":"ResponseComplete","requestURI":"/apis/authentication.k8s.io/v1/tokenreviews","verb":"create","user":{"username":"operator"},"objectRef":{"resource":"tokenreviews","apiGroup":"authentication.k8s.io"},"responseStatus":{"code":201}}"#;

    #[test]
    fn a_growing_log_is_read_line_by_line_and_never_twice() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let audit = Audit::new(file.path().to_owned());
        assert!(audit.of("operator", Mark::BEGINNING).unwrap().is_empty());
        let (first, second) = SCALE.split_at(40);
        write!(file, "{first}").unwrap();
        assert!(audit.of("operator", Mark::BEGINNING).unwrap().is_empty());
        write!(file, "{second}\n{REFUSED}\n").unwrap();
        assert_eq!(audit.of("operator", Mark::BEGINNING).unwrap().len(), 2);
        writeln!(file, "{REVIEW}").unwrap();
        assert_eq!(audit.of("operator", Mark(2)).unwrap().len(), 1);
        assert!(audit.of("another", Mark::BEGINNING).unwrap().is_empty());
    }

    #[test]
    fn refusals_and_writes_are_told_apart() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("{SCALE}\n{REFUSED}\n{REVIEW}\n{SCALE}\n")).unwrap();
        let audit = Audit::new(file.path().to_owned());
        let refused = audit.refused("operator").unwrap();
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].resource(), "nodes");
        let writes = audit.writes("operator", Mark::BEGINNING).unwrap();
        assert_eq!(writes, BTreeMap::from([("deployments/scale.apps".to_owned(), 2)]));
        let later = audit.writes("operator", Mark(1)).unwrap();
        assert_eq!(later, BTreeMap::from([("deployments/scale.apps".to_owned(), 1)]));
    }

    #[test]
    fn a_line_that_is_no_request_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "nonsense\n").unwrap();
        let error = Audit::new(file.path().to_owned()).refused("operator").unwrap_err();
        assert!(format!("{error:#}").contains("nonsense"), "{error:#}");
    }
}
