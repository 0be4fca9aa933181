//! Which pod a caller is, by the word of Kubernetes: its projected service account token, reviewed when a stream opens.
//!
//! The token is bound to the pod and made for Sluice alone, so neither a token for another service nor one of another pod
//! opens a stream, and what a sidecar says of itself is never believed.

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::{Api, PostParams};
use tonic::metadata::MetadataMap;

use crate::fault::{Fault, bounded};

/// The audience that a sidecar's token is made for.
pub const AUDIENCE: &str = "sluice.dev";

/// A pod, as its token names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodIdentity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: another pod of the same name has another one.
    pub uid: String,
}

/// Why a caller is not let in.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is no token in the call.
    #[error(
        "no token: send the pod's service account token for the audience `{AUDIENCE}` as `authorization: Bearer …`"
    )]
    Missing,
    /// Kubernetes does not vouch for the token.
    #[error("the token is refused: {0}; it must be a projected service account token for the audience `{AUDIENCE}`")]
    Refused(String),
    /// The token is a ServiceAccount's, but no pod's.
    #[error("the token is not bound to a pod; mount it as a projected volume with `serviceAccountToken`")]
    Unbound,
    /// Kubernetes could not be asked.
    #[error("the token can't be reviewed now: {0}")]
    Unavailable(#[source] Fault),
}

/// The token of a call.
pub fn bearer(metadata: &MetadataMap) -> Result<&str, IdentityError> {
    let value = metadata.get("authorization").and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.strip_prefix("Bearer "))
        .filter(|token| !token.is_empty())
        .ok_or(IdentityError::Missing)
}

/// Asks Kubernetes whose token it is.
pub async fn review(client: kube::Client, token: &str) -> Result<PodIdentity, IdentityError> {
    let review = TokenReview {
        spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![AUDIENCE.to_owned()]) },
        ..TokenReview::default()
    };
    let reviews = Api::all(client);
    let answer = bounded(reviews.create(&PostParams::default(), &review)).await.map_err(IdentityError::Unavailable)?;
    identify(&answer.status.unwrap_or_default())
}

/// What a review says.
fn identify(status: &TokenReviewStatus) -> Result<PodIdentity, IdentityError> {
    if status.authenticated != Some(true) {
        let reason = status.error.clone().filter(|error| !error.is_empty());
        return Err(IdentityError::Refused(reason.unwrap_or_else(|| "it is not valid, or no longer".to_owned())));
    }
    // An API server that knows no audiences answers without any, and vouches for none.
    if !status.audiences.iter().flatten().any(|audience| audience == AUDIENCE) {
        return Err(IdentityError::Refused("it is for another audience".to_owned()));
    }
    let user = status.user.clone().unwrap_or_default();
    let username = user.username.unwrap_or_default();
    let account = username.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let Some((namespace, _)) = account else {
        return Err(IdentityError::Refused(format!("it is of {username:?}, which is no ServiceAccount")));
    };
    let extra: BTreeMap<String, Vec<String>> = user.extra.unwrap_or_default();
    let one = |key: &str| extra.get(key).and_then(|values| values.first()).filter(|value| !value.is_empty()).cloned();
    match (one("authentication.kubernetes.io/pod-name"), one("authentication.kubernetes.io/pod-uid")) {
        (Some(name), Some(uid)) => Ok(PodIdentity { namespace: namespace.to_owned(), name, uid }),
        _ => Err(IdentityError::Unbound),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    fn vouched(username: &str, audiences: &[&str], extra: &[(&str, &str)]) -> TokenReviewStatus {
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(audiences.iter().map(ToString::to_string).collect()),
            user: Some(UserInfo {
                username: Some(username.to_owned()),
                extra: Some(extra.iter().map(|(key, value)| ((*key).to_owned(), vec![(*value).to_owned()])).collect()),
                ..UserInfo::default()
            }),
            error: None,
        }
    }

    const POD: [(&str, &str); 2] =
        [("authentication.kubernetes.io/pod-name", "worker-0"), ("authentication.kubernetes.io/pod-uid", "u-1")];

    #[test]
    fn a_pods_token_names_the_pod() {
        let status = vouched("system:serviceaccount:plant-a:default", &[AUDIENCE], &POD);
        let pod = identify(&status).unwrap();
        assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_str()), ("plant-a", "worker-0", "u-1"));
    }

    #[test]
    fn nobody_else_is_let_in() {
        let account = "system:serviceaccount:plant-a:default";
        let mut refused = vouched(account, &[AUDIENCE], &POD);
        refused.authenticated = Some(false);
        refused.error = Some("token expired".to_owned());
        assert!(identify(&refused).unwrap_err().to_string().contains("token expired"));
        assert!(matches!(identify(&TokenReviewStatus::default()), Err(IdentityError::Refused(_))));
        assert!(matches!(identify(&vouched(account, &["https://kubernetes"], &POD)), Err(IdentityError::Refused(_))));
        assert!(matches!(identify(&vouched(account, &[], &POD)), Err(IdentityError::Refused(_))));
        assert!(matches!(identify(&vouched("kubernetes-admin", &[AUDIENCE], &POD)), Err(IdentityError::Refused(_))));
        assert!(matches!(identify(&vouched(account, &[AUDIENCE], &[])), Err(IdentityError::Unbound)));
        assert!(matches!(identify(&vouched(account, &[AUDIENCE], &POD[..1])), Err(IdentityError::Unbound)));
    }

    #[test]
    fn a_call_without_a_token_is_told_what_to_send() {
        let mut metadata = MetadataMap::new();
        assert!(matches!(bearer(&metadata), Err(IdentityError::Missing)));
        metadata.insert("authorization", "Basic abc".parse().unwrap());
        assert!(matches!(bearer(&metadata), Err(IdentityError::Missing)));
        metadata.insert("authorization", "Bearer abc".parse().unwrap());
        assert_eq!(bearer(&metadata).unwrap(), "abc");
    }
}
