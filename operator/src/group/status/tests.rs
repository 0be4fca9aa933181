use super::*;
use crate::group::build;
use crate::group::fixtures::{self, AT};
use crate::group::plan::{self, Past, Truth};

fn wall(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn status_of(rate: u32, up: bool, old: &ConsumerGroupStatus, second: i64) -> ConsumerGroupStatus {
    let object = fixtures::object(|_| {});
    let mut world = fixtures::world(&object, 1);
    let group = fixtures::validated(&object, &world);
    for sidecar in world.sidecars.as_mut().unwrap().pods.values_mut() {
        sidecar.up = up;
        sidecar.figures.as_mut().unwrap().accepted_per_second = rate;
    }
    let plan = plan::plan(&Ok(group), &world, &mut Past::default(), AT);
    build::status(&fixtures::name(), 3, &plan, old, wall(second))
}

fn after(seconds: u64) -> Time {
    AT + Duration::from_secs(seconds)
}

#[test]
fn a_status_that_says_the_same_is_never_written_again() {
    let first = status_of(50, true, &ConsumerGroupStatus::default(), 0);
    assert_eq!(due(&ConsumerGroupStatus::default(), &first, None, AT), Due::Now);
    let second = status_of(50, true, &first, 900);
    assert_eq!(due(&first, &second, Some(AT), after(900)), Due::Never);
    // Nor if only the exact figure has moved.
    let first = status_of(1_000, true, &first, 0);
    assert_eq!(due(&first, &status_of(1_020, true, &first, 900), Some(AT), after(900)), Due::Never);
}

#[test]
fn figures_wait_for_half_a_minute_and_a_condition_does_not() {
    let first = status_of(50, true, &ConsumerGroupStatus::default(), 0);
    let moved = status_of(80, true, &first, 5);
    assert_eq!(due(&first, &moved, Some(AT), after(5)), Due::At(after(30)));
    assert_eq!(due(&first, &moved, Some(AT), after(30)), Due::Now);
    let down = status_of(50, false, &first, 5);
    assert_eq!(due(&first, &down, Some(AT), after(5)), Due::Now);
}

#[test]
fn a_plan_that_is_not_carried_out_waits_as_figures_do() {
    let first = status_of(50, true, &ConsumerGroupStatus::default(), 0);
    let planned = |paused: bool, replicas: i32| {
        let mut status = first.clone();
        status.plan.as_mut().unwrap().replicas = replicas;
        if paused {
            let scaling = status.conditions.iter_mut().find(|condition| condition.type_ == "Scaling").unwrap();
            (scaling.status, scaling.reason) = ("False".into(), "Paused".into());
        }
        status
    };
    assert_eq!(due(&planned(true, 3), &planned(true, 4), Some(AT), after(5)), Due::At(after(30)));
    assert_eq!(due(&planned(false, 3), &planned(false, 4), Some(AT), after(5)), Due::Now);
    assert_eq!(due(&planned(false, 3), &planned(true, 3), Some(AT), after(5)), Due::Now);
}

#[test]
fn a_transition_has_the_time_of_its_change_alone() {
    let ready = |status: &ConsumerGroupStatus| {
        let found = status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
        (found.status.clone(), found.last_transition_time.0)
    };
    let first = status_of(50, true, &ConsumerGroupStatus::default(), 0);
    assert_eq!(ready(&first), (Truth::True.as_str().to_owned(), wall(0)));
    let second = status_of(70, true, &first, 60);
    assert_eq!(ready(&second).1, wall(0));
    assert_eq!(ready(&status_of(70, false, &second, 90)), (Truth::False.as_str().to_owned(), wall(90)));
}

#[test]
fn what_this_process_wrote_counts_until_the_watch_has_told_of_it() {
    let (told, wrote) = (
        status_of(50, true, &ConsumerGroupStatus::default(), 0),
        status_of(80, true, &ConsumerGroupStatus::default(), 0),
    );
    let written = Written { last: Some((12, wrote.clone())), at: Some(AT) };
    assert_eq!(written.present(Some("11"), Some(&told)), wrote);
    assert_eq!(written.present(Some("12"), Some(&told)), told);
    assert_eq!(written.present(Some("13"), Some(&told)), told);
    assert_eq!(written.present(Some("13"), None), wrote, "one that can't be read is not written for ever");
    assert_eq!(Written::default().present(Some("1"), Some(&told)), told);
}
