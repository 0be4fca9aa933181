//! The question that the demo is about, asked of every single message: was it accepted on the platform, and only after
//! the application's ack?

use std::collections::BTreeMap;

use super::{emulator::Fate, tally::Tally};

/// How many IDs of messages that went wrong are kept to be shown.
const EXAMPLES: usize = 5;

/// Compares what the platform says of each message with what the application says. It is fed as the demo runs, since the
/// emulator forgets settled messages in time.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// The last place in the order of publication that has been looked at.
    seen: u64,
    /// Messages that were not accepted and acknowledged when they were looked at, by their place.
    open: BTreeMap<u64, Fate>,
    /// Messages looked at.
    messages: u64,
    findings: Findings,
}

/// What went wrong.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Messages that were published and not accepted.
    pub(crate) lost: u64,
    /// Messages that were accepted earlier than the application acknowledged them, or without that.
    pub(crate) accepted_before_ack: u64,
    /// Some of their IDs.
    pub(crate) examples: Vec<String>,
}

impl Findings {
    /// Whether nothing went wrong.
    pub(crate) fn none(&self) -> bool {
        self.lost == 0 && self.accepted_before_ack == 0
    }

    fn example(&mut self, message_id: String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(message_id);
        }
    }
}

impl Audit {
    /// The place in the order of publication after which fates are still of interest.
    pub(crate) fn after(&self) -> u64 {
        self.open.keys().next().map_or(self.seen, |first_open| first_open - 1)
    }

    /// Looks at messages in the order of publication. What is not yet accepted and acknowledged stays open, and is to be
    /// shown again.
    pub(crate) fn look_at(&mut self, fates: Vec<Fate>, tally: &mut Tally) {
        for fate in fates {
            if fate.seq > self.seen {
                self.seen = fate.seq;
                self.messages += 1;
            } else if !self.open.contains_key(&fate.seq) {
                continue;
            }
            match (fate.accepted_at_us, tally.first_ack_us(&fate.id)) {
                (Some(accepted), Some(acked)) => {
                    self.open.remove(&fate.seq);
                    tally.settled(&fate.id);
                    if accepted < acked {
                        self.findings.accepted_before_ack += 1;
                        self.findings.example(fate.id);
                    }
                }
                _ => {
                    self.open.insert(fate.seq, fate);
                }
            }
        }
    }

    /// The result for `published` messages, after a last look at all that were open. A message that nobody could look
    /// at counts as lost.
    pub(crate) fn conclude(mut self, published: u64) -> Findings {
        self.findings.lost += published.saturating_sub(self.messages);
        for fate in self.open.into_values() {
            match fate.accepted_at_us {
                Some(_) => self.findings.accepted_before_ack += 1,
                None => self.findings.lost += 1,
            }
            self.findings.example(fate.id);
        }
        self.findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(seq: u64, accepted_at_us: Option<u64>) -> Fate {
        Fate { seq, id: format!("m{seq}"), accepted_at_us }
    }

    fn acked(acks: &[(&str, u64)]) -> Tally {
        let lines: Vec<String> =
            acks.iter().map(|(id, at)| format!(r#"{{"event":"acked","id":"{id}","atUs":{at}}}"#)).collect();
        Tally::of(&lines.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn messages_accepted_after_their_ack_are_in_order() {
        let mut audit = Audit::default();
        audit.look_at(vec![fate(1, Some(100)), fate(2, Some(200))], &mut acked(&[("m1", 99), ("m2", 200)]));
        assert_eq!(audit.after(), 2);
        assert_eq!(audit.conclude(2), Findings::default());
    }

    #[test]
    fn a_message_accepted_before_its_ack_is_found() {
        let mut audit = Audit::default();
        audit.look_at(vec![fate(1, Some(100))], &mut acked(&[("m1", 101)]));
        let findings = audit.conclude(1);
        assert_eq!((findings.lost, findings.accepted_before_ack), (0, 1));
        assert_eq!(findings.examples, ["m1"]);
    }

    #[test]
    fn a_message_accepted_without_an_ack_is_found() {
        let mut audit = Audit::default();
        audit.look_at(vec![fate(1, Some(100))], &mut acked(&[]));
        assert_eq!(audit.conclude(1).accepted_before_ack, 1);
    }

    #[test]
    fn a_message_that_is_never_accepted_is_lost_even_if_acknowledged() {
        let mut audit = Audit::default();
        audit.look_at(vec![fate(1, None)], &mut acked(&[("m1", 1)]));
        assert_eq!(audit.conclude(1).lost, 1);
    }

    #[test]
    fn a_message_that_the_platform_knows_nothing_of_is_lost() {
        let mut audit = Audit::default();
        audit.look_at(vec![fate(1, Some(2))], &mut acked(&[("m1", 1)]));
        assert_eq!(audit.conclude(3).lost, 2);
    }

    #[test]
    fn an_open_message_is_looked_at_again_and_the_others_are_not() {
        let mut audit = Audit::default();
        let mut tally = acked(&[("m1", 1), ("m2", 5), ("m3", 1)]);
        audit.look_at(vec![fate(1, Some(2)), fate(2, None), fate(3, Some(2))], &mut tally);
        assert_eq!(audit.after(), 1);
        audit.look_at(vec![fate(2, Some(6)), fate(3, Some(2)), fate(4, None)], &mut tally);
        assert_eq!(audit.after(), 3);
        assert_eq!(audit.conclude(4), Findings { lost: 1, examples: vec!["m4".to_owned()], ..Findings::default() });
    }

    #[test]
    fn only_some_examples_are_kept() {
        let mut audit = Audit::default();
        audit.look_at((1..100).map(|seq| fate(seq, None)).collect(), &mut acked(&[]));
        let findings = audit.conclude(99);
        assert_eq!((findings.lost, findings.examples.len()), (99, EXAMPLES));
    }
}
