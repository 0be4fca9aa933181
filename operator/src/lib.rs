//! The operator. It reconciles ConsumerGroups, grants client slots and connect permits to sidecars, injects the sidecar
//! into pods, and scales the workload inside the platform's limit of clients.

pub mod admin;
pub mod broker;
pub mod certificates;
pub mod config;
pub mod credentials;
pub mod fault;
pub mod group;
pub mod inject;
pub mod leader;
pub mod metrics;
pub mod permits;
pub mod platform;
pub mod run;
pub mod scaling;
pub mod slots;
pub mod time;
pub mod webhook;
