//! What is done about a ConsumerGroup: a pipeline of named steps, run for one object at a time and for many at once.
//!
//! | step | does | network |
//! |---|---|---|
//! | [`dereference`] | finds what the object names: keys, certificates, the workload, pods | reads |
//! | [`validate`] | says what can't be, and carries on with what can | |
//! | [`plan`] | decides: replicas, conditions, figures, events | |
//! | [`build`] | makes the requests | |
//! | [`apply`] | sends those that change the cluster | writes |
//! | [`status`] | writes the status if it differs, and the events of what changed | writes |
//!
//! Everything between the ends is a function of values. [`controller`] runs the steps; [`queue`] says of what and when.
//! Other rooms read what came of it from the [`directory`], and are seen here through [`view`].

pub mod apply;
pub mod build;
pub mod contest;
pub mod controller;
pub mod dereference;
pub mod directory;
#[cfg(test)]
mod fixtures;
pub mod hands;
pub mod objects;
pub mod orphans;
pub mod plan;
pub mod pods;
pub mod queue;
pub mod revision;
pub mod status;
pub mod validate;
pub mod view;
