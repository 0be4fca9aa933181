//! The line to one pod: its newest stream, what was last heard of it, and what it was told.

use super::super::names::{Epoch, GroupRef, PodRef, StreamId, StreamOrder};
use super::super::{ALONE_AFTER, PING_EVERY};
use super::{Hello, Report, StaleHello, StandByReason};
use crate::permits::SPAN;
use crate::time::Time;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Line {
    pod: PodRef,
    /// The newest stream that ever was.
    order: StreamOrder,
    stream: Option<Stream>,
    /// A moment after which the sidecar has certainly heard a broker: when the last ping that it answered was sent.
    heard_after: Option<Time>,
    /// It has attempted alone, but not after this moment.
    attempted_until: Option<Time>,
}

/// The stream that is open.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) order: StreamOrder,
    pub(super) consumer_group: GroupRef,
    pub(super) report: Report,
    /// The grant that it was told of.
    pub(super) told_grant: Epoch,
    /// The grant that it was told to yield.
    pub(super) told_yield: Epoch,
    /// The reason why it stands by, as told.
    pub(super) told_stand_by: Option<StandByReason>,
    /// Pings that were sent and not answered, the oldest first.
    pings: Vec<(u64, Time)>,
    /// The number of the next ping, and when it is due.
    next_ping: (u64, Time),
}

/// Pings not answered that are remembered; with more than this the stream is as good as dead.
const PINGS: usize = 32;

impl Line {
    /// The line of a pod that has never called before.
    pub(super) fn open(at: Time, id: StreamId, hello: Hello) -> Self {
        let attempted_until = hello.attempted_alone.then_some(at);
        Self {
            pod: hello.pod.clone(),
            order: hello.order,
            stream: Some(Stream::new(at, id, hello)),
            heard_after: None,
            attempted_until,
        }
    }

    /// A newer stream; says which one it takes the place of.
    pub(super) fn reopen(&mut self, at: Time, id: StreamId, hello: Hello) -> Result<Option<StreamId>, StaleHello> {
        if hello.order <= self.order {
            return Err(StaleHello);
        }
        self.order = hello.order;
        if hello.attempted_alone {
            self.attempted_until = Some(at);
        }
        Ok(self.stream.replace(Stream::new(at, id, hello)).map(|former| former.id))
    }

    pub(super) fn close(&mut self) {
        self.stream = None;
    }

    pub(super) fn pod(&self) -> &PodRef {
        &self.pod
    }

    pub(super) fn stream(&self) -> Option<&Stream> {
        self.stream.as_ref()
    }

    pub(super) fn stream_mut(&mut self) -> Option<&mut Stream> {
        self.stream.as_mut()
    }

    /// The number of the ping that is due, which counts as sent.
    pub(super) fn ping(&mut self, at: Time) -> Option<u64> {
        let stream = self.stream.as_mut()?;
        let (number, due) = stream.next_ping;
        if at < due {
            return None;
        }
        stream.next_ping = (number + 1, at + PING_EVERY);
        if stream.pings.len() < PINGS {
            stream.pings.push((number, at));
        }
        Some(number)
    }

    pub(super) fn next_ping_at(&self) -> Option<Time> {
        self.stream.as_ref().map(|stream| stream.next_ping.1)
    }

    /// A ping was answered, and with it all before it. A number that was never sent says nothing.
    pub(super) fn pong(&mut self, number: u64) {
        let Some(stream) = self.stream.as_mut() else { return };
        if let Some(place) = stream.pings.iter().position(|(sent, _)| *sent == number) {
            self.heard_after = self.heard_after.max(Some(stream.pings[place].1));
            stream.pings.drain(..=place);
        }
    }

    /// Whether the sidecar may be attempting on its own within a span of now, before or after.
    pub(super) fn may_be_alone(&self, at: Time) -> bool {
        if self.attempted_until.is_some_and(|until| at.since(until) <= SPAN) {
            return true;
        }
        // It can't be alone before it has heard nothing for so long; that must be more than a span away.
        let safe = |heard: Time| at.since(heard) + SPAN < ALONE_AFTER;
        !self.heard_after.is_some_and(safe)
    }
}

impl Stream {
    fn new(at: Time, id: StreamId, hello: Hello) -> Self {
        Self {
            id,
            order: hello.order,
            consumer_group: hello.consumer_group,
            report: hello.report,
            told_grant: Epoch::NONE,
            told_yield: Epoch::NONE,
            told_stand_by: None,
            pings: Vec::new(),
            next_ping: (1, at),
        }
    }
}
