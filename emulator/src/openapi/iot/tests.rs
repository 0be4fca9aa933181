//! Every action, on a platform without sockets: what it answers, what it refuses, and what it does.

use std::sync::Arc;

use super::super::answer::Format;
use super::*;
use crate::accounts::Accounts;
use crate::clock::Micros;
use crate::config::AccessKeyEntry;
use crate::instances::{DEFAULT_GROUP, Quotas, Setup};
use crate::message::Draft;
use crate::pattern::Pattern;
use crate::platform::{ClientKey, Credit, Eviction, Outcome, Visit};

const ACCOUNT: &str = "1";

/// A platform with two instances of one account and one of another, and a clock that moves when told.
struct Cloud {
    platform: Platform,
    instances: Instances,
    shown: HashMap<String, Figures>,
    accounts: Accounts,
    rules: OpenApi,
    now: Now,
}

impl Cloud {
    fn new() -> Self {
        let setup = |id: &str, account: &str| Setup {
            id: id.into(),
            account: account.into(),
            groups: vec!["DEFAULT_GROUP".into(), "orders".into()],
            products: Vec::new(),
        };
        let quotas = Quotas {
            groups_per_product: 10,
            products_per_group: 1_000,
            groups_per_account: 1_000,
            rules: crate::rules::Rules::default(),
        };
        let now = Now { mono: Micros::new(0), unix_us: 1_573_557_553_000_000 };
        let setups = vec![setup("one", ACCOUNT), setup("two", ACCOUNT), setup("foreign", "2")];
        let instances = Instances::new(setups, quotas, 1, now.unix_us / 1_000);
        let addresses = instances.addresses();
        let platform = Platform::new(Arc::default(), addresses.iter().map(String::as_str), 0, 1);
        let reader =
            AccessKeyEntry { permissions: vec![Pattern::new("iot:Query*")], ..AccessKeyEntry::new("reader", "secret") };
        let accounts = Accounts::new(ACCOUNT, &[AccessKeyEntry::new("all", "secret"), reader], &[], vec![], vec![]);
        Self { platform, instances, shown: HashMap::new(), accounts, rules: OpenApi::default(), now }
    }

    fn pass(&mut self, seconds: u64) {
        let us = seconds * 1_000_000;
        self.now = Now { mono: Micros::new(self.now.mono.get() + us), unix_us: self.now.unix_us + us };
    }

    fn answer(&mut self, key: &str, query: &str) -> Result<(bool, Answer), Refusal> {
        let params = Params::parse(query).unwrap();
        let (_, caller) = self.accounts.look_up(key, None, 0).unwrap();
        let (platform, instances) = (&mut self.platform, &mut self.instances);
        let mut world = World { platform, instances, shown: &self.shown, now: self.now };
        perform(params.get("Action").unwrap(), &caller, &params, &self.rules, &mut world)
    }

    /// The JSON of an answer, in which `RequestId` is the one thing that is not the action's.
    fn json(&mut self, key: &str, query: &str) -> Value {
        let (done, answer) = self.answer(key, query).unwrap();
        let mut json: Value = serde_json::from_str(&answer.write(Format::Json, "R")).unwrap();
        assert_eq!(json["Success"], done);
        json.as_object_mut().unwrap().remove("RequestId").unwrap();
        json
    }

    fn ask(&mut self, query: &str) -> Value {
        self.json("all", &format!("{query}&IotInstanceId=one"))
    }

    fn xml(&mut self, query: &str) -> String {
        let (_, answer) = self.answer("all", &format!("{query}&IotInstanceId=one")).unwrap();
        answer.write(Format::Xml, "R")
    }

    /// The code of a failure.
    fn fails(&mut self, query: &str) -> String {
        let answer = self.ask(query);
        assert_eq!(answer["Success"], false, "{query}");
        assert!(answer["ErrorMessage"].as_str().is_some_and(|words| !words.is_empty()));
        answer["Code"].as_str().unwrap().to_owned()
    }

    fn client(&mut self, group: &str, name: &str, credit: u32) -> ClientKey {
        let address = "192.168.1.2:36918".parse().unwrap();
        let visit = Visit { group, client_id: name, address, refused: None };
        let client = self.platform.come(&visit, self.now).unwrap();
        self.platform.attach(client);
        let credit = Credit { delivery_count: Some(0), link_credit: credit, drain: false };
        self.platform.grant(client, credit, self.now);
        client
    }

    /// Shows a group's figures as they are now.
    fn show(&mut self, group: &str) {
        let figures = self.platform.figures(group, self.now.mono).unwrap();
        self.shown.insert(group.to_owned(), figures);
    }

    fn publish(&mut self, group: &str, count: usize) {
        let drafts = vec![Draft { topic: "/pk/dn/user/get".into(), ..Draft::default() }; count];
        self.platform.publish(group, &drafts, self.now).unwrap();
    }
}

fn done() -> Value {
    json!({"Success": true})
}

#[test]
fn a_group_is_created_renamed_shown_and_deleted() {
    let mut cloud = Cloud::new();
    let created = cloud.ask("Action=CreateConsumerGroup&GroupName=%E6%B6%88%E8%B4%B9%E7%BB%841");
    let id = created["GroupId"].as_str().unwrap().to_owned();
    assert!(cloud.platform.has_group(&id), "it takes messages at once");
    let shown = cloud.ask(&format!("Action=QueryConsumerGroupByGroupId&GroupId={id}"));
    let data = json!({"GroupId": id, "GroupName": "消费组1", "CreateTime": "2019-11-12T11:19:13.000Z"});
    assert_eq!(shown, json!({"Data": data, "Success": true}));
    assert_eq!(cloud.ask(&format!("Action=UpdateConsumerGroup&GroupId={id}&NewGroupName=other")), done());
    assert_eq!(cloud.ask(&format!("Action=DeleteConsumerGroup&GroupId={id}")), done());
    assert!(!cloud.platform.has_group(&id));
    let gone = "iot.messagebroker.NotExistedConsumerGroup";
    assert_eq!(cloud.fails(&format!("Action=QueryConsumerGroupByGroupId&GroupId={id}")), gone);
    assert_eq!(cloud.fails(&format!("Action=QueryConsumerGroupStatus&GroupId={id}")), gone);
    assert_eq!(cloud.fails(&format!("Action=ResetConsumerGroupPosition&GroupId={id}")), gone);
    let immutable = "iot.messagebroker.DefaultConsumerGroupIsImmutable";
    assert_eq!(cloud.fails("Action=DeleteConsumerGroup&GroupId=DEFAULT_GROUP"), immutable);
    assert_eq!(cloud.fails("Action=CreateConsumerGroup&GroupName=abc"), "iot.common.InvalidFormattedParameter");
}

#[test]
fn a_deleted_group_takes_its_messages_along_and_its_clients_are_told() {
    let mut cloud = Cloud::new();
    let client = cloud.client("orders", "c", 2);
    cloud.publish("orders", 5);
    assert_eq!(cloud.ask("Action=DeleteConsumerGroup&GroupId=orders"), done());
    assert_eq!(cloud.platform.take_evicted(), [(client, Eviction::GroupDeleted)]);
    // What the client still held is not pushed to anyone any more, and its leaving upsets nothing.
    cloud.platform.leave(client, cloud.now);
    cloud.platform.tick(cloud.now);
    assert!(cloud.platform.counts("orders").is_err());
}

#[test]
fn groups_are_listed_by_page_and_by_name() {
    let mut cloud = Cloud::new();
    for index in 0..5 {
        cloud.pass(1);
        cloud.ask(&format!("Action=CreateConsumerGroup&GroupName=class_a_{index}"));
    }
    let names = |answer: &Value| -> Vec<String> {
        let groups = answer["Data"]["ConsumerGroupDTO"].as_array().unwrap();
        groups.iter().map(|group| group["GroupName"].as_str().unwrap().to_owned()).collect()
    };
    let page = cloud.ask("Action=QueryConsumerGroupList&CurrentPage=1&PageSize=2&Fuzzy=true&GroupName=class_a");
    assert_eq!(names(&page), ["class_a_4", "class_a_3"]);
    let numbers = ["CurrentPage", "PageSize", "PageCount", "Total"].map(|name| page[name].as_u64().unwrap());
    assert_eq!(numbers, [1, 2, 3, 5]);
    let last = cloud.ask("Action=QueryConsumerGroupList&CurrentPage=3&PageSize=2&Fuzzy=true&GroupName=class_a");
    assert_eq!(names(&last), ["class_a_0"]);
    let exact = cloud.ask("Action=QueryConsumerGroupList&CurrentPage=1&PageSize=10&GroupName=class_a");
    assert_eq!((names(&exact).len(), exact["Total"].as_u64()), (0, Some(0)));
    let all = cloud.ask("Action=QueryConsumerGroupList&CurrentPage=1&PageSize=1000");
    assert_eq!(all["Total"], 7);
    for wrong in ["CurrentPage=0&PageSize=2", "CurrentPage=1&PageSize=1001", "CurrentPage=x&PageSize=2"] {
        let code = cloud.fails(&format!("Action=QueryConsumerGroupList&{wrong}"));
        assert_eq!(code, "iot.common.InvalidPageParams");
    }
}

#[test]
fn a_groups_figures_are_real() {
    let mut cloud = Cloud::new();
    let status = "Action=QueryConsumerGroupStatus&GroupId=orders";
    let empty = json!({"AccumulationCount": 0, "ConsumerSpeed": 0, "AccumulatedConsumeCountPerMinute": 0,
        "RealTimeConsumeCountPerMinute": 0, "Success": true,
        "ClientConnectionStatusList": {"ConsumerGroupClientConnectionInfo": []}});
    assert_eq!(cloud.ask(status), empty);
    cloud.publish("orders", 3);
    assert_eq!(cloud.ask(status)["AccumulationCount"], 3);
    let client = cloud.client("orders", "pod-1", 100);
    cloud.publish("orders", 2);
    cloud.platform.settle(client, 0, 4, Outcome::Accepted, cloud.now);
    let busy = cloud.ask(status);
    let figures = |value: &Value| {
        ["AccumulatedConsumeCountPerMinute", "RealTimeConsumeCountPerMinute"].map(|name| value[name].as_u64().unwrap())
    };
    assert_eq!((busy["AccumulationCount"].as_u64(), busy["ConsumerSpeed"].as_u64()), (Some(0), Some(5)));
    assert_eq!(figures(&busy), [3, 2]);
    assert_eq!(busy["LastConsumerTime"], "2019-11-12T11:19:13.000Z");
    let clients = &busy["ClientConnectionStatusList"]["ConsumerGroupClientConnectionInfo"];
    assert_eq!(clients.as_array().unwrap().len(), 1);
    assert_eq!((&clients[0]["ClientId"], &clients[0]["ClientIpPort"]), (&json!("pod-1"), &json!("192.168.1.2:36918")));
    assert_eq!(clients[0]["OnlineTime"], 1_573_557_553_000_u64);
    assert_eq!(figures(&clients[0]), [3, 2]);
    cloud.pass(59);
    assert_eq!(cloud.ask(status)["ConsumerSpeed"], 5);
    cloud.pass(1);
    assert_eq!(cloud.ask(status)["ConsumerSpeed"], 0, "a minute has passed");
    let xml = cloud.xml(status);
    assert!(xml.contains("<ConsumerGroupClientConnectionInfo><AccumulatedConsumeCountPerMinute>0<"), "{xml}");
}

#[test]
fn clients_are_masked_where_that_is_asked_for() {
    let mut cloud = Cloud::new();
    cloud.rules.mask_clients = true;
    cloud.client("orders", "telemetry-0123456", 0);
    let status = cloud.ask("Action=QueryConsumerGroupStatus&GroupId=orders");
    let client = &status["ClientConnectionStatusList"]["ConsumerGroupClientConnectionInfo"][0];
    assert_eq!(
        (&client["ClientId"], &client["ClientIpPort"]),
        (&json!("telemetry-0******"), &json!("192.168.xxx.xxx:36918"))
    );
}

#[test]
fn figures_that_lag_are_shown_as_they_were() {
    let mut cloud = Cloud::new();
    cloud.show("orders");
    cloud.publish("orders", 3);
    let status = "Action=QueryConsumerGroupStatus&GroupId=orders";
    assert_eq!(cloud.ask(status)["AccumulationCount"], 0);
    cloud.show("orders");
    assert_eq!(cloud.ask(status)["AccumulationCount"], 3);
}

#[test]
fn a_reset_clears_the_backlog_and_nothing_else() {
    let mut cloud = Cloud::new();
    cloud.publish("orders", 3);
    cloud.publish("DEFAULT_GROUP", 2);
    let xml = cloud.xml("Action=ResetConsumerGroupPosition&GroupId=orders");
    assert!(xml.contains("<ResetConsumerPositionResponse>"), "{xml}");
    let counts = cloud.platform.counts("orders").unwrap();
    assert_eq!((counts.published, counts.backlog, counts.dropped), (3, 0, 3));
    assert_eq!(cloud.platform.counts("DEFAULT_GROUP").unwrap().backlog, 2);
    let client = cloud.client("orders", "c", 10);
    cloud.pass(60);
    cloud.platform.tick(cloud.now);
    let mut pushed = Vec::new();
    cloud.platform.take_outgoing(client, 10, &mut pushed);
    assert!(pushed.is_empty(), "what was cleared is gone");
}

#[test]
fn subscriptions_are_made_changed_shown_and_ended() {
    let mut cloud = Cloud::new();
    let of = "&ProductKey=a1&Type=AMQP";
    let query = &format!("Action=QuerySubscribeRelation{of}");
    assert_eq!(cloud.fails(query), "iot.messagebroker.NotExistedSubscribeRelation");
    let create = format!("Action=CreateSubscribeRelation{of}&OtaEventFlag=true&ConsumerGroupIds.1=orders");
    assert_eq!(cloud.ask(&create), done());
    assert_eq!(cloud.fails(&create), "iot.messagebroker.AlreadyExistedSubscribeRelation");
    let shown = cloud.ask(query);
    let expected = json!({
        "DeviceDataFlag": false, "DeviceLifeCycleFlag": false, "DeviceStatusChangeFlag": false,
        "DeviceTopoLifeCycleFlag": false, "FoundDeviceListFlag": false, "OtaEventFlag": true, "ThingHistoryFlag": false,
        "DeviceTagFlag": false, "OtaVersionFlag": false, "OtaJobFlag": false,
        "ConsumerGroupIds": ["orders"], "ProductKey": "a1", "Type": "AMQP", "Success": true,
    });
    assert_eq!(shown, expected);
    assert!(cloud.xml(query).contains("<ConsumerGroupIds><e>orders</e></ConsumerGroupIds>"));

    let update = format!(
        "Action=UpdateSubscribeRelation{of}&DeviceDataFlag=true&ConsumerGroupIds.1=orders&ConsumerGroupIds.2=DEFAULT_GROUP"
    );
    assert_eq!(cloud.ask(&update), done());
    let shown = cloud.ask(query);
    assert_eq!((&shown["DeviceDataFlag"], &shown["OtaEventFlag"]), (&json!(true), &json!(false)), "left out is off");
    let relation = |action: &str, group: &str| {
        format!("Action={action}ConsumerGroupSubscribeRelation&ProductKey=a1&ConsumerGroupId={group}")
    };
    assert_eq!(cloud.ask(&relation("Delete", "DEFAULT_GROUP")), done());
    assert_eq!(cloud.fails(&relation("Delete", "orders")), "iot.messagebroker.LastConsumerGroupRelation");
    assert_eq!(cloud.ask(&relation("Create", "DEFAULT_GROUP")), done());
    assert_eq!(cloud.ask(query)["ConsumerGroupIds"], json!(["orders", "DEFAULT_GROUP"]));
    assert_eq!(cloud.fails("Action=DeleteConsumerGroup&GroupId=orders"), "iot.messagebroker.ConsumerGroupInUse");
    assert_eq!(cloud.ask(&format!("Action=DeleteSubscribeRelation{of}")), done());
    assert_eq!(cloud.ask("Action=DeleteConsumerGroup&GroupId=orders"), done());
}

#[test]
fn a_product_without_a_subscription_may_have_an_empty_one() {
    let mut cloud = Cloud::new();
    cloud.rules.unsubscribed = crate::config::Unsubscribed::Empty;
    let shown = cloud.ask("Action=QuerySubscribeRelation&ProductKey=a1&Type=AMQP");
    assert_eq!((&shown["Success"], &shown["ConsumerGroupIds"]), (&json!(true), &json!([])));
    assert_eq!(shown["DeviceDataFlag"], false);
}

#[test]
fn a_subscription_of_the_message_service_is_kept_apart() {
    let mut cloud = Cloud::new();
    let mns = "&ProductKey=a1&Type=MNS";
    let queue = r#"{"themeName":"t","regionName":"cn-shanghai","role":{"roleArn":"acs:ram::1:role/r","roleName":"r"}}"#;
    let create = format!("Action=CreateSubscribeRelation{mns}&DeviceDataFlag=true&MnsConfiguration=");
    for wrong in ["{}", "queue", &queue.replace("roleArn", "arn"), &queue.replace("\"t\"", "1")] {
        assert_eq!(cloud.fails(&format!("{create}{wrong}")), "iot.common.InvalidFormattedParameter", "{wrong}");
    }
    assert_eq!(cloud.ask(&format!("{create}{queue}")), done());
    let shown = cloud.ask(&format!("Action=QuerySubscribeRelation{mns}"));
    assert_eq!((&shown["MnsConfiguration"], &shown["ConsumerGroupIds"]), (&json!(queue), &Value::Null));
    assert_eq!(shown["OtaJobFlag"], Value::Null);
    assert_eq!(cloud.instances.route("/a1/dn/user/get"), [DEFAULT_GROUP], "to no queue of AMQP");
    let code = cloud.fails("Action=QuerySubscribeRelation&ProductKey=a1&Type=SMS");
    assert_eq!(code, "iot.common.InvalidFormattedParameter");
}

#[test]
fn what_is_missing_is_named_by_the_gateway() {
    let mut cloud = Cloud::new();
    for (query, name) in [
        ("Action=CreateConsumerGroup", "GroupName"),
        ("Action=UpdateConsumerGroup&GroupId=orders", "NewGroupName"),
        ("Action=QueryConsumerGroupStatus&GroupId=", "GroupId"),
        ("Action=QuerySubscribeRelation&Type=AMQP", "ProductKey"),
        ("Action=QuerySubscribeRelation&ProductKey=a1", "Type"),
        ("Action=CreateConsumerGroupSubscribeRelation&ProductKey=a1", "ConsumerGroupId"),
        ("Action=QueryConsumerGroupList&CurrentPage=1", "PageSize"),
    ] {
        let refusal = cloud.answer("all", &format!("{query}&IotInstanceId=one")).unwrap_err();
        assert!(refusal.code == "MissingParameter" && refusal.message.contains(name), "{query}: {refusal:?}");
    }
}

#[test]
fn instances_and_permissions_are_checked() {
    let mut cloud = Cloud::new();
    let status = "Action=QueryConsumerGroupStatus&GroupId=orders";
    cloud.publish("two/orders", 1);
    let in_instance = |cloud: &mut Cloud, key: &str, query: &str| cloud.json(key, query);
    let two = in_instance(&mut cloud, "all", &format!("{status}&IotInstanceId=two"));
    assert_eq!(two["AccumulationCount"], 1, "the groups of two instances are not the same");
    for (instance, code) in [
        ("&IotInstanceId=foreign", "iot.common.InvalidTenant"),
        ("&IotInstanceId=none", "iot.Sre.IotInstanceNotFound"),
        ("", "iot.Sre.IotInstanceNotFound"),
    ] {
        assert_eq!(in_instance(&mut cloud, "all", &format!("{status}{instance}"))["Code"], code, "{instance}");
    }
    assert_eq!(in_instance(&mut cloud, "reader", &format!("{status}&IotInstanceId=one"))["Success"], true);
    let reset = "Action=ResetConsumerGroupPosition&GroupId=orders&IotInstanceId=two";
    assert_eq!(in_instance(&mut cloud, "reader", reset)["Code"], "iot.common.RamActionPermissionDeny");
    assert_eq!(cloud.platform.counts("two/orders").unwrap().backlog, 1, "and it was not done");
}

#[test]
fn every_action_of_the_reference_is_there() {
    for name in [
        "CreateConsumerGroup",
        "CreateConsumerGroupSubscribeRelation",
        "CreateSubscribeRelation",
        "DeleteConsumerGroup",
        "DeleteConsumerGroupSubscribeRelation",
        "DeleteSubscribeRelation",
        "QueryConsumerGroupByGroupId",
        "QueryConsumerGroupList",
        "QueryConsumerGroupStatus",
        "QuerySubscribeRelation",
        "ResetConsumerGroupPosition",
        "UpdateConsumerGroup",
        "UpdateSubscribeRelation",
        "Pub",
        "RRpc",
        "GetDeviceStatus",
        "BatchGetDeviceState",
    ] {
        assert_eq!(action(name), Some(name));
    }
    assert_eq!(action("PubBroadcast"), None);
}
