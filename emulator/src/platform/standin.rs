//! STAND-IN for package A: what it adds to the platform, so that the admin API can be built against it.

use std::net::SocketAddr;

use serde::Serialize;

use super::{Platform, UnknownGroup};
use crate::clock::Now;

/// A connection, as an admin sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectionLine {
    /// Its group.
    pub group: String,
    /// Its client ID.
    pub client: String,
    /// Its number.
    pub number: u64,
    /// Where it comes from.
    pub address: SocketAddr,
    /// Its credit.
    pub credit: u32,
    /// Its unsettled deliveries.
    pub unsettled: u64,
    /// Whether it is one too many.
    pub surplus: bool,
}

/// Whether the platform finds itself in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Whether it does.
    pub consistent: bool,
    /// What it has found.
    pub violations: Vec<String>,
}

/// Which lines of the platform's log are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogQuery {
    /// Those of this code.
    pub code: Option<u16>,
    /// Those of this group.
    pub group: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// A line of the platform's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CloudLine {
    /// When, in Unix µs.
    pub at: u64,
    /// Its code.
    pub code: u16,
    /// Its group.
    pub group: String,
    /// Its client.
    pub client: String,
    /// Its words.
    pub words: String,
}

impl Platform {
    /// Pushes a message again.
    pub fn repeat(&mut self, id: &str, _: Now) -> Option<String> {
        self.fate(id).map(|_| id.to_owned())
    }

    /// Refuses the next attempts.
    pub fn refuse_next(&mut self, group: Option<&str>, _: u32) -> Result<(), UnknownGroup> {
        group.map_or(Ok(()), |group| self.counts(group).map(|_| ()))
    }

    /// The open connections.
    pub fn connections(&self, group: Option<&str>) -> Result<Vec<ConnectionLine>, UnknownGroup> {
        let groups: Vec<&String> = match group {
            Some(group) => self.by_name.get_key_value(group).into_iter().map(|(name, _)| name).collect(),
            None => self.by_name.keys().collect(),
        };
        let mut lines = Vec::new();
        for name in groups {
            let clients = self.clients(Some(name), None)?;
            let figures = self.figures(name, crate::clock::Micros::default())?.clients;
            lines.extend(clients.into_iter().zip(figures).map(|(key, figures)| ConnectionLine {
                group: name.clone(),
                client: figures.client_id,
                number: key.serial,
                address: figures.address,
                credit: 0,
                unsettled: 0,
                surplus: false,
            }));
        }
        match group {
            Some(group) if !self.has_group(group) => Err(UnknownGroup(group.to_owned())),
            _ => Ok(lines),
        }
    }

    /// Whether it finds itself in order.
    #[must_use]
    pub fn audit(&self) -> Audit {
        Audit { consistent: true, violations: Vec::new() }
    }

    /// Its own log.
    #[must_use]
    pub fn cloud_log(&self, wanted: &LogQuery) -> Vec<CloudLine> {
        Vec::with_capacity(usize::from(wanted.limit == usize::MAX && wanted.code.is_some() && wanted.group.is_some()))
    }
}
