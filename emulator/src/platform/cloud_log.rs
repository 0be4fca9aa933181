//! The platform's own log about clients (PLATFORM.md 1.9): what its users would look at to see why a connection went or a
//! message came again. The last lines are kept.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How many lines are kept.
const LINES: usize = 10_000;
/// How long a line's words are at most, in bytes.
const WORDS: usize = 512;

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// One connection too many in the group.
    Surplus = 9600,
    /// The idle-time-out is not acceptable.
    Heartbeat = 9601,
    /// The platform closes the connection of its own accord.
    Closed = 9602,
    /// A delivery was not answered for in time.
    AckTimeout = 9650,
    /// A delivery was released.
    Released = 9651,
    /// A delivery was rejected.
    Rejected = 9652,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CloudLine {
    /// When, in Unix µs.
    pub at: u64,
    /// The platform's number for what happened.
    pub code: u16,
    /// The group.
    pub group: String,
    /// The client ID.
    pub client: String,
    /// What happened, in words.
    pub words: String,
}

/// Which lines are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LogQuery {
    /// Those with this code.
    pub code: Option<u16>,
    /// Those of this group.
    pub group: Option<String>,
    /// No more than this, and the last ones.
    pub limit: usize,
}

impl Default for LogQuery {
    fn default() -> Self {
        Self { code: None, group: None, limit: 100 }
    }
}

#[derive(Debug)]
struct Line {
    at: u64,
    code: Code,
    group: Arc<str>,
    client: Arc<str>,
    words: Box<str>,
}

#[derive(Debug, Default)]
pub(super) struct CloudLog(VecDeque<Line>);

impl CloudLog {
    pub(super) fn write(&mut self, code: Code, group: &Arc<str>, client: &Arc<str>, words: &str, unix_us: u64) {
        if self.0.len() == LINES {
            self.0.pop_front();
        }
        let end = words.floor_char_boundary(WORDS);
        let (group, client) = (Arc::clone(group), Arc::clone(client));
        self.0.push_back(Line { at: unix_us, code, group, client, words: words[..end].into() });
    }

    /// The last lines that are wanted, oldest first.
    pub(super) fn read(&self, wanted: &LogQuery) -> Vec<CloudLine> {
        let is_wanted = |line: &&Line| {
            wanted.code.is_none_or(|code| code == line.code as u16)
                && wanted.group.as_deref().is_none_or(|group| *group == *line.group)
        };
        let mut lines: Vec<CloudLine> = self
            .0
            .iter()
            .rev()
            .filter(is_wanted)
            .take(wanted.limit)
            .map(|line| CloudLine {
                at: line.at,
                code: line.code as u16,
                group: line.group.to_string(),
                client: line.client.to_string(),
                words: line.words.to_string(),
            })
            .collect();
        lines.reverse();
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_by_code_and_group_and_old_ones_make_room() {
        let mut log = CloudLog::default();
        let [one, two, client]: [Arc<str>; 3] = ["one", "two", "c"].map(Into::into);
        for at in 0..LINES as u64 + 5 {
            let (code, group) = if at % 2 == 0 { (Code::Surplus, &one) } else { (Code::Released, &two) };
            log.write(code, group, &client, &"é".repeat(1_000), at);
        }
        assert_eq!(log.0.len(), LINES);
        let times = |query: &LogQuery| log.read(query).iter().map(|line| line.at).collect::<Vec<_>>();
        assert_eq!(times(&LogQuery { limit: 3, ..LogQuery::default() }), [10_002, 10_003, 10_004]);
        assert_eq!(times(&LogQuery { code: Some(9651), limit: 2, ..LogQuery::default() }), [10_001, 10_003]);
        let of_one = LogQuery { group: Some("one".into()), limit: 1, ..LogQuery::default() };
        assert_eq!(times(&of_one), [10_004]);
        assert_eq!(log.read(&of_one)[0].words.len(), WORDS);
        assert!(times(&LogQuery { code: Some(9602), ..LogQuery::default() }).is_empty());
    }
}
