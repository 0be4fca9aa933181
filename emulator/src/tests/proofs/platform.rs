//! The rules and values that the platform keeps: its state machine, at times that are made up.

mod rules;
mod values;

use std::time::Duration;

use super::{Proof, ensure};
use crate::limits::Limits;
use crate::platform::tests::World;
use crate::platform::{ClientKey, Outcome};
use crate::rules::Rule;
use crate::terms::Terms;

pub(super) const PROOFS: &[Proof] = &[
    Proof::rule(Rule::ClientsPerGroup, rules::clients_per_group),
    Proof::rule(Rule::AttemptsPerMinute, rules::attempts_per_minute),
    Proof::rule(Rule::RealTimeRate, rules::real_time_rate),
    Proof::rule(Rule::BacklogRate, rules::backlog_rate),
    Proof::rule(Rule::RealTimeFirst, rules::real_time_first),
    Proof::rule(Rule::AckTimeout, rules::ack_timeout),
    Proof::rule(Rule::RetryAfter, rules::retry_after),
    Proof::rule(Rule::RetryAfterLinkLoss, rules::retry_after_link_loss),
    Proof::rule(Rule::RealTimeWait, rules::real_time_wait),
    Proof::rule(Rule::Retention, rules::retention),
    Proof::rule(Rule::BacklogCapacity, rules::backlog_capacity),
    Proof::rule(Rule::MaxPayload, rules::max_payload),
    Proof::rule(Rule::Uneven, rules::uneven_after_a_join),
    Proof::rule(Rule::Uneven, rules::uneven_after_a_leave),
    Proof::value("released", "AfterRetry", |terms| {
        values::is(values::redelivery(terms, Outcome::Released), "AfterRetry")
    }),
    Proof::value("released", "AtOnce", |terms| values::is(values::redelivery(terms, Outcome::Released), "AtOnce")),
    Proof::value("released", "Never", |terms| values::is(values::redelivery(terms, Outcome::Released), "Never")),
    Proof::value("released", "Never", |terms| values::is(values::redelivery(terms, Outcome::Unspecified), "Never")),
    Proof::value("rejected", "AfterRetry", |terms| {
        values::is(values::redelivery(terms, Outcome::Rejected), "AfterRetry")
    }),
    Proof::value("rejected", "AtOnce", |terms| values::is(values::redelivery(terms, Outcome::Rejected), "AtOnce")),
    Proof::value("rejected", "Never", |terms| values::is(values::redelivery(terms, Outcome::Rejected), "Never")),
    Proof::value("modified", "AfterRetry", |terms| {
        values::is(values::redelivery(terms, Outcome::Modified), "AfterRetry")
    }),
    Proof::value("modified", "AtOnce", |terms| values::is(values::redelivery(terms, Outcome::Modified), "AtOnce")),
    Proof::value("modified", "Never", |terms| values::is(values::redelivery(terms, Outcome::Modified), "Never")),
    Proof::value("lateAnswer", "Ignored", |terms| values::is(values::late_answer(terms), "Ignored")),
    Proof::value("lateAnswer", "Counts", |terms| values::is(values::late_answer(terms), "Counts")),
    Proof::value("lateAnswer", "Counts", values::late_answers_count_until_the_next_push),
    Proof::value("surplusClient", "Open", |terms| values::is(values::surplus_client(terms), "Open")),
    Proof::value("surplusClient", "Sasl", |terms| values::is(values::surplus_client(terms), "Sasl")),
    Proof::value("surplusClient", "SaslTemporary", |terms| values::is(values::surplus_client(terms), "SaslTemporary")),
    Proof::value("surplusClient", "Attach", |terms| values::is(values::surplus_client(terms), "Attach")),
    Proof::value("surplusClient", "Starved", |terms| values::is(values::surplus_client(terms), "Starved")),
    Proof::value("surplusClient", "EvictsOldest", |terms| values::is(values::surplus_client(terms), "EvictsOldest")),
    Proof::value("surplusAttempt", "Open", |terms| values::is(values::surplus_attempt(terms), "Open")),
    Proof::value("surplusAttempt", "Sasl", |terms| values::is(values::surplus_attempt(terms), "Sasl")),
    Proof::value("clientsCounted", "Connections", |terms| values::is(values::clients_counted(terms), "Connections")),
    Proof::value("clientsCounted", "ClientIds", |terms| values::is(values::clients_counted(terms), "ClientIds")),
    Proof::value("sameClientId", "BothStay", |terms| values::is(values::same_client_id(terms), "BothStay")),
    Proof::value("sameClientId", "ClosesOlder", |terms| values::is(values::same_client_id(terms), "ClosesOlder")),
    Proof::value("withoutCredit", "Wait", |terms| values::is(values::without_credit(terms), "Wait")),
    Proof::value("withoutCredit", "Backlog", |terms| values::is(values::without_credit(terms), "Backlog")),
    Proof::value("throttled", "Wait", |terms| values::is(values::throttled(terms), "Wait")),
    Proof::value("throttled", "Backlog", |terms| values::is(values::throttled(terms), "Backlog")),
    Proof::value("pushRate", "PerConnection", |terms| values::is(values::push_rate(terms), "PerConnection")),
    Proof::value("pushRate", "PerGroup", |terms| values::is(values::push_rate(terms), "PerGroup")),
    Proof::value("chosenClient", "Able", |terms| values::is(values::chosen_client(terms), "Able")),
    Proof::value("chosenClient", "Any", |terms| values::is(values::chosen_client(terms), "Any")),
    Proof::value("chosenClient", "Any", values::what_is_for_one_client_waits_for_it),
    Proof::value("backlogOrder", "FailedPass", |terms| values::is(values::backlog_order(terms), "FailedPass")),
    Proof::value("backlogOrder", "FailedBlock", |terms| values::is(values::backlog_order(terms), "FailedBlock")),
    Proof::value("dispositionRanges", "All", |terms| values::is(values::disposition_ranges(terms), "All")),
    Proof::value("dispositionRanges", "FirstOnly", |terms| values::is(values::disposition_ranges(terms), "FirstOnly")),
];

impl World {
    /// The same with other limits.
    fn with(mut terms: Terms, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut terms.limits);
        Self::new(terms)
    }

    /// A client with a link and credit.
    fn client(&mut self, client_id: &str, credit: u32) -> Result<ClientKey, String> {
        let client = self.attempt(client_id).map_err(|refused| format!("{client_id} can't come in: {refused:?}"))?;
        self.platform.attach(client);
        self.grant(client, 0, credit);
        Ok(client)
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// `Err` unless this is that.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    ensure(found == expected, format!("{what}: {found:?} instead of {expected:?}"))
}
