//! The rules of groups and subscriptions, one by one.

use super::*;
use crate::rules::Rules;

const ACCOUNT: &str = "1000000000000001";

fn instances() -> Instances {
    let setup = |id: &str, account: &str, products: &[&str]| Setup {
        id: id.into(),
        account: account.into(),
        groups: vec![DEFAULT_GROUP.into(), "orders".into()],
        products: products.iter().map(|&key| key.to_owned()).collect(),
    };
    let quotas =
        Quotas { groups_per_product: 2, products_per_group: 2, groups_per_account: 6, rules: Rules::default() };
    let setups = vec![setup("one", ACCOUNT, &[]), setup("two", ACCOUNT, &["pk"]), setup("", "2", &[])];
    Instances::new(setups, quotas, 1, 7)
}

/// One instance with one group.
pub(crate) fn single(group: &str) -> Instances {
    let setup = Setup { id: "one".into(), account: ACCOUNT.into(), groups: vec![group.into()], products: Vec::new() };
    let quotas =
        Quotas { groups_per_product: 10, products_per_group: 10, groups_per_account: 10, rules: Rules::default() };
    Instances::new(vec![setup], quotas, 1, 7)
}

fn amqp(flags: &[Flag], groups: &[&str]) -> Subscription {
    let groups = groups.iter().map(|&id| id.to_owned()).collect();
    Subscription { flags: flags.iter().copied().collect(), groups, mns: String::new() }
}

fn first(instances: &Instances) -> InstanceKey {
    instances.find(Some("one")).unwrap()
}

#[test]
fn an_instance_is_found_by_its_id_and_by_its_owner_only() {
    let instances = instances();
    assert!(instances.find_for(|account| account == ACCOUNT, Some("two")).is_ok());
    assert_eq!(
        instances.find_for(|account| account == "2", Some("two")),
        Err(InstanceError::OtherAccount("two".into()))
    );
    assert_eq!(instances.find(Some("three")), Err(InstanceError::NoInstance("three".into())));
    assert_eq!(instances.find(None), instances.find(Some("")), "the legacy instance has no ID");
    let without = Instances::new(Vec::new(), instances.quotas, 1, 0);
    assert_eq!(without.find(None), Err(InstanceError::InstanceLeftOut));
}

#[test]
fn groups_of_other_instances_have_addresses_of_their_own() {
    let mut addresses = instances().addresses();
    addresses.sort();
    assert_eq!(addresses, ["/DEFAULT_GROUP", "/orders", "DEFAULT_GROUP", "orders", "two/DEFAULT_GROUP", "two/orders"]);
}

#[test]
fn a_group_is_made_renamed_and_deleted() {
    let mut instances = instances();
    let key = first(&instances);
    let id = instances.create_group(key, "消费组1", 9).unwrap();
    assert!(id.len() == 26 && id.chars().all(|c| c.is_ascii_alphanumeric()), "{id}");
    let entry = GroupEntry { name: "消费组1".into(), created_unix_ms: 9 };
    assert_eq!(instances.group(key, &id), Ok(&entry));
    assert_eq!(instances.groups(key)[0], (id.as_str(), &entry), "the newest first");
    instances.rename_group(key, &id, "other_1").unwrap();
    instances.rename_group(key, &id, "other_1").unwrap();
    assert_eq!(instances.rename_group(key, &id, "orders"), Err(InstanceError::GroupNameTaken("orders".into())));
    instances.delete_group(key, &id).unwrap();
    assert_eq!(instances.delete_group(key, &id), Err(InstanceError::NoGroup(id)));
}

#[test]
fn names_are_4_to_30_wide_and_the_default_group_stays() {
    let mut instances = instances();
    let key = first(&instances);
    for name in ["abc", "消", "with space", "dash-ed", "", &"x".repeat(31), &"消".repeat(16)] {
        assert_eq!(instances.create_group(key, name, 0), Err(InstanceError::GroupName), "{name}");
    }
    for name in ["消费", &"x".repeat(30)] {
        instances.create_group(key, name, 0).unwrap();
    }
    assert_eq!(instances.create_group(key, "one_too_many", 0), Err(InstanceError::TooManyGroups(6)));
    assert!(matches!(instances.rename_group(key, DEFAULT_GROUP, "abcd"), Err(InstanceError::DefaultGroup(_))));
    assert!(matches!(instances.delete_group(key, DEFAULT_GROUP), Err(InstanceError::DefaultGroup(_))));
}

#[test]
fn a_subscription_is_created_once_and_replaced_as_a_whole() {
    let mut instances = instances();
    let key = first(&instances);
    let both = amqp(&[Flag::DeviceData, Flag::OtaJob], &["orders"]);
    let update = instances.subscribe(key, "pk", Channel::Amqp, both.clone(), false);
    assert_eq!(update, Err(InstanceError::NotSubscribed("pk".into(), Channel::Amqp)));
    instances.subscribe(key, "pk", Channel::Amqp, both.clone(), true).unwrap();
    let again = instances.subscribe(key, "pk", Channel::Amqp, both.clone(), true);
    assert_eq!(again, Err(InstanceError::AlreadySubscribed("pk".into(), Channel::Amqp)));
    let less = amqp(&[Flag::DeviceStatusChange], &["orders"]);
    instances.subscribe(key, "pk", Channel::Amqp, less.clone(), false).unwrap();
    assert_eq!(instances.subscription(key, "pk", Channel::Amqp), Ok(&less), "what an update leaves out is off");
    let in_use = instances.delete_group(key, "orders");
    assert_eq!(in_use, Err(InstanceError::GroupInUse("pk".into())));
    instances.unsubscribe(key, "pk", Channel::Amqp).unwrap();
    assert!(instances.unsubscribe(key, "pk", Channel::Amqp).is_err());
    instances.delete_group(key, "orders").unwrap();
}

#[test]
fn what_a_subscription_lacks_or_has_too_much_is_named() {
    let mut instances = instances();
    let key = first(&instances);
    let mut refused = |channel, subscription| {
        let result = instances.subscribe(key, "pk", channel, subscription, true);
        result.unwrap_err()
    };
    let data = [Flag::DeviceData];
    assert_eq!(refused(Channel::Amqp, amqp(&[], &["orders"])), InstanceError::NoFlags);
    assert_eq!(refused(Channel::Amqp, amqp(&data, &[])), InstanceError::NoGroups);
    assert_eq!(refused(Channel::Amqp, amqp(&data, &["none"])), InstanceError::NoGroup("none".into()));
    let twice = amqp(&data, &["orders", "orders"]);
    assert_eq!(refused(Channel::Amqp, twice), InstanceError::AlreadyPart("orders".into()));
    assert_eq!(refused(Channel::Mns, amqp(&data, &[])), InstanceError::NoMnsConfiguration);
    assert_eq!(refused(Channel::Mns, amqp(&[Flag::OtaJob], &[])), InstanceError::AmqpOnly("OtaJobFlag"));
    let two = instances.find(Some("two")).unwrap();
    let elsewhere = instances.subscribe(two, "other", Channel::Amqp, amqp(&data, &["orders"]), true);
    assert_eq!(elsewhere, Err(InstanceError::NoProduct("other".into())));
}

#[test]
fn groups_join_and_leave_a_subscription_within_its_bounds() {
    let mut instances = instances();
    let key = first(&instances);
    let third = instances.create_group(key, "third", 0).unwrap();
    let data = amqp(&[Flag::DeviceData], &["orders"]);
    assert!(instances.add_part(key, "pk", "orders").is_err(), "there is no subscription to join");
    instances.subscribe(key, "pk", Channel::Amqp, data.clone(), true).unwrap();
    assert_eq!(instances.remove_part(key, "pk", "orders"), Err(InstanceError::LastGroup));
    assert_eq!(instances.add_part(key, "pk", "orders"), Err(InstanceError::AlreadyPart("orders".into())));
    instances.add_part(key, "pk", DEFAULT_GROUP).unwrap();
    assert_eq!(instances.add_part(key, "pk", &third), Err(InstanceError::TooManyGroupsOfProduct(2)));
    instances.remove_part(key, "pk", "orders").unwrap();
    assert_eq!(instances.remove_part(key, "pk", "orders"), Err(InstanceError::NotPart("orders".into())));
    for product in ["p1", "p2"] {
        instances.subscribe(key, product, Channel::Amqp, data.clone(), true).unwrap();
    }
    let over = instances.subscribe(key, "p3", Channel::Amqp, data, true);
    assert_eq!(over, Err(InstanceError::TooManyProductsOfGroup(2)));
}

#[test]
fn a_message_goes_to_the_groups_that_subscribe_to_its_kind() {
    let mut instances = instances();
    let key = first(&instances);
    assert_eq!(instances.route("/pk/dn/user/get"), ["two/DEFAULT_GROUP"], "nothing is subscribed");
    let status = amqp(&[Flag::DeviceStatusChange], &["orders", DEFAULT_GROUP]);
    instances.subscribe(key, "pk", Channel::Amqp, status, true).unwrap();
    let two = instances.find(Some("two")).unwrap();
    instances.subscribe(two, "pk", Channel::Amqp, amqp(&[Flag::DeviceData], &["orders"]), true).unwrap();
    let route = |topic: &str| instances.route(topic);
    assert_eq!(route("/as/mqtt/status/pk/dn"), ["orders", "DEFAULT_GROUP"]);
    for topic in ["/pk/dn/user/get", "/pk/dn/thing/event/property/post", "/pk/dn/of/no/known/kind"] {
        assert_eq!(route(topic), ["two/orders"], "{topic}");
    }
    assert!(route("/pk/dn/thing/lifecycle").is_empty(), "nobody subscribes to that");
    assert_eq!(route("/other/dn/user/get"), [DEFAULT_GROUP]);
    assert_eq!(route("no topic at all"), [DEFAULT_GROUP]);
}

#[test]
fn every_kind_of_message_has_its_flag() {
    let flags: Vec<&str> = [
        "/pk/dn/thing/topo/lifecycle",
        "/pk/dn/thing/list/found",
        "/pk/dn/thing/deviceinfo/update",
        "/pk/dn/thing/event/property/history/post",
        "/pk/dn/ota/upgrade",
        "/pk/dn/ota/version/post",
        "/pk/package/job/ota/job/status",
    ]
    .into_iter()
    .map(|topic| Flag::of(topic::parse(topic).kind).parameter())
    .collect();
    let expected = [
        "DeviceTopoLifeCycleFlag",
        "FoundDeviceListFlag",
        "DeviceTagFlag",
        "ThingHistoryFlag",
        "OtaEventFlag",
        "OtaVersionFlag",
        "OtaJobFlag",
    ];
    assert_eq!(flags, expected);
}
