//! The actions of the IoT OpenAPI, version 2018-01-20 (PLATFORM.md 4). A failure of an action is not a failure of the call:
//! it comes as `Success: false`, with a code and words, under HTTP 200.

pub(super) mod devices;
mod groups;
mod subscriptions;

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use sluice_cloud::rpc::Params;

use super::answer::{Answer, Refusal};
use crate::accounts::Caller;
use crate::clock::Now;
use crate::config::OpenApi;
use crate::instances::{InstanceError, InstanceKey, Instances};
use crate::platform::{Figures, Platform};

/// What the actions work on.
pub(crate) struct World<'a> {
    pub(crate) platform: &'a mut Platform,
    pub(crate) instances: &'a mut Instances,
    /// The figures that are shown, by the address of their group; those of the moment where there are none.
    pub(crate) shown: &'a HashMap<String, Figures>,
    pub(crate) now: Now,
}

/// Why an action says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl From<InstanceError> for Failure {
    fn from(error: InstanceError) -> Self {
        Self { code: error.code(), message: error.to_string() }
    }
}

/// What stopped an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stopped {
    /// The gateway: a parameter is missing.
    Refused(Refusal),
    /// The action itself.
    Failed(Failure),
}

impl From<InstanceError> for Stopped {
    fn from(error: InstanceError) -> Self {
        Self::Failed(error.into())
    }
}

fn failed(code: &'static str, message: impl Into<String>) -> Stopped {
    Stopped::Failed(Failure { code, message: message.into() })
}

type Fields = Result<Map<String, Value>, Stopped>;

/// An action's own part of the answer.
fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// A call's view of its parameters.
struct Request<'a> {
    params: &'a Params,
    instance: InstanceKey,
    rules: &'a OpenApi,
}

impl<'a> Request<'a> {
    /// A parameter that must be there.
    fn required(&self, name: &str) -> Result<&'a str, Stopped> {
        let value = self.params.get(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| Stopped::Refused(Refusal::missing(name)))
    }

    /// A switch; off when it is not there.
    fn flag(&self, name: &str) -> Result<bool, Stopped> {
        match self.params.get(name) {
            None | Some("" | "false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(failed("iot.common.InvalidFormattedParameter", format!("{name} must be true or false."))),
        }
    }
}

/// The action of this name, if there is one.
pub(super) fn action(name: &str) -> Option<&'static str> {
    let names = ACTIONS.iter().map(|action| action.name).chain(devices::ACTIONS.iter().map(|action| action.name));
    names.into_iter().find(|action| *action == name)
}

/// How many calls of this action an account may make in any second, where that is counted apart from its other calls.
pub(super) fn own_rate(name: &str) -> Option<u32> {
    devices::ACTIONS.iter().find(|action| action.name == name).and_then(|action| action.per_second)
}

/// `NAME.1`, `.2` and so on, up to the first that is not there.
fn numbered<'a>(params: &'a Params, name: &str) -> Vec<&'a str> {
    let numbered = (1..).map_while(|index| params.get(&format!("{name}.{index}")));
    numbered.filter(|value| !value.is_empty()).collect()
}

struct Action {
    name: &'static str,
    perform: fn(&Request<'_>, &mut World<'_>) -> Fields,
    /// The XML document's element, where it is not the action's name and `Response`.
    root: Option<&'static str>,
}

const fn plain(name: &'static str, perform: fn(&Request<'_>, &mut World<'_>) -> Fields) -> Action {
    Action { name, perform, root: None }
}

const ACTIONS: [Action; 13] = [
    plain("CreateConsumerGroup", groups::create),
    Action { root: Some("UpdateConsumerGroupNameResponse"), ..plain("UpdateConsumerGroup", groups::update) },
    plain("DeleteConsumerGroup", groups::delete),
    plain("QueryConsumerGroupByGroupId", groups::query),
    plain("QueryConsumerGroupList", groups::list),
    plain("QueryConsumerGroupStatus", groups::status),
    Action { root: Some("ResetConsumerPositionResponse"), ..plain("ResetConsumerGroupPosition", groups::reset) },
    plain("CreateSubscribeRelation", subscriptions::create),
    plain("UpdateSubscribeRelation", subscriptions::update),
    plain("QuerySubscribeRelation", subscriptions::query),
    plain("DeleteSubscribeRelation", subscriptions::delete),
    plain("CreateConsumerGroupSubscribeRelation", subscriptions::add_group),
    plain("DeleteConsumerGroupSubscribeRelation", subscriptions::remove_group),
];

/// Performs an action. Says whether it was done, and what to answer.
pub(super) fn perform(
    name: &str,
    caller: &Caller,
    params: &Params,
    rules: &OpenApi,
    world: &mut World<'_>,
) -> Result<(bool, Answer), Refusal> {
    let Some(action) = ACTIONS.iter().find(|action| action.name == name) else {
        return Err(Refusal::new(404, "InvalidAction.NotFound", "Specified api is not found."));
    };
    let root = action.root.map_or_else(|| format!("{name}Response"), str::to_owned);
    let admitted = admit(name, caller, params, world);
    let done = admitted.and_then(|instance| (action.perform)(&Request { params, instance, rules }, world));
    answer(root, done)
}

/// The instance that a call is about, if its caller may make it.
fn admit(name: &str, caller: &Caller, params: &Params, world: &World<'_>) -> Result<InstanceKey, Stopped> {
    if !caller.may(&format!("iot:{name}")) {
        let words = "You do not have the RAM permission to access the resource.";
        return Err(failed("iot.common.RamActionPermissionDeny", words));
    }
    let instance_id = params.get("IotInstanceId").filter(|id| !id.is_empty());
    Ok(world.instances.find_for(|account| caller.is_of(account), instance_id)?)
}

/// What is said of an action's outcome.
fn answer(root: String, done: Fields) -> Result<(bool, Answer), Refusal> {
    match done {
        Ok(mut fields) => {
            fields.insert("Success".to_owned(), json!(true));
            Ok((true, Answer::new(root, fields)))
        }
        Err(Stopped::Failed(failure)) => {
            let fields = json!({"Success": false, "Code": failure.code, "ErrorMessage": failure.message});
            Ok((false, Answer::new(root, self::fields(fields))))
        }
        Err(Stopped::Refused(refusal)) => Err(refusal),
    }
}

/// A moment as these answers show it: `2019-11-12T11:19:13.000Z`.
fn moment(unix_ms: u64) -> String {
    let at = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

#[cfg(test)]
mod tests;
