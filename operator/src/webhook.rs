//! The webhook: the API server shows every labelled pod that is about to be created, and hears what becomes of it.
//!
//! HTTP and the admission protocol are here, and nothing of what is decided: that is [`inject`]. Every replica serves it.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use k8s_openapi::api::core::v1::Pod;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use tracing::{debug, error, info};

use crate::certificates::Certificates;
use crate::inject::{Injection, Settings, inject};

/// The largest review that is read, in bytes. The API server itself takes objects of 3 MiB at most.
const MAX_REVIEW: usize = 8 << 20;

/// What the answer to a review was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The pod gets a sidecar.
    Injected,
    /// The pod stays as it is.
    Unchanged,
    /// The pod is refused.
    Denied,
    /// There was no review to answer.
    Garbage,
}

impl Answer {
    /// How metrics spell it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Unchanged => "unchanged",
            Self::Denied => "denied",
            Self::Garbage => "garbage",
        }
    }
}

/// What the webhook needs.
#[derive(Clone)]
pub struct Webhook {
    /// What is put into pods; `broker_ca` is taken from `certificates` each time.
    pub settings: Settings,
    /// Whose bundle the pods get.
    pub certificates: Certificates,
    /// Hears every answer.
    pub count: Arc<dyn Fn(Answer) + Send + Sync>,
}

/// `POST /mutate` and `GET /healthz`.
pub fn router(webhook: Webhook) -> Router {
    Router::new()
        .route("/mutate", post(mutate))
        .route("/healthz", get(async || "ok\n"))
        .layer(DefaultBodyLimit::max(MAX_REVIEW))
        .with_state(Arc::new(webhook))
}

async fn mutate(State(webhook): State<Arc<Webhook>>, body: Bytes) -> Response {
    let request = match read(&body) {
        Ok(request) => request,
        Err(reason) => {
            (webhook.count)(Answer::Garbage);
            return (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response();
        }
    };
    let settings = Settings { broker_ca: webhook.certificates.served().bundle.clone(), ..webhook.settings.clone() };
    let (answer, response) = respond(&request, &settings);
    (webhook.count)(answer);
    match written(response) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            error!(%error, "an answer to the API server could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Reads a review. What is wrong is said by its place and never by its contents: there may be secrets in it.
fn read(body: &[u8]) -> Result<AdmissionRequest<DynamicObject>, String> {
    let review: AdmissionReview<DynamicObject> = serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("an AdmissionReview in JSON is expected; this is none (line {line}, column {column})")
    })?;
    if review.types.kind != "AdmissionReview" || review.types.api_version != "admission.k8s.io/v1" {
        return Err("an AdmissionReview of admission.k8s.io/v1 is expected, and this is of another version".into());
    }
    review.try_into().map_err(|_| "the AdmissionReview holds no request".into())
}

/// The answer as it goes over the wire: with the patch in Base64, as the protocol has it, and not as a list of numbers.
fn written(response: AdmissionResponse) -> Result<String, serde_json::Error> {
    let patch = response.patch.as_ref().map(|patch| BASE64_STANDARD.encode(patch));
    let mut review = serde_json::to_value(response.into_review())?;
    if let Some(patch) = patch {
        review["response"]["patch"] = patch.into();
    }
    serde_json::to_string(&review)
}

/// What a review is answered with.
fn respond(request: &AdmissionRequest<DynamicObject>, settings: &Settings) -> (Answer, AdmissionResponse) {
    let response = AdmissionResponse::from(request);
    let is_pod = request.resource.group.is_empty() && request.resource.resource == "pods";
    if !is_pod || request.sub_resource.is_some() || request.operation != Operation::Create {
        return (Answer::Unchanged, response);
    }
    let Some(object) = &request.object else { return (Answer::Unchanged, response) };
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let name = object.metadata.name.as_deref().or(object.metadata.generate_name.as_deref()).unwrap_or_default();
    let pod: Pod = match object.clone().try_parse() {
        Ok(pod) => pod,
        Err(error) => {
            info!(namespace, pod = name, "pod refused: it can't be read");
            return (
                Answer::Denied,
                response.deny(format!("the pod can't be read by this version of Sluice: {error}")),
            );
        }
    };
    match inject(&pod, settings) {
        Ok(Injection { patch, warnings }) => {
            let mut response = response;
            if !warnings.is_empty() {
                debug!(namespace, pod = name, ?warnings, "warned");
                response.warnings = Some(warnings);
            }
            let Some(patch) = patch else { return (Answer::Unchanged, response) };
            match response.with_patch(patch) {
                Ok(response) => {
                    debug!(namespace, pod = name, "sidecar injected");
                    (Answer::Injected, response)
                }
                Err(error) => {
                    error!(namespace, pod = name, %error, "pod refused: the patch could not be written");
                    (Answer::Denied, AdmissionResponse::from(request).deny(error))
                }
            }
        }
        Err(refusal) => {
            info!(namespace, pod = name, %refusal, "pod refused");
            (Answer::Denied, response.deny(refusal))
        }
    }
}

#[cfg(test)]
mod tests;
