//! Against a real Kubernetes: API server, controller-manager and scheduler, and kubelets that run processes. One module per
//! concern.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, with the error"
)]

mod chart;
mod consume;
mod control;
mod crd;
mod credentials;
mod harness {
    mod containers;
    mod control_plane;
    mod nodes;
    mod pods;
    mod workload;
}
mod leaders;
mod manual;
mod moments;
mod nodes;
mod rollout;
mod scale;
mod scaling;
mod slots;
mod webhook;
mod words;
