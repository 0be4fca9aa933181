//! The model that the platform's limits are never exceeded: never more clients than slots, never more connect attempts in
//! a minute than allowed, whatever crashes, is cut off, is late or is lost. See `model/world.rs` for what is production
//! code in it and what is the model's own.
//!
//! What is looked at in full is bounded by the number of faults (see `model/exhaustive.rs`), and goes without permits and
//! attempts: when these are late, or their end is not heard, chance decides (see `model/attempts.rs`). CI has room for a
//! part: `SLUICE_FAULTS=2` looks at all that two faults can do to 3 slots, 4 sidecars and 2 operators (a million worlds, some
//! minutes with `--release`), and `SLUICE_SCHEDULES=10000` runs so many schedules by chance for 64 slots.

#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails, with the error")]
mod model {
    mod attempts;
    mod checks;
    mod exhaustive;
    mod faults;
    mod random;
    mod rollout;
    mod sabotage;
    mod steps;
    mod watch;
    mod world;

    use sabotage::Sabotage;

    /// Without the variables: what a debug build does in well under a minute.
    fn asked(variable: &str, default: u64) -> u64 {
        std::env::var(variable).map_or(default, |value| value.parse().unwrap())
    }

    #[test]
    fn no_few_faults_make_more_clients_than_slots() {
        // One fault and its aftermath; two and what comes of them within 20 s; more when asked for.
        exhaustive::check(&exhaustive::slots(1, 4, None)).unwrap();
        match u8::try_from(asked("SLUICE_FAULTS", 0)).unwrap() {
            0 => exhaustive::check(&exhaustive::slots(2, 1, None)).unwrap(),
            faults => exhaustive::check(&exhaustive::slots(faults, 4, None)).unwrap(),
        };
    }

    #[test]
    fn no_two_faults_make_two_clients_of_one_slot() {
        exhaustive::check(&exhaustive::one_slot(2, 2, None)).unwrap();
    }

    #[test]
    fn chance_makes_neither_more_clients_nor_more_attempts_and_all_is_well_afterwards() {
        random::run_many(asked("SLUICE_SCHEDULES", 40), random::wide, None).unwrap();
    }

    #[test]
    fn nor_does_it_with_few_slots_where_everybody_tries_all_the_time() {
        random::run_many(asked("SLUICE_SCHEDULES", 300), random::narrow, None).unwrap();
    }

    #[test]
    fn sixty_four_of_sixty_four_roll_with_sixty_consuming() {
        for (workloads, max_unavailable) in [(2, 0), (1, 0), (1, 2), (1, 4)] {
            let rollout = rollout::roll(1, workloads, max_unavailable, false, 30).unwrap();
            let expected = rollout.fewest >= 60 && rollout.at_the_end == 64 && rollout.old == 0;
            assert!(expected, "{workloads} with maxUnavailable {max_unavailable}: {rollout:?}");
        }
    }

    /// Kubernetes does not ask the broker: it deletes two pods of one Deployment while four of the other yield.
    #[test]
    fn workloads_that_share_a_group_may_each_be_without_what_is_allowed_to_be_unavailable() {
        let rollout = rollout::roll(1, 2, 2, false, 30).unwrap();
        assert!(rollout.fewest >= 56 && rollout.at_the_end == 64 && rollout.old == 0, "{rollout:?}");
    }

    #[test]
    fn a_revision_that_can_not_connect_stops_and_gives_back_what_it_got() {
        let rollout = rollout::roll(3, 2, 0, true, 15).unwrap();
        assert!(rollout.fewest >= 60 && rollout.at_the_end == 64 && rollout.old == 64, "{rollout:?}");
    }

    #[test]
    fn each_rule_is_needed() {
        // What the rule prevents, and as many schedules as it takes to find it, and some more.
        let rules = [
            (Sabotage::RecordFirst, 100, "in no table"),
            (Sabotage::Silence, 100, "attempts in a minute"),
            (Sabotage::Precondition, 100, "in no table"),
            (Sabotage::Lease, 200, ""),
            (Sabotage::AttemptedAlone, 200, "attempts in a minute"),
            (Sabotage::Reservation, 200, "attempts in a minute"),
            (Sabotage::Lapse, 200, "attempts in a minute"),
            (Sabotage::Asking, 200, "attempts in a minute"),
            (Sabotage::Absence, 200, ""),
            (Sabotage::LookUp, 100, "pods wait"),
        ];
        for (rule, schedules, prevents) in rules {
            let found = random::run_many(schedules, random::narrow, Some(rule)).unwrap_err();
            println!("without {rule:?}: {found}");
            assert!(found.contains(prevents), "{rule:?} is there for something else");
        }
        // With few slots there are hardly ever links.
        let found = random::run_many(20, random::wide, Some(Sabotage::Unconfirmed)).unwrap_err();
        println!("without {:?}: {found}", Sabotage::Unconfirmed);
        assert!(found.contains("two pods on one slot"), "it is there for something else");
        for rule in [Sabotage::IdleWait, Sabotage::Linger, Sabotage::StreamOrder] {
            let found = exhaustive::check(&exhaustive::one_slot(3, 1, Some(rule))).unwrap_err();
            println!("without {rule:?}: {}", found.lines().next().unwrap_or_default());
        }
    }
}
