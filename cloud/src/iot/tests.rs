//! Every action against its documented example, and what is read of answers that are not quite like it.

use proptest::prelude::*;

use super::*;
use crate::answer::{Action, judge};

fn instance() -> Instance {
    Instance { region: "cn-shanghai".into(), id: None }
}

fn at(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

/// The parameters that an example shows, of the call that `action` makes; each call also names its region.
fn asks<A: Action>(action: &A, expected: &str) {
    let call = action.call();
    let mut shown = Params::parse(expected).unwrap();
    assert_eq!((call.action, call.version), (shown.get("Action").unwrap(), VERSION));
    assert_eq!(A::NAME, call.action);
    shown.set("RegionId", "cn-shanghai");
    let own: Vec<_> = shown.iter().filter(|(name, _)| *name != "Action").collect();
    assert_eq!(call.params.iter().collect::<Vec<_>>(), own);
}

fn answers<A: Action>(action: &A, body: &str) -> A::Answer {
    judge(A::NAME, 200, body.as_bytes()).unwrap();
    action.read(body.as_bytes()).unwrap()
}

const DONE: &str = r#"{"RequestId": "73B9DF43-7780-47DE-8BED-077729D28BD2", "Success": true}"#;

#[test]
fn groups_are_made_and_removed_as_documented() {
    let create = CreateConsumerGroup { instance: instance(), name: "消费组1".into() };
    asks(&create, "Action=CreateConsumerGroup&GroupName=消费组1");
    let body = r#"{"GroupId": "nJRaJPn5U1JITGf******", "RequestId": "73B9DF43-7780", "Success": true}"#;
    assert_eq!(answers(&create, body), "nJRaJPn5U1JITGf******");
    assert!(create.read(DONE.as_bytes()).is_err());

    let delete = DeleteConsumerGroup { instance: instance(), group_id: "nJRaJPn5U1JITGf******".into() };
    asks(&delete, "Action=DeleteConsumerGroup&GroupId=nJRaJPn5U1JITGf******");
    answers(&delete, DONE);
}

#[test]
fn a_group_is_read_as_documented() {
    let query = QueryConsumerGroupByGroupId { instance: instance(), group_id: "nJRaJPn5U1JITGf******".into() };
    asks(&query, "Action=QueryConsumerGroupByGroupId&GroupId=nJRaJPn5U1JITGf******");
    let group = answers(
        &query,
        r#"{
          "Data": {
                "GroupId": "nJRaJPn5U1JITGf******",
                "GroupName": "消费组1",
                "CreateTime": "2019-11-12T11:19:13.000Z"
            },
          "RequestId": "73B9DF43-7780-47DE-8BED-077729D28BD2",
          "Success": true
        }"#,
    );
    assert_eq!(group.id, "nJRaJPn5U1JITGf******");
    assert_eq!(group.name.as_deref(), Some("消费组1"));
    assert_eq!(group.created, Some(at("2019-11-12T11:19:13Z")));
    let bare = answers(&query, r#"{"Data":{"GroupId":"g","CreateTime":0}}"#);
    assert_eq!(bare, ConsumerGroup { id: "g".into(), name: None, created: None });
}

#[test]
fn a_page_of_groups_is_read_as_documented() {
    let query = QueryConsumerGroupList {
        instance: instance(),
        page: 1,
        page_size: PageSize::try_new(2).unwrap(),
        name_contains: Some("A类消费组".into()),
    };
    asks(&query, "Action=QueryConsumerGroupList&CurrentPage=1&PageSize=2&Fuzzy=true&GroupName=A类消费组");
    let page = answers(
        &query,
        r#"{
            "PageSize": 2, "PageCount": 4, "CurrentPage": 1, "Total": 8,
            "Data": {"ConsumerGroupDTO": [
                {"GroupId": "nJRaJPn5U1JITGf******", "GroupName": "A类消费组1", "CreateTime": "2020-05-29T03:37:56.000Z"},
                {"GroupId": "qJRaJPndeefwgef******", "GroupName": "A类消费组2", "CreateTime": "2020-01-17T07:27:01.000Z"}
            ]},
            "RequestId": "73B9DF43-7780-47DE-8BED-077729D28BD2", "Success": true
        }"#,
    );
    assert_eq!(page.pages, 4);
    assert_eq!(page.groups[1].id, "qJRaJPndeefwgef******");
    assert_eq!(page.groups[1].created, Some(at("2020-01-17T07:27:01Z")));
    assert!(answers(&query, r#"{"PageCount":0,"Success":true}"#).groups.is_empty());
    assert_eq!((PageSize::try_new(0), PageSize::try_new(1001)), (None, None));
    let all = QueryConsumerGroupList { name_contains: None, page_size: PageSize::MAX, ..query };
    asks(&all, "Action=QueryConsumerGroupList&CurrentPage=1&PageSize=1000");
}

fn status() -> QueryConsumerGroupStatus {
    QueryConsumerGroupStatus { instance: instance(), group_id: "nJRaJPn5U1JITGf******".into() }
}

#[test]
fn the_figures_of_a_group_are_read_as_documented() {
    asks(&status(), "Action=QueryConsumerGroupStatus&GroupId=nJRaJPn5U1JITGf******");
    let figures = answers(
        &status(),
        r#"{
          "AccumulationCount": 13,
          "ConsumerSpeed": 14,
          "ClientConnectionStatusList": {
                "ConsumerGroupClientConnectionInfo": [
                    {
                        "ClientId": "868575026******",
                        "OnlineTime": 1591240546649,
                        "ClientIpPort": "192.168.xxx.xxx:36918"
                    }
                ]
            },
          "LastConsumerTime":"2020-05-29T03:37:56.000Z",
          "RequestId": "73B9DF43-7780-47DE-8BED-077729D28BD2",
          "Success": true
        }"#,
    );
    assert_eq!((figures.backlog, figures.consumed_per_minute), (Some(13), Some(14)));
    assert_eq!(figures.last_consumed, Some(at("2020-05-29T03:37:56Z")));
    assert_eq!((figures.backlog_per_minute, figures.real_time_per_minute), (None, None));
    let [client] = &figures.clients[..] else { panic!("one client, not {}", figures.clients.len()) };
    assert_eq!(client.online_since, Some(at("2020-06-04T03:15:46.649Z")));
    assert_eq!(client.address.as_deref(), Some("192.168.xxx.xxx:36918"));
    assert_eq!(client.id.as_ref().unwrap().as_str(), "868575026******");
}

#[test]
fn the_newer_figures_are_read_for_the_group_and_for_each_client() {
    let figures = answers(
        &status(),
        r#"{"AccumulationCount":"7","ConsumerSpeed":3,"AccumulatedConsumeCountPerMinute":1,"RealTimeConsumeCountPerMinute":2,
            "ClientConnectionStatusList":{"ConsumerGroupClientConnectionInfo":[
                {"ClientId":"a","AccumulatedConsumeCountPerMinute":4,"RealTimeConsumeCountPerMinute":5}]},"Success":true}"#,
    );
    assert_eq!(figures.backlog, Some(7));
    assert_eq!((figures.backlog_per_minute, figures.real_time_per_minute), (Some(1), Some(2)));
    assert_eq!((figures.clients[0].backlog_per_minute, figures.clients[0].real_time_per_minute), (Some(4), Some(5)));
}

#[test]
fn a_figure_that_is_odd_is_unknown_and_the_others_still_count() {
    for (list, clients) in [("null", 0), ("{}", 0), ("\"\"", 0), ("[]", 0), (r#"[{"ClientId":1},2,{}]"#, 2)] {
        let body = format!(
            r#"{{"AccumulationCount":-1,"ConsumerSpeed":9,"LastConsumerTime":"soon","ClientConnectionStatusList":{list}}}"#
        );
        let figures = answers(&status(), &body);
        assert_eq!((figures.backlog, figures.consumed_per_minute, figures.last_consumed), (None, Some(9), None));
        assert_eq!(figures.clients.len(), clients, "{list}");
    }
    assert_eq!(answers(&status(), "{}"), GroupStatus::default());
    assert!(status().read(b"[").is_err());
}

#[test]
fn a_masked_id_stands_for_what_it_shows() {
    let body = |id: &str| format!(r#"{{"ClientConnectionStatusList":[{{"ClientId":"{id}"}}]}}"#);
    let masked = |id: &str| answers(&status(), &body(id)).clients.remove(0).id.unwrap();
    for (shown, id, may_be) in [
        ("868575026******", "868575026123456", true),
        ("868575026******", "868575026", true),
        ("868575026******", "868575027123456", false),
        ("a***z", "abcz", true),
        ("a***z", "abc", false),
        ("ab***ba", "aba", false),
        ("plain", "plain", true),
        ("plain", "plainer", false),
    ] {
        assert_eq!(masked(shown).may_be(id), may_be, "{shown} {id}");
    }
}

fn query_subscription() -> QuerySubscribeRelation {
    QuerySubscribeRelation { instance: instance(), product_key: "a1Zkii7****".into() }
}

const SUBSCRIPTION: &str = r#"{
  "DeviceLifeCycleFlag": false,
  "RequestId": "73B9DF43-7780-47DE-8BED-077729D28BD2",
  "DeviceDataFlag": false,
  "DeviceTopoLifeCycleFlag": false,
  "DeviceStatusChangeFlag": false,
  "ConsumerGroupIds": [
    "Xs95KifeaSKbi8tKkcoD00****"
  ],
  "Success": true,
  "ThingHistoryFlag": false,
  "Type": "AMQP",
  "FoundDeviceListFlag": false,
  "OtaEventFlag": true,
  "ProductKey": "a1Zkii7****"
}"#;

#[test]
fn a_subscription_is_read_as_documented() {
    asks(&query_subscription(), "Action=QuerySubscribeRelation&ProductKey=a1Zkii7****&Type=AMQP");
    let found = answers(&query_subscription(), SUBSCRIPTION);
    assert_eq!(found.product_key, "a1Zkii7****");
    assert_eq!(found.group_ids, ["Xs95KifeaSKbi8tKkcoD00****"]);
    let on: Vec<_> = MessageType::ALL.into_iter().filter(|message| found.flags.is_on(*message)).collect();
    assert_eq!(on, [MessageType::OtaEvent]);
    assert_eq!(found.flags.iter().count(), 7);
    assert!(answers(&query_subscription(), DONE).group_ids.is_empty());
}

#[test]
fn a_subscription_that_can_t_be_read_whole_is_not_read_at_all() {
    for (from, to) in [
        ("[\n    \"Xs95KifeaSKbi8tKkcoD00****\"\n  ]", "\"Xs95\""),
        ("[\n    \"Xs95KifeaSKbi8tKkcoD00****\"\n  ]", "{\"e\":[]}"),
        ("\"OtaEventFlag\": true", "\"OtaEventFlag\": 1"),
        ("a1Zkii7****", "another"),
        ("\"AMQP\"", "\"MNS\""),
    ] {
        assert!(SUBSCRIPTION.contains(from), "{from}");
        let body = SUBSCRIPTION.replace(from, to);
        assert!(query_subscription().read(body.as_bytes()).is_err(), "{to}");
    }
    let text = SUBSCRIPTION.replace("\"OtaEventFlag\": true", "\"OtaEventFlag\": \"true\"");
    assert!(answers(&query_subscription(), &text).flags.is_on(MessageType::OtaEvent));
}

#[test]
fn a_subscription_is_made_as_documented() {
    let subscription = Subscription {
        product_key: "a1Zkii7****".into(),
        flags: Flags::of([MessageType::OtaEvent]),
        group_ids: vec!["Xs95KifeaSKbi8tKkcoD00****".into()],
    };
    let shown = "OtaEventFlag=true&ProductKey=a1Zkii7****&Type=AMQP&ConsumerGroupIds.1=Xs95KifeaSKbi8tKkcoD00****";
    let create = CreateSubscribeRelation { instance: instance(), subscription: subscription.clone() };
    asks(&create, &format!("Action=CreateSubscribeRelation&{shown}"));
    answers(&create, DONE);
    let update = UpdateSubscribeRelation { instance: instance(), subscription };
    asks(&update, &format!("Action=UpdateSubscribeRelation&{shown}"));
    answers(&update, DONE);
}

#[test]
fn an_update_says_again_all_that_was_read_also_what_is_not_known_here() {
    let body = SUBSCRIPTION.replace("\"Success\": true", "\"Success\": true, \"NewKindFlag\": true");
    let found = answers(&query_subscription(), &body);
    let more = Subscription { flags: found.flags.clone().with(MessageType::DeviceData), ..found };
    let params = UpdateSubscribeRelation { instance: instance(), subscription: more }.call().params;
    for (name, value) in [
        ("NewKindFlag", "true"),
        ("OtaEventFlag", "true"),
        ("DeviceDataFlag", "true"),
        ("ThingHistoryFlag", "false"),
        ("ConsumerGroupIds.1", "Xs95KifeaSKbi8tKkcoD00****"),
    ] {
        assert_eq!(params.get(name), Some(value), "{name}");
    }
}

#[test]
fn a_group_is_added_and_taken_away_as_documented() {
    let (product_key, group_id) = ("a1Zkii7****".to_owned(), "nJRaJPn5U1JITGfjBO9l00****".to_owned());
    let shown = "ProductKey=a1Zkii7****&ConsumerGroupId=nJRaJPn5U1JITGfjBO9l00****";
    let add = CreateConsumerGroupSubscribeRelation {
        instance: instance(),
        product_key: product_key.clone(),
        group_id: group_id.clone(),
    };
    asks(&add, &format!("Action=CreateConsumerGroupSubscribeRelation&{shown}"));
    answers(&add, DONE);
    let remove = DeleteConsumerGroupSubscribeRelation { instance: instance(), product_key, group_id };
    asks(&remove, &format!("Action=DeleteConsumerGroupSubscribeRelation&{shown}"));
    answers(&remove, DONE);
}

#[test]
fn an_instance_is_named_if_it_has_an_id_and_only_then() {
    let named = Instance { id: Some("iot-06z00".into()), ..instance() };
    let call = QueryConsumerGroupStatus { instance: named, ..status() }.call();
    assert_eq!(call.params.get("IotInstanceId"), Some("iot-06z00"));
    let empty = Instance { id: Some(String::new()), ..instance() };
    assert_eq!(QueryConsumerGroupStatus { instance: empty, ..status() }.call().params.get("IotInstanceId"), None);
    assert_eq!(host("cn-shanghai"), "iot.cn-shanghai.aliyuncs.com");
}

/// JSON of any shape, with the names that mean something.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "\\PC{0,8}|-?[0-9]{1,22}|2020-0[0-9]-29T03:37:56.000Z".prop_map(Into::into),
    ];
    let name = proptest::sample::select(vec![
        "AccumulationCount",
        "ConsumerSpeed",
        "ClientConnectionStatusList",
        "ConsumerGroupClientConnectionInfo",
        "ClientId",
        "OnlineTime",
        "LastConsumerTime",
        "ConsumerGroupIds",
        "OtaEventFlag",
        "Success",
        "Code",
        "Data",
        "ConsumerGroupDTO",
        "PageCount",
        "GroupId",
        "RequestId",
        "ErrorMessage",
    ]);
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::btree_map(name.clone(), inner, 0..6).prop_map(|members| {
                members
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect::<serde_json::Map<_, _>>()
                    .into()
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_answer_at_all_is_read_or_refused(body in json(), status_code in 100u16..600) {
        let body = body.to_string().into_bytes();
        let judged = judge("Pub", status_code, &body);
        prop_assert!((200..300).contains(&status_code) || judged.is_err());
        if body.starts_with(b"{") {
            prop_assert!(status().read(&body).is_ok(), "figures are read generously");
        }
        let _ = query_subscription().read(&body);
        let list = QueryConsumerGroupList { instance: instance(), page: 1, page_size: PageSize::MAX, name_contains: None };
        let _ = list.read(&body);
    }
}
