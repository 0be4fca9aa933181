//! Against a real Kubernetes: API server, controller-manager and scheduler, and kubelets that run processes. One module per
//! concern.

#[expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails, with the error")]
mod chart;
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails, with the error")]
mod consume;
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails, with the error")]
mod crd;
#[expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails, with the error")]
mod harness {
    mod containers;
    mod control_plane;
    mod nodes;
    mod pods;
    mod workload;
}

mod webhook;

#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails, with the error")]
mod credentials;

#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails, with the error")]
mod leaders;

#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails, with the error")]
mod rollout;

#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails, with the error")]
mod scaling;

#[expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails, with the error")]
mod control;

#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails, with the error")]
mod words;

#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails, with the error")]
mod scale;
