//! A ServiceAccount as a process or a client of the tests: its token, its rights, nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};

use super::authority::Login;
use super::{Cluster, client};

/// How long the tokens of accounts are good for, in seconds.
const LIFETIME: i64 = 24 * 3600;

/// Someone who logs in with a ServiceAccount's token, as a process in a pod of it would.
#[derive(Debug)]
pub struct Account {
    user: String,
    token: String,
    kubeconfig: PathBuf,
}

impl Account {
    pub(super) async fn of(cluster: &Cluster, namespace: &str, name: &str) -> Result<Self> {
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client().await?, namespace);
        let spec = TokenRequestSpec { expiration_seconds: Some(LIFETIME), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer: TokenRequest = accounts
            .create_subresource("token", name, &PostParams::default(), &request)
            .await
            .with_context(|| format!("no token for ServiceAccount {namespace}/{name}"))?;
        let token = answer.status.context("a TokenRequest was answered without a token")?.token;
        let content = cluster.authority.kubeconfig(&cluster.url(), &Login::Token(&token), namespace);
        let kubeconfig = cluster.directory.join(format!("{namespace}.{name}.kubeconfig"));
        fs::write(&kubeconfig, serde_json::to_vec_pretty(&content)?)?;
        Ok(Self { user: format!("system:serviceaccount:{namespace}:{name}"), token, kubeconfig })
    }

    /// What the audit log calls it.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A kubeconfig with the token, a file: `KUBECONFIG` of a process that is to have exactly these rights.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A client with these rights, for the runtime in which it is made.
    pub async fn client(&self) -> Result<Client> {
        client(fs::read(&self.kubeconfig)?).await
    }
}
