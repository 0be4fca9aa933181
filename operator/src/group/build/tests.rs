use sluice_crds::status::Reason;

use super::*;
use crate::group::plan::{Advice, Figures};

fn wall() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn name() -> GroupRef {
    GroupRef::new("plant-a", "telemetry")
}

fn verdict(kind: ConditionType, truth: Option<Truth>, reason: Reason) -> Verdict {
    Verdict { kind, truth, reason, message: format!("{reason} it is") }
}

fn of(verdicts: Vec<Verdict>, generation: i64, old: &ConsumerGroupStatus) -> ConsumerGroupStatus {
    status(&name(), generation, &Plan { verdicts, keep: Keep::Sidecars, ..Plan::default() }, old, wall())
}

fn ready(truth: Truth, reason: Reason) -> Vec<Verdict> {
    vec![verdict(ConditionType::Ready, Some(truth), reason)]
}

#[test]
fn what_is_not_known_yet_leaves_what_was_said_of_this_generation() {
    let empty = ConsumerGroupStatus::default();
    let first = of(ready(Truth::True, Reason::Consuming), 1, &empty);
    let unsure = || vec![verdict(ConditionType::Ready, None, Reason::Connecting)];
    assert_eq!(of(unsure(), 1, &first).conditions, first.conditions);
    let next = &of(unsure(), 2, &first).conditions[0];
    assert_eq!((next.status.as_str(), next.observed_generation), ("Unknown", Some(2)));
    assert_eq!(of(unsure(), 1, &empty).conditions[0].status, "Unknown");
}

#[test]
fn figures_are_rounded_and_those_of_sidecars_not_taken_back() {
    let figures = Figures {
        replicas: Some(4),
        slots: Some((3, 64)),
        backlog: Some((123_456, Some(617))),
        rate: Some(1_234),
        plan: Some((5, "busy".into())),
        sidecars: Some((3, 0, 1)),
    };
    let full = status(&name(), 1, &Plan { figures, ..Plan::default() }, &ConsumerGroupStatus::default(), wall());
    assert_eq!(full.selector.as_deref(), Some("sluice.dev/consumer-group=telemetry"));
    assert_eq!(full.slots.as_ref().unwrap().summary, "3/64");
    assert_eq!((full.rate, full.backlog.as_ref().unwrap().messages), (Some(1_200), 120_000));
    assert_eq!(full.backlog.as_ref().unwrap().drain_eta.unwrap().to_string(), "11m");
    let later = of(vec![], 1, &full);
    let kept = full.clone();
    assert_eq!((later.slots, later.rate, later.sidecars), (kept.slots, kept.rate, kept.sidecars));
    assert_eq!((later.backlog, later.plan), (None, None));
    let wait = |kind| verdict(kind, None, Reason::FiguresStale);
    let waiting = of(vec![wait(ConditionType::Scaling), wait(ConditionType::BacklogExpiring)], 1, &full);
    assert_eq!(
        (waiting.backlog, waiting.plan),
        (full.backlog, full.plan),
        "whoever has just begun to lead knows no better"
    );
}

#[test]
fn what_passes_leaves_the_rest_of_the_status_and_what_lasts_takes_it_away() {
    let figures = Figures {
        replicas: Some(4),
        slots: Some((3, 64)),
        backlog: Some((100, None)),
        rate: Some(10),
        plan: Some((5, "busy".into())),
        sidecars: Some((3, 0, 1)),
    };
    let mut verdicts = ready(Truth::True, Reason::Consuming);
    verdicts.push(verdict(ConditionType::Scaling, Some(Truth::True), Reason::Active));
    let plan = Plan { verdicts, figures, ..Plan::default() };
    let full = status(&name(), 1, &plan, &ConsumerGroupStatus::default(), wall());
    let bad = |keep| {
        let plan = Plan { verdicts: ready(Truth::False, Reason::CaBundleInvalid), keep, ..Plan::default() };
        status(&name(), 2, &plan, &full, wall())
    };
    let passing = bad(Keep::All);
    assert_eq!(passing.conditions[0].status, "False");
    assert_eq!(passing.conditions[1..], full.conditions[1..]);
    let rest = |status: &ConsumerGroupStatus| {
        let status = status.clone();
        (status.slots, status.backlog, status.rate, status.plan, status.sidecars)
    };
    assert_eq!(rest(&passing), rest(&full));
    let lasting = bad(Keep::Nothing);
    assert_eq!((lasting.conditions.len(), rest(&lasting)), (1, (None, None, None, None, None)));
}

#[test]
fn patches_say_what_they_rest_on() {
    let scale = ScaleTo { from: 1, replicas: 2, version: "77".into(), reason: String::new() };
    assert_eq!(scale_patch(&scale), json!({"metadata": {"resourceVersion": "77"}, "spec": {"replicas": 2}}));
    let cost = Cost { pod: "p".into(), uid: "u".into(), cost: None };
    let expected = json!({"metadata": {"uid": "u", "annotations": {DELETION_COST: null}}});
    assert_eq!(cost_patch(&cost), expected);
    let patch = status_patch(&name(), &ConsumerGroupStatus::default());
    assert_eq!((&patch["metadata"]["name"], &patch["metadata"]["namespace"]), (&json!("telemetry"), &json!("plant-a")));
    assert!(patch["metadata"].get("resourceVersion").is_none() && patch.get("spec").is_none());
}

#[test]
fn events_tell_of_changes_once() {
    let empty = ConsumerGroupStatus::default();
    let connecting = of(ready(Truth::False, Reason::Connecting), 1, &empty);
    assert_eq!(notices(&empty, &connecting, &[]), [], "a beginning is nothing to tell of");
    let good = of(ready(Truth::True, Reason::Consuming), 1, &connecting);
    let told = notices(&connecting, &good, &[]);
    assert_eq!((told.len(), told[0].warning, told[0].reason.as_str()), (1, false, "Consuming"));
    assert_eq!(notices(&good, &good, &[]), []);
    let bad = of(ready(Truth::False, Reason::NotConnected), 1, &good);
    assert!(notices(&good, &bad, &[])[0].warning);
    assert_eq!(notices(&bad, &of(ready(Truth::False, Reason::SidecarMissing), 1, &bad), &[]).len(), 1);
    let unknown = of(ready(Truth::Unknown, Reason::Connecting), 1, &bad);
    assert_eq!(notices(&bad, &unknown, &[]), []);
    assert_eq!(notices(&unknown, &good, &[]).len(), 1, "it begins to work");
    // What was not known for a while and is as it was is no news; what turns out bad is.
    let scaling = |truth, reason| of(vec![verdict(ConditionType::Scaling, Some(truth), reason)], 1, &empty);
    let (stale, active) = (scaling(Truth::Unknown, Reason::FiguresStale), scaling(Truth::True, Reason::Active));
    assert_eq!(notices(&stale, &active, &[]), []);
    assert_eq!(notices(&stale, &scaling(Truth::False, Reason::TargetContested), &[]).len(), 1);
}

#[test]
fn an_alarm_is_bad_when_it_is_true() {
    let alarm = |truth, reason| {
        of(vec![verdict(ConditionType::AtCapacity, Some(truth), reason)], 1, &ConsumerGroupStatus::default())
    };
    let (calm, loud) = (alarm(Truth::False, Reason::WithinCapacity), alarm(Truth::True, Reason::SlotsExhausted));
    assert_eq!(notices(&ConsumerGroupStatus::default(), &calm, &[]), []);
    assert_eq!(notices(&alarm(Truth::Unknown, Reason::WithinCapacity), &calm, &[]), []);
    assert!(notices(&calm, &loud, &[])[0].warning);
    assert!(!notices(&loud, &calm, &[])[0].warning);
}

#[test]
fn what_is_wrong_with_pods_is_told_again_only_when_it_is_something_else() {
    let advice =
        |pods: &str| Advice { reason: "GracePeriodTooShort", message: format!("it is too short (pods {pods})") };
    let with = |message: &str| {
        let mut verdicts = ready(Truth::True, Reason::Consuming);
        verdicts[0].message = message.to_owned();
        of(verdicts, 1, &ConsumerGroupStatus::default())
    };
    let (before, after) = (with("3 of 3"), with("3 of 3; it is too short (pods a)"));
    assert_eq!(notices(&before, &after, &[advice("a")])[0].reason, "GracePeriodTooShort");
    assert_eq!(notices(&after, &with("3 of 3; it is too short (pods b)"), &[advice("b")]), []);
    // While the status does not show it, it would be told with every write.
    assert_eq!(notices(&before, &before, &[advice("a")]), []);
}

#[test]
fn a_text_is_cut_between_characters() {
    assert_eq!(cut("abc", 3), "abc");
    for most in 4..12 {
        let text = cut("ééééééééé", most);
        assert!(text.len() <= most && text.ends_with('…'), "{text}");
    }
}
