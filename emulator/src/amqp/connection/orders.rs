//! What the platform has a connection do.

use fe2o3_amqp_types::definitions::Handle;
use fe2o3_amqp_types::performatives::{Detach, End};
use tracing::info;

use super::{Connection, Phase, expired};
use crate::amqp::failure::Failure;
use crate::amqp::hindrance::Hindrance;
use crate::amqp::seat::{Order, Seat};
use crate::amqp::session::HandleUse;
use crate::clock::Micros;
use crate::profile::TokenExpiry;

impl<S: Seat> Connection<S> {
    /// Carries out what the platform has decided to do to this connection.
    pub(crate) fn obey(&mut self, now: Micros) {
        for order in self.seat.orders() {
            if let Err(failure) = self.on_order(order, now) {
                self.fail(failure, now);
            }
        }
    }

    fn on_order(&mut self, order: Order, now: Micros) -> Result<(), Failure> {
        match order {
            Order::Close(failure) => self.close(failure, now),
            Order::End(failure) => return self.end_session(failure, now),
            Order::Detach { failure, closed } => return self.detach_link(failure, closed, now),
            Order::Drop => {
                self.finish();
                self.phase = Phase::Dropped;
            }
            Order::Expire => match self.terms.profile.token_expiry {
                TokenExpiry::Closes => self.fail(expired(), now),
                TokenExpiry::LivesOn => info!("the security token has expired; the connection lives on"),
            },
            Order::Hinder { what, lasts } => {
                let until = now.after(lasts);
                self.hindrances.begin(what, until);
                if what == Hindrance::NoReading {
                    // A client that is not listened to can't be held to have been silent.
                    self.heard_at = self.heard_at.max(until);
                }
            }
            Order::Corrupt(corruption) => self.corruption = Some(corruption),
        }
        Ok(())
    }

    /// Detaches the link, if there is one.
    pub(super) fn detach_link(&mut self, failure: Option<Failure>, closed: bool, now: Micros) -> Result<(), Failure> {
        let Some(link) = self.drop_link(now) else { return Ok(()) };
        if let Some(session) = self.sessions.get_mut(&link.channel) {
            session.handles.insert(link.handle, HandleUse::Detached);
        }
        let error = self.words(failure);
        self.put(link.channel, &Detach { handle: Handle(link.handle), closed, error })
    }

    /// Ends the session of the link, if there is one.
    fn end_session(&mut self, failure: Option<Failure>, now: Micros) -> Result<(), Failure> {
        let Some(link) = self.drop_link(now) else { return Ok(()) };
        if let Some(session) = self.sessions.get_mut(&link.channel) {
            session.ended = true;
        }
        let error = self.words(failure);
        self.put(link.channel, &End { error })
    }
}
