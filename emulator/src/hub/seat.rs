//! A connection's place in a group, as the protocol knows it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Notify;

use super::{Hub, Mailbox};
use crate::amqp::{Order, Seat};
use crate::clock::Now;
use crate::platform::{ClientKey, Code, Credit, Door, Outcome, Outgoing, Platform, Refusal, Visit};

/// A connection's place in a group. It is given up when this is dropped.
#[derive(Debug)]
pub(crate) struct GroupSeat {
    hub: Arc<Hub>,
    group: String,
    client_id: String,
    address: SocketAddr,
    /// The access key it was made with.
    key_id: String,
    /// Why there was no place to be had when it was attempted.
    refused: Option<Refusal>,
    wake: Arc<Notify>,
    client: Option<ClientKey>,
}

impl GroupSeat {
    pub(crate) fn new(
        hub: Arc<Hub>,
        group: String,
        client_id: String,
        address: SocketAddr,
        refused: Option<Refusal>,
    ) -> Self {
        let (key_id, wake) = (String::new(), Arc::new(Notify::new()));
        Self { hub, group, client_id, address, key_id, refused, wake, client: None }
    }

    /// The same for a connection that was made with this access key.
    pub(crate) fn with_key(mut self, key_id: String) -> Self {
        self.key_id = key_id;
        self
    }

    /// Notified when there is something to fetch, or an order.
    pub(crate) fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    fn call(&self, act: impl FnOnce(&mut Platform, ClientKey, Now)) {
        if let Some(client) = self.client {
            self.hub.with(|platform, now| act(platform, client, now));
        }
    }
}

impl Seat for GroupSeat {
    fn pass(&mut self, door: Door) -> Result<(), Refusal> {
        let client = self.hub.with_state(|state, now| {
            let visit =
                Visit { group: &self.group, client_id: &self.client_id, address: self.address, refused: self.refused };
            let client = state.platform.pass(&visit, self.client, door, now)?;
            if let Some(client) = client.filter(|_| self.client.is_none()) {
                // In the same breath: a client that an order could miss must not be seen.
                let mailbox = Mailbox { wake: Arc::clone(&self.wake), orders: Vec::new(), key_id: self.key_id.clone() };
                state.mailboxes.insert(client, mailbox);
            }
            Ok::<_, Refusal>(client)
        })?;
        self.client = client;
        Ok(())
    }

    fn attach(&mut self) {
        self.call(|platform, client, _| platform.attach(client));
    }

    fn detach(&mut self) {
        self.call(Platform::detach);
    }

    fn grant(&mut self, credit: Credit) {
        self.call(|platform, client, now| platform.grant(client, credit, now));
    }

    fn settle(&mut self, first: u32, last: u32, outcome: Outcome) {
        self.call(|platform, client, now| platform.settle(client, first, last, outcome, now));
    }

    fn fetch(&mut self, limit: usize, into: &mut VecDeque<Outgoing>) {
        self.call(|platform, client, _| platform.take_outgoing(client, limit, into));
    }

    fn orders(&mut self) -> Vec<Order> {
        let Some(client) = self.client else { return Vec::new() };
        self.hub
            .lock()
            .mailboxes
            .get_mut(&client)
            .map(|mailbox| std::mem::take(&mut mailbox.orders))
            .unwrap_or_default()
    }

    fn note(&mut self, code: Code, words: &str) {
        self.hub.with(|platform, now| platform.note(code, &self.group, &self.client_id, words, now));
    }

    fn leave(&mut self) {
        if let Some(client) = self.client.take() {
            self.hub.with_state(|state, now| {
                state.platform.leave(client, now);
                state.mailboxes.remove(&client);
            });
        }
    }
}

impl Drop for GroupSeat {
    fn drop(&mut self) {
        self.leave();
    }
}
