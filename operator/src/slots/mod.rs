//! Client slots and connect permits of one platform group: who may hold a connection, and who may try to open one.
//!
//! The platform lets 64 clients into a consumer group and counts 100 connect attempts a minute (`PLATFORM.md 1.8`). What
//! is here makes both impossible to exceed: the [`Table`] is the record of the grants, and the [`Desk`] of a platform
//! group decides, from what sidecars and Kubernetes say, what is written into it and who is told what.
//!
//! Everything here is a pure function of values: no clock, no network, no task. It must stay so, since the model checker
//! drives exactly this code. What carries the decisions out is the broker.
//!
//! # What it rests on
//!
//! A slot becomes free only on evidence. What is taken for evidence rests on these assumptions, and on no other:
//!
//! 1. A process whose pod is reported as ended (`Succeeded` or `Failed`, the sidecar's container terminated), or whose
//!    pod object is gone, or whose Node is gone or tainted `out-of-service`, is dead, or will be within [`MARGIN`]. The
//!    kubelet sees to it; whoever deletes a pod by force, a Node, or sets the taint, vouches for it.
//! 2. Of one pod, one sidecar process runs at a time, and the number that it gives itself grows.
//! 3. A connection whose client is dead lingers on the platform no longer than its idle time-out.
//! 4. A leader acts only while its Lease is valid on its own clock, so that at most one acts at any time; what it has sent
//!    may arrive later. Clocks of different machines are never compared, but run at about the same speed.
//! 5. The slot table is read consistently (not from a cache), and nobody else writes or deletes it.
//! 6. Two connections with one client ID count as one client: a sidecar that reconnects on its own slot is no further
//!    holder, although the connection it has lost may linger on the platform. What the platform does with a client ID that
//!    comes twice is not documented (`PLATFORM.md 1.4`).

mod client_id;
mod desk;
mod names;
mod policy;
mod table;

use std::time::Duration;

pub use client_id::client_id;
pub use desk::{
    Action, Desk, Figures, GroupFigures, Hello, LinkPhase, PodFacts, PodFigures, PodState, Precondition, ReadResult,
    RefusedBecause, Report, Say, StaleHello, StandByReason, TableVersion, WriteResult,
};
pub use names::{Epoch, GroupRef, Name, PodRef, PodUid, Revision, SlotIndex, StreamId, StreamOrder};
pub use policy::Member;
pub use table::{DATA_KEY, Holder, LABEL, PlatformGroup, SCHEMA_VERSION, Table, TableError};

/// What is added to the idle time-out before a slot whose holder is dead goes to another pod: for a process that dies
/// after it was reported dead, and for timers that are late.
pub const MARGIN: Duration = Duration::from_secs(15);

/// How often each sidecar is pinged.
pub const PING_EVERY: Duration = Duration::from_secs(5);

/// How long a sidecar hears nothing from a broker before it may pace itself. A part of the protocol: sidecars of other
/// versions count on it too.
pub const ALONE_AFTER: Duration = Duration::from_secs(90);

/// How many slots may be on their way from an old pod to a new one at a time.
pub const YIELDS: usize = 4;

/// How long a pod that got a yielded slot has to bring its link up.
pub const UP_WITHIN: Duration = Duration::from_secs(60);
