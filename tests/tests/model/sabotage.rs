//! Rules that can be switched off, to see that the model notices. The production code knows nothing of it: the wires
//! between it and the world are crossed instead.

/// A rule that is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// A grant is recorded before it is told: here it is told when it is sent to be recorded.
    RecordFirst,
    /// A slot whose holder is dead waits for the idle time-out: here the operator takes it for 0 s.
    IdleWait,
    /// A new leader issues no permits for 65 s: here it takes itself for old.
    Silence,
    /// A share is kept back for sidecars that may be alone: here pings answer themselves, and a silent
    /// stream is not given up.
    Reservation,
    /// A sidecar says that it has attempted alone: here it never does.
    AttemptedAlone,
    /// What was sent on older streams counts no more: here each `Hello` claims to be the newest.
    StreamOrder,
    /// A write must meet the version that was read: here the API server does not look.
    Precondition,
    /// A leader whose Lease has run out does nothing: here it does not look.
    Lease,
    /// A slot is given back when the platform knows that its links are closed: here as soon as they are lost.
    Linger,
    /// An attempt that has not reached the platform 5 s after its permit was asked for is given up: here it may take 20 s.
    Lapse,
    /// Those 5 s begin with the asking: here with the permit, however late it comes.
    Asking,
    /// An attempt that was given up may have opened a connection: here it is taken for nothing.
    Unconfirmed,
    /// A pod that a list or the watch shows no more is looked up before it counts as gone: here it counts as gone at once.
    Absence,
    /// A pod that is not heard of, by Kubernetes or from its sidecar, is looked up: here nobody asks.
    LookUp,
}
