//! Subscriptions: of a product and a type, with flags and groups.

use serde_json::{Map, Value, json};

use super::{Fields, Request, Stopped, World, failed, fields};
use crate::config::Unsubscribed;
use crate::instances::{Channel, Flag, Flags, InstanceError, Subscription};

fn channel(request: &Request<'_>) -> Result<Channel, Stopped> {
    let found = request.required("Type")?;
    Channel::parse(found)
        .ok_or_else(|| failed("iot.common.InvalidFormattedParameter", format!("Type is {found}, must be AMQP or MNS.")))
}

/// `ConsumerGroupIds.1`, `.2` and so on, up to the first that is not there.
fn group_ids(request: &Request<'_>) -> Vec<String> {
    let numbered = (1..).map_while(|index| request.params.get(&format!("ConsumerGroupIds.{index}")));
    numbered.filter(|id| !id.is_empty()).map(str::to_owned).collect()
}

/// `MnsConfiguration` as it was given, if it is of the documented form. Whether its queue is there is nobody's to say here.
fn mns(request: &Request<'_>) -> Result<String, Stopped> {
    let text = request.params.get("MnsConfiguration").unwrap_or_default();
    if text.is_empty() {
        return Ok(String::new());
    }
    let given: Value = serde_json::from_str(text).unwrap_or_default();
    let parts = [&given["themeName"], &given["regionName"], &given["role"]["roleArn"], &given["role"]["roleName"]];
    if parts.iter().any(|part| part.as_str().is_none_or(str::is_empty)) {
        let words = "MnsConfiguration must be JSON: {themeName, regionName, role: {roleArn, roleName}}.";
        return Err(failed("iot.common.InvalidFormattedParameter", words));
    }
    Ok(text.to_owned())
}

fn set(request: &Request<'_>, world: &mut World<'_>, new: bool) -> Fields {
    let (product, channel) = (request.required("ProductKey")?, channel(request)?);
    let mut flags = Vec::new();
    for flag in Flag::ALL {
        if request.flag(flag.parameter())? {
            flags.push(flag);
        }
    }
    let (groups, mns) = match channel {
        Channel::Amqp => (group_ids(request), String::new()),
        Channel::Mns => (Vec::new(), mns(request)?),
    };
    let subscription = Subscription { flags: flags.into_iter().collect(), groups, mns };
    world.instances.subscribe(request.instance, product, channel, subscription, new)?;
    Ok(Map::new())
}

pub(super) fn create(request: &Request<'_>, world: &mut World<'_>) -> Fields {
    set(request, world, true)
}

pub(super) fn update(request: &Request<'_>, world: &mut World<'_>) -> Fields {
    set(request, world, false)
}

pub(super) fn query(request: &Request<'_>, world: &mut World<'_>) -> Fields {
    let (product, channel) = (request.required("ProductKey")?, channel(request)?);
    let nothing = Subscription { flags: Flags::default(), groups: Vec::new(), mns: String::new() };
    let found = match world.instances.subscription(request.instance, product, channel) {
        Err(InstanceError::NotSubscribed(..)) if request.rules.unsubscribed == Unsubscribed::Empty => &nothing,
        found => found?,
    };
    let mut shown = fields(json!({"ProductKey": product, "Type": channel.as_str()}));
    match channel {
        Channel::Amqp => shown.insert("ConsumerGroupIds".to_owned(), json!(found.groups)),
        Channel::Mns => shown.insert("MnsConfiguration".to_owned(), json!(found.mns)),
    };
    for flag in Flag::ALL.into_iter().filter(|flag| flag.goes_with(channel)) {
        shown.insert(flag.parameter().to_owned(), json!(found.flags.has(flag)));
    }
    Ok(shown)
}

pub(super) fn delete(request: &Request<'_>, world: &mut World<'_>) -> Fields {
    let (product, channel) = (request.required("ProductKey")?, channel(request)?);
    world.instances.unsubscribe(request.instance, product, channel)?;
    Ok(Map::new())
}

pub(super) fn add_group(request: &Request<'_>, world: &mut World<'_>) -> Fields {
    let (product, group) = (request.required("ProductKey")?, request.required("ConsumerGroupId")?);
    world.instances.add_part(request.instance, product, group)?;
    Ok(Map::new())
}

pub(super) fn remove_group(request: &Request<'_>, world: &mut World<'_>) -> Fields {
    let (product, group) = (request.required("ProductKey")?, request.required("ConsumerGroupId")?);
    world.instances.remove_part(request.instance, product, group)?;
    Ok(Map::new())
}
