//! The model that the limits of the platform are never exceeded, whatever goes wrong.

#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails, with the error")]
mod model {
    mod checks;
    mod exhaustive;
    mod faults;
    mod random;
    mod sabotage;
    mod steps;
    mod world;

    #[test]
    fn try_it() {
        let n = std::env::var("F").map_or(1, |f| f.parse().unwrap());
        exhaustive::check(exhaustive::slots(n, 4, None)).unwrap();
    }
    #[test]
    fn sab() {
        use sabotage::Sabotage::*;
        for rule in [RecordFirst, IdleWait, Silence, Reservation, AttemptedAlone, StreamOrder, Precondition, Lease, ConsistentRead, Linger, Lapse] {
            println!("{rule:?}: {:?}", random::run_many(60, Some(rule)));
        }
    }
    #[test]
    fn sabx() {
        use sabotage::Sabotage::*;
        for rule in [RecordFirst, IdleWait, StreamOrder, Precondition, ConsistentRead, Linger] {
            println!("{rule:?}: {}", format!("{:?}", exhaustive::check(exhaustive::slots(2, 4, Some(rule)))).chars().take(150).collect::<String>());
        }
    }
    #[test]
    fn rnd() {
        let n = std::env::var("N").map_or(1, |f| f.parse().unwrap());
        random::run_many(n, None).unwrap();
    }
}
