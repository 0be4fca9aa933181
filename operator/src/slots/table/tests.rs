use proptest::prelude::*;

use super::*;

fn group() -> PlatformGroup {
    PlatformGroup { instance: "iot-06z00abcd".into(), group_id: "DEFAULT_GROUP".into() }
}

fn holder(epoch: u64, pod: &str, slots: &[u32]) -> Holder {
    Holder {
        slots: slots.iter().copied().map(SlotIndex).collect(),
        epoch: Epoch(epoch),
        pod: PodRef::new(pod, "ns", pod),
        consumer_group: GroupRef::new("ns", "telemetry"),
        told_on: StreamOrder { process: 9, stream: 2 },
        attempts_alone: 1,
        linger_ms: 60_000,
        after_restart: false,
    }
}

fn parse(table: &Table) -> Result<Table, TableError> {
    Table::parse(&group(), Some(&table.to_json()))
}

#[test]
fn the_stored_form_is_a_contract() {
    let mut table = Table::new(group());
    table.next_epoch = Epoch(6);
    table.holders.push(holder(5, "p", &[0, 3]));
    assert_eq!(
        table.to_json(),
        r#"{"schemaVersion":1,"group":{"instance":"iot-06z00abcd","groupId":"DEFAULT_GROUP"},"nextEpoch":6,"holders":[{"slots":[0,3],"epoch":5,"pod":{"uid":"p","namespace":"ns","name":"p"},"consumerGroup":{"namespace":"ns","name":"telemetry"},"process":9,"stream":2,"attemptsAlone":1,"lingerMs":60000}]}"#
    );
    assert_eq!(parse(&table), Ok(table));
}

#[test]
fn the_name_tells_instance_and_group_apart() {
    let name = group().config_map_name();
    assert_eq!(name.len(), "sluice-slots-".len() + 16);
    let moved = PlatformGroup { instance: "iot-06z00abcdD".into(), group_id: "EFAULT_GROUP".into() };
    assert_ne!(moved.config_map_name(), name);
}

#[test]
fn what_can_not_be_worked_with_is_refused_in_words() {
    let message = |stored: Option<&str>| Table::parse(&group(), stored).unwrap_err().to_string();
    assert!(message(None).contains("no key `table`"));
    assert!(message(Some("{")).contains("can't be read"));
    let newer = message(Some(r#"{"schemaVersion":2,"slots":{}}"#));
    assert!(newer.contains("schema version 2") && newer.contains("run an operator that understands it"), "{newer}");
    let mut other = Table::new(group());
    other.group.group_id = "another".into();
    assert!(matches!(parse(&other), Err(TableError::Group { .. })));
}

#[test]
fn a_table_that_contradicts_itself_is_refused() {
    let of = |holders: &[Holder]| {
        let mut table = Table::new(group());
        table.next_epoch = Epoch(9);
        table.holders = holders.to_vec();
        parse(&table)
    };
    assert!(of(&[holder(1, "p", &[0]), holder(2, "q", &[1])]).is_ok());
    for wrong in [
        vec![holder(1, "p", &[0]), holder(2, "q", &[0])],
        vec![holder(1, "p", &[0]), holder(2, "p", &[1])],
        vec![holder(2, "p", &[0]), holder(1, "q", &[1])],
        vec![holder(9, "p", &[0])],
        vec![holder(1, "p", &[])],
    ] {
        assert!(matches!(of(&wrong), Err(TableError::Contradiction { .. })), "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn nothing_that_is_stored_makes_it_panic(stored in ".{0,300}") {
        let _ = Table::parse(&group(), Some(&stored));
    }

    #[test]
    fn free_slots_are_the_lowest_that_nobody_holds(held in prop::collection::btree_set(0_u32..40, 0..40), limit in 0_u32..40, count in 1_usize..6) {
        let mut table = Table::new(group());
        table.holders = held.iter().enumerate().map(|(n, slot)| holder(n as u64 + 1, &n.to_string(), &[*slot])).collect();
        let expected: Vec<u32> = (0..limit).filter(|slot| !held.contains(slot)).take(count).collect();
        let found = table.free(limit, count).map(|slots| slots.into_iter().map(|slot| slot.0).collect::<Vec<_>>());
        prop_assert_eq!(found, (expected.len() == count).then_some(expected));
    }
}
