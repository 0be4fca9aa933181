//! The account of every message that the sidecar holds: what came on which link, who has it, until when, and what was
//! decided. The ledger alone decides outcomes. It does no I/O and has no clock: time is an argument, and what it
//! decides is collected with [`Ledger::drain_settlements`].
//!
//! It keeps two things apart: the *item*, which is the message as applications see it (queued, leased, or waiting for a
//! retry), and its *transfers*, each a delivery on a link with a deadline of its own. A repeat of a message that is in
//! hand is a second transfer of the same item. An item lives as long as one of its transfers, or its lease.
//!
//! What holds in every interleaving:
//!
//! 1. `Accepted` is decided only after an application's ack of the message, or for a repeat of one that was acked.
//! 2. A transfer gets at most one outcome, and none once its link is lost. A verdict reaches every live transfer.
//! 3. What is held stays inside the window, in messages and in bytes; a single message may be larger.
//! 4. An item is leased to one stream at a time.
//! 5. Every transfer on a live link has its outcome when its lease is over.
//!
//! Every operation takes constant time, but for those that come with the loss of a link or of a stream, with a change
//! of policy, and with shutdown; retries cost the logarithm of their number.

mod chain;
mod former;
mod items;
mod policy;
#[cfg(test)]
mod properties;
mod settlement;
#[cfg(test)]
mod tests;
mod transfers;
mod verdict;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

pub use self::policy::{HandBack, Policy};
pub use self::settlement::{LeaseId, LinkEpoch, Outcome, Settlement, StreamId, Transfer};
pub use self::verdict::{Verdict, VerdictResult};

use self::chain::Slot;
use self::former::FormerLeases;
use self::items::{Item, Items, Stage};
use self::transfers::Transfers;
use crate::repeat::{Known, Memory, RepeatKey, RepeatWindow};

/// What became of a message that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It waits to be leased.
    Queued,
    /// It is a repeat of one in hand: one verdict answers both.
    Joined,
    /// It is a repeat of one that was acked, and is accepted.
    Repeat,
    /// It is beyond the window, which the peer had no credit for, and is handed back.
    Overflow,
    /// Its link is lost, or was never up: it is not taken, and nothing is decided.
    StaleLink,
}

/// A message lent to an application.
#[derive(Debug)]
pub struct Lease<'a, M> {
    /// Names the lease in its verdict.
    pub id: LeaseId,
    /// How often this process has leased the message since it received it, this time included.
    pub attempt: u32,
    /// When the lease ends. It may last longer, should the message be repeated meanwhile.
    pub deadline: Instant,
    /// Whether an application had this message before and its verdict is not known.
    pub possible_repeat: bool,
    /// Bytes, as given with the message.
    pub size: u32,
    /// The message.
    pub message: &'a M,
}

/// What the ledger holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Items: queued, leased, or waiting for a retry.
    pub messages: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Items that can be leased now.
    pub queued: usize,
    /// Items that a stream has.
    pub leased: usize,
    /// Transfers without an outcome.
    pub transfers: usize,
}

/// The leases that a stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InFlight {
    /// How many.
    pub messages: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// A stream that has gone, and when its leases end.
#[derive(Debug, Clone, Copy)]
struct Absent {
    stream: StreamId,
    until: Instant,
}

/// How much may come on credit that was given under an earlier policy.
#[derive(Debug, Clone, Copy)]
struct Promise {
    messages: usize,
    bytes: u64,
}

/// The account. `M` is the message, which the ledger keeps and lends but never reads.
#[derive(Debug)]
pub struct Ledger<M> {
    policy: Policy,
    /// Derived from the policy.
    useful: Duration,
    /// A larger window than the policy's, which the platform was given credit for before the policy changed.
    promised: Option<Promise>,
    /// The links that are up: few, the latest last.
    links: Vec<LinkEpoch>,
    items: Items<M>,
    transfers: Transfers,
    retries: BTreeSet<(Instant, u32)>,
    absent: Vec<Absent>,
    former: FormerLeases,
    repeats: RepeatWindow,
    outbox: Vec<Settlement>,
}

impl<M> Ledger<M> {
    /// An empty ledger. Leases are numbered from `first` on, so a first that lies above all IDs of earlier processes
    /// keeps their applications' verdicts from hitting leases of this one.
    pub fn new(policy: Policy, first: LeaseId) -> Self {
        Self {
            useful: policy.useful_lease(),
            promised: None,
            links: Vec::new(),
            items: Items::new(first),
            transfers: Transfers::new(),
            retries: BTreeSet::new(),
            absent: Vec::new(),
            former: FormerLeases::default(),
            repeats: RepeatWindow::new(policy.repeats),
            outbox: Vec::new(),
            policy,
        }
    }

    /// Changes the rules. Deadlines that were given stay; what is held beyond a smaller window stays too, and so does the
    /// promise of `credit`: what the platform may still send is taken, as it would have been before.
    pub fn set_policy(&mut self, policy: Policy, credit: u32) {
        let before = Promise { messages: self.most_messages(), bytes: self.most_bytes() };
        self.useful = policy.useful_lease();
        self.repeats.set_policy(policy.repeats);
        self.policy = policy;
        self.promised = Some(before);
        self.outstanding(credit);
    }

    /// So much credit is outstanding: once all of it fits into the window, nothing larger is promised any more.
    pub fn outstanding(&mut self, credit: u32) {
        let owed = self.items.len().max(self.transfers.len()) + credit as usize;
        if credit == 0 || owed <= self.max_in_flight() {
            self.promised = None;
        }
    }

    /// The rules in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// A link is up. Several may be at a time.
    pub fn link_up(&mut self, epoch: LinkEpoch) {
        if !self.links.contains(&epoch) {
            self.links.push(epoch);
        }
    }

    /// A link is gone. Its transfers get no outcome any more, also not one that was decided and not drained yet: the
    /// platform pushes their messages again. Of these, those that no stream has are let go; a leased one stays until
    /// its verdict or the end of its lease.
    pub fn link_lost(&mut self, now: Instant, epoch: LinkEpoch) {
        self.links.retain(|link| *link != epoch);
        self.outbox.retain(|settlement| settlement.transfer.epoch != epoch);
        let lost: Vec<(Slot, Slot)> = self.transfers.of_link(epoch).map(|(slot, entry)| (slot, entry.item)).collect();
        for (transfer, item) in &lost {
            if self.items.get(*item).is_leased() {
                self.transfers.orphan(*transfer);
            } else if self.forget_transfer(*item, *transfer) {
                self.let_go(now, *item);
            }
        }
        // What is left of an item may be its older transfers, with too little time.
        for (_, item) in lost {
            if self.items.contains(item) {
                self.hand_back_if_late(now, item);
            }
        }
    }

    /// Takes in a message that has come on a link. `size` is what it counts for in bytes, `key` its identity for repeats,
    /// none if it has no ID. The caller vouches that no two transfers under way are equal.
    pub fn offer(
        &mut self,
        now: Instant,
        transfer: Transfer,
        key: Option<RepeatKey>,
        size: u32,
        message: M,
    ) -> Offered {
        if !self.links.contains(&transfer.epoch) {
            return Offered::StaleLink;
        }
        let full = self.is_full(size);
        let known = key.map_or(Known::New, |key| {
            let slot = (!full).then(|| self.items.vacant().0);
            self.repeats.enter(now, key, slot)
        });
        match known {
            Known::Acked => {
                self.emit(transfer, Outcome::Accepted);
                Offered::Repeat
            }
            Known::InHand(slot) if self.transfers.len() < self.most_messages() => {
                self.add_transfer(now, Slot(slot), transfer);
                Offered::Joined
            }
            Known::InHand(_) => self.refuse(transfer),
            Known::New | Known::Given if full => self.refuse(transfer),
            Known::New | Known::Given => {
                let item = Item::new(message, size, key.is_some(), known == Known::Given);
                let slot = self.items.push(item);
                self.add_transfer(now, slot, transfer);
                Offered::Queued
            }
        }
    }

    /// Hands back a delivery that is no message an application could be given.
    pub fn decline(&mut self, transfer: Transfer) {
        if self.links.contains(&transfer.epoch) {
            self.refuse(transfer);
        }
    }

    /// Lends the next queued message of at most `largest` bytes to a stream. Messages with too little of their
    /// time left are handed back instead.
    pub fn lease(&mut self, now: Instant, stream: StreamId, largest: u32) -> Option<Lease<'_, M>> {
        let (slot, deadline) = loop {
            let slot = self.items.next_queued(largest)?;
            match self.latest_deadline(slot) {
                Some(deadline) if now + self.useful < deadline => break (slot, deadline),
                _ => {
                    self.hand_back(now, slot);
                }
            }
        };
        let id = self.items.lease(slot, stream);
        let item = self.items.get(slot);
        Some(Lease {
            id,
            attempt: item.attempt,
            deadline,
            possible_repeat: item.possible_repeat,
            size: item.size,
            message: item.message.as_ref()?,
        })
    }

    /// A stream is gone. Its leases wait for it, for the policy's grace: call [`Ledger::stream_back`] if it returns.
    pub fn stream_gone(&mut self, now: Instant, stream: StreamId) {
        self.absent.retain(|absent| absent.stream != stream);
        self.absent.push(Absent { stream, until: now + self.policy.resume_grace });
    }

    /// A stream is there, for the first time or again. With `resume` it takes its former leases up, if its grace is not
    /// over; else their messages are queued again. Returns what it takes up.
    pub fn stream_back(&mut self, now: Instant, stream: StreamId, resume: bool) -> InFlight {
        let Some(place) = self.absent.iter().position(|absent| absent.stream == stream) else {
            return InFlight::default();
        };
        let absent = self.absent.swap_remove(place);
        if !resume || absent.until <= now {
            self.end_leases(now, stream);
            return InFlight::default();
        }
        self.items.in_flight(stream)
    }

    /// Does what is due: queues messages whose retry has come, ends the graces of absent streams, hands back what is
    /// queued with too little time left, and every transfer whose deadline has come. Leases that end by it are appended
    /// to `expired`.
    pub fn tick(&mut self, now: Instant, expired: &mut Vec<(StreamId, LeaseId)>) {
        while let Some((due, slot)) = self.retries.first().copied().filter(|(due, _)| *due <= now) {
            self.retries.remove(&(due, slot));
            self.requeue(now, Slot(slot));
        }
        while let Some(place) = self.absent.iter().position(|absent| absent.until <= now) {
            let absent = self.absent.swap_remove(place);
            self.end_leases(now, absent.stream);
        }
        while let Some(transfer) = self.transfers.next_late(now, self.useful) {
            let slot = self.transfers.get(transfer).item;
            self.hand_back_if_late(now, slot);
        }
        while let Some(transfer) = self.transfers.next_due(now) {
            self.expire(now, transfer, expired);
        }
    }

    /// When [`Ledger::tick`] is to be called next, if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        let transfer = self.transfers.next_deadline(self.useful);
        let retry = self.retries.first().map(|(due, _)| *due);
        let grace = self.absent.iter().map(|absent| absent.until).min();
        transfer.into_iter().chain(retry).chain(grace).min()
    }

    /// Appends what was decided since the last call, in that order, to `out`.
    pub fn drain_settlements(&mut self, out: &mut Vec<Settlement>) {
        out.append(&mut self.outbox);
    }

    /// The link of the last settlement that was decided and is not drained yet.
    pub fn last_decided(&self) -> Option<LinkEpoch> {
        self.outbox.last().map(|settlement| settlement.transfer.epoch)
    }

    /// Ends every lease and hands every message back: the last act before the link is closed.
    pub fn hand_back_all(&mut self, now: Instant) {
        let all: Vec<Slot> = self.items.iter().map(|(slot, _)| slot).collect();
        for slot in all {
            self.end_lease(now, slot);
            self.hand_back(now, slot);
        }
        self.absent.clear();
    }

    /// What a stream has in hand.
    pub fn in_flight(&self, stream: StreamId) -> InFlight {
        self.items.in_flight(stream)
    }

    /// What is in hand.
    pub fn held(&self) -> Held {
        Held {
            messages: self.items.len(),
            bytes: self.items.bytes(),
            queued: self.items.queued(),
            leased: self.items.leased(),
            transfers: self.transfers.len(),
        }
    }

    /// Whether nothing is in hand. Settlements may still be waiting to be drained.
    pub fn is_empty(&self) -> bool {
        self.items.len() == 0
    }

    fn max_in_flight(&self) -> usize {
        // Slots share their 32 bits with a mark (`RepeatWindow`); no machine holds that many messages.
        self.policy.max_in_flight.clamp(1, u32::MAX >> 1) as usize
    }

    /// The most messages that are taken.
    fn most_messages(&self) -> usize {
        self.max_in_flight().max(self.promised.map_or(0, |promise| promise.messages))
    }

    /// The most bytes that are taken.
    fn most_bytes(&self) -> u64 {
        self.policy.max_in_flight_bytes.max(self.promised.map_or(0, |promise| promise.bytes))
    }

    /// Whether one more message of this size is beyond the window.
    fn is_full(&self, size: u32) -> bool {
        let held = self.items.len();
        held > 0
            && (held.max(self.transfers.len()) >= self.most_messages()
                || self.items.bytes() + u64::from(size) > self.most_bytes())
    }

    fn add_transfer(&mut self, now: Instant, slot: Slot, transfer: Transfer) {
        let item = self.items.get_mut(slot);
        item.transfers = self.transfers.insert(transfer, slot, now + self.policy.lease, item.transfers);
    }

    fn refuse(&mut self, transfer: Transfer) -> Offered {
        self.emit(transfer, self.handed_back());
        Offered::Overflow
    }

    fn emit(&mut self, transfer: Transfer, outcome: Outcome) {
        self.outbox.push(Settlement { transfer, outcome });
    }

    /// The outcome that handing back means.
    fn handed_back(&self) -> Outcome {
        match self.policy.hand_back {
            HandBack::Release => Outcome::Released,
            HandBack::Expire => Outcome::LeftToExpire,
        }
    }

    /// The deadline of the item's last live transfer.
    fn latest_deadline(&self, slot: Slot) -> Option<Instant> {
        let transfers = self.transfers.of_item(self.items.get(slot).transfers);
        transfers.filter(|(_, entry)| entry.live).map(|(_, entry)| entry.deadline).max()
    }

    /// Whether enough of the item's time is left for a lease.
    fn is_useful(&self, now: Instant, slot: Slot) -> bool {
        self.latest_deadline(slot).is_some_and(|deadline| now + self.useful < deadline)
    }

    /// Hands an item back that is queued with too little time left for a lease.
    fn hand_back_if_late(&mut self, now: Instant, slot: Slot) {
        let is_queued = matches!(self.items.get(slot).stage(), Stage::Queued | Stage::Aside);
        if is_queued && !self.is_useful(now, slot) {
            self.hand_back(now, slot);
        }
    }

    /// Queues an item that was waiting, or whose lease ended without a verdict, or sends it where it can still go.
    fn requeue(&mut self, now: Instant, slot: Slot) {
        if self.items.get(slot).acked {
            self.close(now, slot, Outcome::Accepted, Memory::Acked);
            return;
        }
        self.forget_orphans(slot);
        if self.is_useful(now, slot) {
            self.items.requeue(slot);
        } else {
            self.hand_back(now, slot);
        }
    }

    /// Ends all leases of a stream, without a verdict, and queues their messages again, oldest first.
    fn end_leases(&mut self, now: Instant, stream: StreamId) {
        let mut ended: Vec<(LeaseId, Slot)> = self
            .items
            .iter()
            .filter_map(|(slot, item)| match item.stage() {
                Stage::Leased(holder, id) if holder == stream => Some((id, slot)),
                _ => None,
            })
            .collect();
        ended.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        for (_, slot) in ended {
            self.end_lease(now, slot);
            self.requeue(now, slot);
        }
    }

    /// Takes note of a lease that ends without a verdict, if there is one. The item stays where it is: the caller moves
    /// it.
    fn end_lease(&mut self, now: Instant, slot: Slot) -> Option<(StreamId, LeaseId)> {
        let item = self.items.get_mut(slot);
        let Stage::Leased(stream, id) = item.stage() else { return None };
        item.possible_repeat = true;
        let key = item.keyed.then(|| self.repeats.key(slot.0));
        self.former.record(now, id, stream, key);
        Some((stream, id))
    }

    /// A transfer's deadline has come. It is handed back, and if it is the item's last, the item goes.
    fn expire(&mut self, now: Instant, transfer: Slot, expired: &mut Vec<(StreamId, LeaseId)>) {
        let entry = self.transfers.get(transfer);
        let slot = entry.item;
        if entry.live {
            let outcome = if self.items.get(slot).acked { Outcome::Accepted } else { self.handed_back() };
            self.emit(entry.transfer, outcome);
        }
        if self.forget_transfer(slot, transfer) {
            expired.extend(self.end_lease(now, slot));
            self.let_go(now, slot);
        }
    }

    /// Hands the item's transfers back, unless it turned out to be done, and lets it go. Returns how many live
    /// transfers there were.
    fn hand_back(&mut self, now: Instant, slot: Slot) -> usize {
        let (acked, memory) = self.memory(slot);
        let outcome = if acked { Outcome::Accepted } else { self.handed_back() };
        self.close(now, slot, outcome, memory)
    }

    /// Lets an item go that has no transfers left.
    fn let_go(&mut self, now: Instant, slot: Slot) {
        let (_, memory) = self.memory(slot);
        self.remove(now, slot, memory);
    }

    /// What to remember of an item that goes without a verdict, and whether it was acked by a former holder.
    fn memory(&self, slot: Slot) -> (bool, Memory) {
        let item = self.items.get(slot);
        let memory = match item {
            Item { acked: true, .. } => Memory::Acked,
            Item { possible_repeat: true, .. } => Memory::Given,
            _ => Memory::Nothing,
        };
        (item.acked, memory)
    }

    /// Gives every live transfer of the item this outcome and lets the item go. Returns how many there were.
    fn close(&mut self, now: Instant, slot: Slot, outcome: Outcome, memory: Memory) -> usize {
        let mut live = 0;
        let mut next = self.items.get(slot).transfers;
        while let Some(transfer) = next.some() {
            let (transfer, sibling) = self.transfers.remove(transfer);
            if let Some(transfer) = transfer {
                self.emit(transfer, outcome);
                live += 1;
            }
            next = sibling;
        }
        self.remove(now, slot, memory);
        live
    }

    /// Removes an item whose transfers are gone.
    fn remove(&mut self, now: Instant, slot: Slot, memory: Memory) {
        let item = self.items.get(slot);
        if let Stage::Waiting(due) = item.stage() {
            self.retries.remove(&(due, slot.0));
        }
        if item.keyed {
            self.repeats.leave(now, slot.0, memory);
        }
        self.items.remove(slot);
    }

    /// Takes a transfer off an item, without an outcome. Returns whether it was the last.
    fn forget_transfer(&mut self, slot: Slot, transfer: Slot) -> bool {
        let item = self.items.get_mut(slot);
        item.transfers = self.transfers.remove_from(item.transfers, transfer);
        item.transfers == Slot::NONE
    }

    /// Takes the transfers off an item whose link is lost: it is leased no more, so nothing needs their deadlines.
    fn forget_orphans(&mut self, slot: Slot) {
        loop {
            let mut transfers = self.transfers.of_item(self.items.get(slot).transfers);
            let Some((orphan, _)) = transfers.find(|(_, entry)| !entry.live) else { return };
            drop(transfers);
            self.forget_transfer(slot, orphan);
        }
    }
}
