//! Every row of the table in PLATFORM.md 3, its pitfalls, and a slow reading of the same table to compare with.

use proptest::prelude::*;

use super::*;

use MessageKind::{
    BatchPost, Custom, DownlinkReply, EventHistory, EventPost, Lifecycle, OtaJobStatus, OtaProgress, OtaResult,
    OtaVersion, PropertyHistory, PropertyPost, Status, SubDeviceFound, Tags, Topology, Unspecified,
};

/// The table, the more particular rows first; `*` is one segment of any kind, `#` one or more bytes to the end.
const TABLE: [(&str, MessageKind); 18] = [
    ("/as/mqtt/status/{pk}/{dn}", Status),
    ("/{pk}/{dn}/user/#", Custom),
    ("/{pk}/{dn}/thing/event/property/post", PropertyPost),
    ("/{pk}/{dn}/thing/event/batch/post", BatchPost),
    ("/{pk}/{dn}/thing/property/batch/post", BatchPost),
    ("/{pk}/{dn}/thing/event/*/post", EventPost),
    ("/{pk}/{dn}/thing/downlink/reply/message", DownlinkReply),
    ("/{pk}/{dn}/thing/lifecycle", Lifecycle),
    ("/{pk}/{dn}/thing/topo/lifecycle", Topology),
    ("/{pk}/{dn}/thing/list/found", SubDeviceFound),
    ("/{pk}/{dn}/thing/deviceinfo/update", Tags),
    ("/{pk}/{dn}/thing/event/property/history/post", PropertyHistory),
    ("/{pk}/{dn}/thing/event/*/history/post", EventHistory),
    ("/{pk}/{dn}/ota/upgrade", OtaResult),
    ("/{pk}/{dn}/ota/progress/post", OtaProgress),
    ("/{pk}/{dn}/ota/version/post", OtaVersion),
    ("/{pk}/*/*/ota/job/status", OtaJobStatus),
    ("#", Unspecified),
];

fn topic<'a>(kind: MessageKind, product_key: Option<&'a str>, device_name: Option<&'a str>) -> Topic<'a> {
    Topic { kind, product_key, device_name }
}

fn device(kind: MessageKind) -> Topic<'static> {
    topic(kind, Some("a1B2c3"), Some("dev-1"))
}

const NOTHING: Topic<'static> = Topic { kind: Unspecified, product_key: None, device_name: None };

#[test]
fn every_row_of_the_table_has_its_kind() {
    let rows = [
        ("/a1B2c3/dev-1/user/update", Custom),
        ("/as/mqtt/status/a1B2c3/dev-1", Status),
        ("/a1B2c3/dev-1/thing/event/property/post", PropertyPost),
        ("/a1B2c3/dev-1/thing/event/BrokenInfo/post", EventPost),
        ("/a1B2c3/dev-1/thing/property/batch/post", BatchPost),
        ("/a1B2c3/dev-1/thing/event/batch/post", BatchPost),
        ("/a1B2c3/dev-1/thing/downlink/reply/message", DownlinkReply),
        ("/a1B2c3/dev-1/thing/lifecycle", Lifecycle),
        ("/a1B2c3/dev-1/thing/topo/lifecycle", Topology),
        ("/a1B2c3/dev-1/thing/list/found", SubDeviceFound),
        ("/a1B2c3/dev-1/thing/deviceinfo/update", Tags),
        ("/a1B2c3/dev-1/thing/event/property/history/post", PropertyHistory),
        ("/a1B2c3/dev-1/thing/event/BrokenInfo/history/post", EventHistory),
        ("/a1B2c3/dev-1/ota/upgrade", OtaResult),
        ("/a1B2c3/dev-1/ota/progress/post", OtaProgress),
        ("/a1B2c3/dev-1/ota/version/post", OtaVersion),
    ];
    for (text, kind) in rows {
        assert_eq!(parse(text), device(kind), "{text}");
    }
    // Row p: the second segment is a package, not a device.
    assert_eq!(parse("/a1B2c3/pkg-1/job-1/ota/job/status"), topic(OtaJobStatus, Some("a1B2c3"), None));
}

#[test]
fn an_event_may_have_any_name() {
    for (text, kind) in [
        // Not to be told apart from the particular rows, which come first.
        ("/a1B2c3/dev-1/thing/event/property/post", PropertyPost),
        ("/a1B2c3/dev-1/thing/event/property/history/post", PropertyHistory),
        ("/a1B2c3/dev-1/thing/event/batch/post", BatchPost),
        // To be told apart.
        ("/a1B2c3/dev-1/thing/event/batch/history/post", EventHistory),
        ("/a1B2c3/dev-1/thing/event/batched/post", EventPost),
        ("/a1B2c3/dev-1/thing/event/propertyLost/post", EventPost),
        ("/a1B2c3/dev-1/thing/event/history/post", EventPost),
        ("/a1B2c3/dev-1/thing/event/history/history/post", EventHistory),
        ("/a1B2c3/dev-1/thing/event/post/post", EventPost),
        ("/a1B2c3/dev-1/thing/event/module:Alarm/post", EventPost),
    ] {
        assert_eq!(parse(text), device(kind), "{text}");
    }
}

#[test]
fn a_custom_topic_stays_one_whatever_follows() {
    for text in [
        "/a1B2c3/dev-1/user/thing/event/property/post",
        "/a1B2c3/dev-1/user/ota/job/status",
        "/a1B2c3/dev-1/user/ota/upgrade",
        "/a1B2c3/dev-1/user/a//b/",
        "/a1B2c3/dev-1/user//",
        "/a1B2c3/dev-1/user/温度",
    ] {
        assert_eq!(parse(text), device(Custom), "{text}");
    }
}

#[test]
fn names_that_look_like_parts_of_a_topic_are_still_names() {
    assert_eq!(parse("/thing/user/user/x"), topic(Custom, Some("thing"), Some("user")));
    assert_eq!(parse("/as/mqtt/user/x"), topic(Custom, Some("as"), Some("mqtt")));
    assert_eq!(parse("/as/mqtt/status/ota/job"), topic(Status, Some("ota"), Some("job")));
    assert_eq!(parse("/as/mqtt/status/ota/job/status"), topic(OtaJobStatus, Some("as"), None));
    assert_eq!(parse("/as/mqtt/thing/lifecycle"), topic(Lifecycle, Some("as"), Some("mqtt")));
    assert_eq!(parse("/a1B2c3/pkg-1/ota/ota/job/status"), topic(OtaJobStatus, Some("a1B2c3"), None));
    assert_eq!(parse("/产品/设备/thing/lifecycle"), topic(Lifecycle, Some("产品"), Some("设备")));
}

#[test]
fn anything_else_is_unspecified_and_no_error() {
    for text in [
        "",
        "/",
        "//",
        "///",
        "a1B2c3/dev-1/user/update",
        "//a1B2c3/dev-1/user/update",
        "//dev-1/user/update",
        "/a1B2c3//user/update",
        "/a1B2c3/dev-1",
        "/a1B2c3/dev-1/",
        "/a1B2c3/dev-1/user",
        "/a1B2c3/dev-1/user/",
        "/a1B2c3/dev-1/users/x",
        "/a1B2c3/dev-1/thing/event/property/post/",
        "/a1B2c3/dev-1//thing/event/property/post",
        "/a1B2c3/dev-1/thing/event//post",
        "/a1B2c3/dev-1/thing/event//history/post",
        "/a1B2c3/dev-1/thing/event/post",
        "/a1B2c3/dev-1/thing/event/a/b/post",
        "/a1B2c3/dev-1/thing/event/a/history",
        "/a1B2c3/dev-1/thing/lifecycle/",
        "/a1B2c3/dev-1/thing/Lifecycle",
        "/a1B2c3/dev-1/thing/lifecycle?x",
        "/a1B2c3/dev-1/thing/jobs/notify",
        "/a1B2c3/dev-1/ota/upgrade/",
        "/a1B2c3/dev-1/ota/job/status",
        "/a1B2c3/pkg-1//ota/job/status",
        "/a1B2c3/pkg-1/job-1/ota/job/status/",
        "/as/mqtt/status/a1B2c3",
        "/as/mqtt/status/a1B2c3/",
        "/as/mqtt/status//dev-1",
        "/as/mqtt/status/a1B2c3/dev-1/",
        "/as/mqtt/status/a1B2c3/dev-1/more",
        "/sys/a1B2c3/dev-1/thing/lifecycle",
        " /a1B2c3/dev-1/user/x",
    ] {
        assert_eq!(parse(text), NOTHING, "{text}");
    }
}

/// Reads the table segment by segment.
fn by_table(text: &str) -> Topic<'_> {
    let matched = TABLE.iter().find_map(|(pattern, kind)| by_pattern(text, pattern, *kind));
    matched.unwrap_or(NOTHING)
}

fn by_pattern<'a>(text: &'a str, pattern: &str, kind: MessageKind) -> Option<Topic<'a>> {
    let mut found = topic(kind, None, None);
    let (mut text, mut pattern) = (Some(text), Some(pattern));
    loop {
        let (Some(t), Some(p)) = (text, pattern) else {
            return (text.is_none() && pattern.is_none()).then_some(found);
        };
        let (t_first, t_rest) = t.split_once('/').map_or((t, None), |(first, rest)| (first, Some(rest)));
        let (p_first, p_rest) = p.split_once('/').map_or((p, None), |(first, rest)| (first, Some(rest)));
        match p_first {
            "#" => return (!t.is_empty()).then_some(found),
            "{pk}" | "{dn}" | "*" if t_first.is_empty() => return None,
            "{pk}" => found.product_key = Some(t_first),
            "{dn}" => found.device_name = Some(t_first),
            "*" => {}
            _ if p_first == t_first => {}
            _ => return None,
        }
        (text, pattern) = (t_rest, p_rest);
    }
}

/// Topics made of the words that mean something, so that many of them nearly are one of the table.
fn near_topics() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        proptest::sample::select(vec![
            "as",
            "mqtt",
            "status",
            "user",
            "thing",
            "event",
            "property",
            "batch",
            "post",
            "history",
            "ota",
            "job",
            "version",
            "progress",
            "upgrade",
            "lifecycle",
            "topo",
            "list",
            "found",
            "downlink",
            "reply",
            "message",
            "deviceinfo",
            "update",
            ""
        ])
        .prop_map(str::to_owned),
        "[a-z0-9]{1,4}",
    ];
    let free = proptest::collection::vec(word.clone(), 0..8).prop_map(|words| words.join("/"));
    let filled = (proptest::sample::select(TABLE.to_vec()), proptest::collection::vec(word, 4), "(|/|/x)").prop_map(
        |((pattern, _), words, tail)| {
            let mut words = words.into_iter();
            let mut next = move || words.next().unwrap_or_default();
            let filled: Vec<String> = pattern
                .split('/')
                .map(|part| if matches!(part, "{pk}" | "{dn}" | "*" | "#") { next() } else { part.to_owned() })
                .collect();
            filled.join("/") + &tail
        },
    );
    prop_oneof![free.clone(), free.prop_map(|text| format!("/{text}")), filled]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn the_fast_reading_is_that_of_the_table(text in near_topics()) {
        prop_assert_eq!(parse(&text), by_table(&text));
    }

    #[test]
    fn any_text_at_all_is_read(text in "\\PC*", slashes in "[/a\u{0}é]{0,40}") {
        prop_assert_eq!(parse(&text), by_table(&text));
        prop_assert_eq!(parse(&slashes), by_table(&slashes));
    }

    #[test]
    fn a_known_kind_names_its_product_and_all_but_jobs_their_device(text in near_topics()) {
        let topic = parse(&text);
        prop_assert_eq!(topic.product_key.is_some(), topic.kind != Unspecified);
        prop_assert_eq!(topic.device_name.is_some(), !matches!(topic.kind, Unspecified | OtaJobStatus));
    }
}
