//! When the sidecar reports itself ready, and why not. Pure.

use serde::Serialize;

use crate::consumer::{LinkPhase, Snapshot};

/// What readiness hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Readiness {
    /// Once the link has been up for the first time: a link lost later is no reason to take a pod out of its Services.
    #[default]
    Connected,
    /// While the link is up.
    Link,
    /// Once the process serves.
    Process,
}

impl Readiness {
    /// Whether it is ready, or why not. Whatever the rule, one that is about to end, or has given its slot to another, is
    /// not: it is the next to go.
    pub fn judge(self, snapshot: &Snapshot, yielded: bool) -> Result<(), String> {
        if snapshot.draining {
            return Err("draining".to_owned());
        }
        if yielded {
            return Err("the client slot was given to another pod".to_owned());
        }
        let reason = if snapshot.reason.is_empty() { "no application is attached yet" } else { &snapshot.reason };
        match self {
            Self::Connected if !snapshot.was_up => Err(format!("the link has not been up yet: {reason}")),
            Self::Link if snapshot.link != LinkPhase::Up => Err(format!("the link is not up: {reason}")),
            _ => Ok(()),
        }
    }
}

impl From<sluice_crds::Readiness> for Readiness {
    fn from(readiness: sluice_crds::Readiness) -> Self {
        match readiness {
            sluice_crds::Readiness::Connected => Self::Connected,
            sluice_crds::Readiness::Link => Self::Link,
            sluice_crds::Readiness::Process => Self::Process,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_looks_at_its_own() {
        let never = Snapshot { reason: "refused".to_owned(), ..Snapshot::default() };
        let up = Snapshot { link: LinkPhase::Up, was_up: true, ..Snapshot::default() };
        let lost = Snapshot { link: LinkPhase::Connecting, ..up.clone() };
        let ready = |rule: Readiness, snapshot| rule.judge(snapshot, false).is_ok();
        let judged = [Readiness::Connected, Readiness::Link, Readiness::Process]
            .map(|rule| [&never, &up, &lost].map(|snapshot| ready(rule, snapshot)));
        assert_eq!(judged, [[false, true, true], [false, true, false], [true, true, true]]);
        assert!(Readiness::Connected.judge(&never, false).unwrap_err().ends_with("refused"));
    }

    #[test]
    fn one_that_has_yielded_or_drains_is_never_ready() {
        let up = Snapshot { link: LinkPhase::Up, was_up: true, ..Snapshot::default() };
        let draining = Snapshot { draining: true, ..up.clone() };
        for rule in [Readiness::Connected, Readiness::Link, Readiness::Process] {
            assert!(rule.judge(&up, true).is_err() && rule.judge(&draining, false).is_err());
        }
    }
}
