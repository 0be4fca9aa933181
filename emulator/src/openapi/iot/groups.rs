//! Consumer groups: made, named, deleted, listed, looked at, reset.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value, json};

use super::{Fields, Request, Stopped, World, failed, fields, moment};
use crate::instances::GroupEntry;
use crate::platform::{ClientFigures, UnknownGroup};

/// The most groups on one page.
const MAX_PAGE: usize = 1_000;
/// How many characters of a client ID a mask covers, as in the vendor's example.
const MASKED_CHARS: usize = 6;

impl From<UnknownGroup> for Stopped {
    /// Instances and platform know the same groups, so this can't be; should it be, it is the service's fault.
    fn from(error: UnknownGroup) -> Self {
        failed("iot.system.SystemException", error.to_string())
    }
}

pub(super) fn create(request: &Request<'_>, world: &mut World<'_>) -> Fields {
    let name = request.required("GroupName")?;
    let id = world.instances.create_group(request.instance, name, world.now.unix_us / 1_000)?;
    world.platform.add_group(&world.instances.address(request.instance, &id), world.now.mono);
    Ok(fields(json!({"GroupId": id})))
}

pub(super) fn update(request: &Request<'_>, world: &mut World<'_>) -> Fields {
    let (id, name) = (request.required("GroupId")?, request.required("NewGroupName")?);
    world.instances.rename_group(request.instance, id, name)?;
    Ok(Map::new())
}

pub(super) fn delete(request: &Request<'_>, world: &mut World<'_>) -> Fields {
    let id = request.required("GroupId")?;
    world.instances.delete_group(request.instance, id)?;
    world.platform.delete_group(&world.instances.address(request.instance, id), world.now)?;
    Ok(Map::new())
}

fn shown(id: &str, entry: &GroupEntry) -> Value {
    json!({"GroupId": id, "GroupName": entry.name, "CreateTime": moment(entry.created_unix_ms)})
}

pub(super) fn query(request: &Request<'_>, world: &mut World<'_>) -> Fields {
    let id = request.required("GroupId")?;
    Ok(fields(json!({"Data": shown(id, world.instances.group(request.instance, id)?)})))
}

pub(super) fn list(request: &Request<'_>, world: &mut World<'_>) -> Fields {
    let number = |name| {
        let number = request.required(name)?.parse::<usize>().ok().filter(|&number| number > 0);
        number.ok_or_else(|| failed("iot.common.InvalidPageParams", format!("{name} must be a number from 1 on.")))
    };
    let (page, size) = (number("CurrentPage")?, number("PageSize")?);
    if size > MAX_PAGE {
        return Err(failed("iot.common.InvalidPageParams", format!("PageSize must be {MAX_PAGE} at most.")));
    }
    let (fuzzy, name) = (request.flag("Fuzzy")?, request.params.get("GroupName").unwrap_or_default());
    let mut groups = world.instances.groups(request.instance);
    groups.retain(|(_, entry)| name.is_empty() || if fuzzy { entry.name.contains(name) } else { entry.name == name });
    let total = groups.len();
    let from = (page - 1).saturating_mul(size).min(total);
    let data: Vec<Value> = groups[from..].iter().take(size).map(|(id, entry)| shown(id, entry)).collect();
    Ok(fields(json!({
        "CurrentPage": page,
        "PageSize": size,
        "PageCount": total.div_ceil(size),
        "Total": total,
        "Data": {"ConsumerGroupDTO": data},
    })))
}

pub(super) fn reset(request: &Request<'_>, world: &mut World<'_>) -> Fields {
    let id = request.required("GroupId")?;
    world.instances.group(request.instance, id)?;
    world.platform.clear_backlog(&world.instances.address(request.instance, id), world.now)?;
    Ok(Map::new())
}

pub(super) fn status(request: &Request<'_>, world: &mut World<'_>) -> Fields {
    let id = request.required("GroupId")?;
    world.instances.group(request.instance, id)?;
    let address = world.instances.address(request.instance, id);
    let figures = match world.shown.get(&address) {
        Some(figures) => figures.clone(),
        None => world.platform.figures(&address, world.now.mono)?,
    };
    let clients: Vec<Value> =
        figures.clients.iter().map(|client| client_shown(client, request.rules.mask_clients)).collect();
    let mut status = fields(json!({
        "AccumulationCount": figures.backlog,
        "ConsumerSpeed": figures.speed.total(),
        "AccumulatedConsumeCountPerMinute": figures.speed.accumulated,
        "RealTimeConsumeCountPerMinute": figures.speed.real_time,
        "ClientConnectionStatusList": {"ConsumerGroupClientConnectionInfo": clients},
    }));
    if let Some(at) = figures.last_consumed_unix_ms {
        status.insert("LastConsumerTime".to_owned(), json!(moment(at)));
    }
    Ok(status)
}

fn client_shown(client: &ClientFigures, mask: bool) -> Value {
    let (id, address) = if mask {
        (masked_id(&client.client_id), masked_address(client.address))
    } else {
        (client.client_id.clone(), client.address.to_string())
    };
    json!({
        "ClientId": id,
        "ClientIpPort": address,
        "OnlineTime": client.online_unix_ms,
        "AccumulatedConsumeCountPerMinute": client.speed.accumulated,
        "RealTimeConsumeCountPerMinute": client.speed.real_time,
    })
}

/// `868575026******`.
fn masked_id(id: &str) -> String {
    let kept = id.chars().count().saturating_sub(MASKED_CHARS);
    id.chars().take(kept).chain("*".repeat(MASKED_CHARS).chars()).collect()
}

/// `192.168.xxx.xxx:36918`.
fn masked_address(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            format!("{a}.{b}.xxx.xxx:{}", address.port())
        }
        IpAddr::V6(_) => format!("[xxxx]:{}", address.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_leaves_what_the_vendors_example_leaves() {
        assert_eq!(masked_id("868575026123456"), "868575026******");
        assert_eq!(masked_id("abc"), "******");
        assert_eq!(masked_address("192.168.1.2:36918".parse().unwrap()), "192.168.xxx.xxx:36918");
        assert_eq!(masked_address("[::1]:5".parse().unwrap()), "[xxxx]:5");
    }
}
