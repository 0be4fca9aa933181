//! The bodies of the messages that were settled last: an admin may ask for one to be pushed again.

use std::collections::VecDeque;

use bytes::Bytes;

use super::log::Seq;

/// How many are kept at most, and how many bytes they have together.
const MESSAGES: usize = 1_024;
const BYTES: usize = 16 * 1024 * 1024;

/// A message that is done with.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) seq: Seq,
    pub(super) given_id: Option<Box<str>>,
    pub(super) group: usize,
    pub(super) body: Bytes,
}

#[derive(Debug, Default)]
pub(super) struct Recent {
    past: VecDeque<Past>,
    bytes: usize,
}

impl Recent {
    pub(super) fn push(&mut self, past: Past) {
        self.bytes += past.body.len();
        self.past.push_back(past);
        while self.past.len() > MESSAGES || self.bytes > BYTES {
            let Some(oldest) = self.past.pop_front() else { break };
            self.bytes -= oldest.body.len();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Past> {
        self.past.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_kept_and_of_large_ones_fewer() {
        let mut recent = Recent::default();
        let past = |seq, size| Past { seq, given_id: None, group: 0, body: vec![0; size].into() };
        for seq in 0..2_000 {
            recent.push(past(seq, 10));
        }
        assert_eq!((recent.past.len(), recent.bytes), (MESSAGES, MESSAGES * 10));
        assert_eq!(recent.iter().next().map(|past| past.seq), Some(2_000 - MESSAGES as u64));
        for seq in 2_000..2_020 {
            recent.push(past(seq, 1 << 20));
        }
        assert!(recent.past.len() <= 16 && recent.bytes <= BYTES);
    }
}
