//! The volumes of one pod: folders, filled and kept up to date.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, ServiceAccount, ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use tokio::time::Instant;

use super::payload::{File, Files, Payload};
use super::sources::{Content, Facts, Sources};

/// The permission bits of files, unless the pod says otherwise.
const MODE: u32 = 0o644;

/// How long the token of a projection is good for that does not say.
const TOKEN_LIFETIME: i64 = 3600;

/// The volumes of one pod.
#[derive(Debug)]
pub(super) struct Volumes {
    directory: PathBuf,
    payloads: BTreeMap<String, Payload>,
    tokens: BTreeMap<(String, String), Token>,
}

/// A token in a projected volume.
#[derive(Debug, Clone)]
struct Token {
    content: String,
    /// When to ask for another one.
    renew: Instant,
}

impl Volumes {
    /// The folders will be made in `directory`.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, payloads: BTreeMap::new(), tokens: BTreeMap::new() }
    }

    /// Makes what is not there yet, and brings the rest up to date.
    pub(super) async fn update(&mut self, client: &Client, facts: Facts<'_>, sources: &Sources) -> Result<()> {
        for volume in facts.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            self.update_one(client, facts, sources, volume)
                .await
                .with_context(|| format!("volume {} can't be set up", volume.name))?;
        }
        Ok(())
    }

    async fn update_one(
        &mut self,
        client: &Client,
        facts: Facts<'_>,
        sources: &Sources,
        volume: &Volume,
    ) -> Result<()> {
        let folder = self.directory.join(&volume.name);
        if volume.host_path.is_some() {
            return Ok(());
        }
        fs::create_dir_all(&folder)?;
        let mut files = Files::new();
        if volume.empty_dir.is_some() {
            return Ok(());
        } else if let Some(secret) = &volume.secret {
            let name = secret.secret_name.as_deref().unwrap_or_default();
            let content = sources.secret(name, secret.optional)?;
            pick(&mut files, content, secret.items.as_ref(), secret.default_mode, secret.optional)?;
        } else if let Some(map) = &volume.config_map {
            let content = sources.config_map(&map.name, map.optional)?;
            pick(&mut files, content, map.items.as_ref(), map.default_mode, map.optional)?;
        } else if let Some(downward) = &volume.downward_api {
            downward_files(&mut files, facts, downward.items.as_ref(), downward.default_mode)?;
        } else if let Some(projected) = &volume.projected {
            for source in projected.sources.iter().flatten() {
                self.project(client, facts, sources, &volume.name, source, projected.default_mode, &mut files).await?;
            }
        } else {
            bail!("this kubelet knows emptyDir, secret, configMap, downwardAPI, projected and hostPath");
        }
        self.payloads.entry(volume.name.clone()).or_insert_with(|| Payload::new(folder)).write(files)?;
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "one step of `update_one`, with all that it has at hand")]
    async fn project(
        &mut self,
        client: &Client,
        facts: Facts<'_>,
        sources: &Sources,
        volume: &str,
        source: &VolumeProjection,
        mode: Option<i32>,
        files: &mut Files,
    ) -> Result<()> {
        if let Some(secret) = &source.secret {
            let content = sources.secret(&secret.name, secret.optional)?;
            pick(files, content, secret.items.as_ref(), mode, secret.optional)?;
        } else if let Some(map) = &source.config_map {
            let content = sources.config_map(&map.name, map.optional)?;
            pick(files, content, map.items.as_ref(), mode, map.optional)?;
        } else if let Some(downward) = &source.downward_api {
            downward_files(files, facts, downward.items.as_ref(), mode)?;
        } else if let Some(projection) = &source.service_account_token {
            let key = (volume.to_owned(), projection.path.clone());
            let token = match self.tokens.get(&key) {
                Some(token) if Instant::now() < token.renew => token.clone(),
                _ => request_token(client, facts.pod, projection).await?,
            };
            self.tokens.insert(key, token.clone());
            insert(files, &projection.path, token.content.into_bytes(), mode)?;
        } else {
            bail!("this kubelet projects secret, configMap, downwardAPI and serviceAccountToken");
        }
        Ok(())
    }
}

/// Empties the volumes that were in memory, as a machine's end does.
pub(super) fn forget_memory(directory: &Path, pod: &Pod) {
    let in_memory =
        |volume: &&Volume| volume.empty_dir.as_ref().is_some_and(|empty| empty.medium.as_deref() == Some("Memory"));
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).filter(in_memory) {
        let folder = directory.join(&volume.name);
        // What can't be removed now belongs to the test, which sees it.
        let _ = fs::remove_dir_all(&folder).and_then(|()| fs::create_dir_all(&folder));
    }
}

/// Adds the keys of `content` that are wanted, or all of them.
fn pick(
    files: &mut Files,
    content: Option<&Content>,
    items: Option<&Vec<KeyToPath>>,
    mode: Option<i32>,
    optional: Option<bool>,
) -> Result<()> {
    let Some(content) = content else { return Ok(()) };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return content.iter().try_for_each(|(key, value)| insert(files, key, value.clone(), mode));
    };
    for item in items {
        match content.get(&item.key) {
            Some(value) => insert(files, &item.path, value.clone(), item.mode.or(mode))?,
            None if optional == Some(true) => {}
            None => bail!("there is no key {}", item.key),
        }
    }
    Ok(())
}

fn downward_files(
    files: &mut Files,
    facts: Facts<'_>,
    items: Option<&Vec<DownwardAPIVolumeFile>>,
    mode: Option<i32>,
) -> Result<()> {
    for item in items.into_iter().flatten() {
        let field = item.field_ref.as_ref().context("this kubelet knows fieldRef only")?;
        insert(files, &item.path, facts.field(&field.field_path)?.into_bytes(), item.mode.or(mode))?;
    }
    Ok(())
}

fn insert(files: &mut Files, path: &str, content: Vec<u8>, mode: Option<i32>) -> Result<()> {
    let path = PathBuf::from(path);
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        bail!("{} leads out of the volume", path.display());
    }
    let mode = mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(MODE);
    files.insert(path, File { content, mode });
    Ok(())
}

/// A token of the pod's ServiceAccount, bound to the pod.
async fn request_token(client: &Client, pod: &Pod, projection: &ServiceAccountTokenProjection) -> Result<Token> {
    let lifetime = projection.expiration_seconds.unwrap_or(TOKEN_LIFETIME);
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: projection.audience.iter().cloned().collect(),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
            expiration_seconds: Some(lifetime),
        },
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let answer: TokenRequest = accounts.create_subresource("token", account, &PostParams::default(), &request).await?;
    let content = answer.status.context("a TokenRequest was answered without a token")?.token;
    // As the kubelet does, when four fifths of its time are over.
    let renew = Instant::now() + Duration::from_secs(lifetime.unsigned_abs()) * 4 / 5;
    Ok(Token { content, renew })
}
