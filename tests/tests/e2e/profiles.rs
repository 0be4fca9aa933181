//! Nothing is lost, and nothing is accepted before its ack, whatever the platform does where its documents are silent: every
//! value of a profile alone, and every two values together, each under bad luck of all kinds.
//!
//! A run has an emulator with one profile, two sidecars with an application each, and now and then a third pair. Messages
//! are published while links are ended in every way, sidecars are killed, applications die or hang with leases in hand, and
//! tokens expire. Which, to whom and in which order is drawn from a seed. Then everything is mended, and once the group is
//! drained every single message is accounted for: see `profiles/reckoning.rs`.
//!
//! `SLUICE_SEED` is where seeds begin (1), one for each profile; `SLUICE_PROFILE` runs one profile alone, by its name
//! (`released=Never`), with that very seed.

mod identity;
mod mishaps;
mod reckoning;
mod scene;
mod worker;

use std::fmt::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};
use sluice_emulator::{DispositionRanges, Profile, Redelivery, Variation};

use self::reckoning::Tally;
use self::scene::Scene;

/// Runs at a time, of each of the two tests: they wait more than they work.
const LANES: usize = 5;

/// The variable that names the one profile to be run.
const ONE: &str = "SLUICE_PROFILE";

/// What a sidecar is told of a platform that needs to be told something.
#[derive(Debug, Clone, Copy, Default)]
struct Choices {
    /// `delivery.handBack: Expire`, for a platform that drops what is released.
    expire: bool,
    /// `connection.settlement: Single`, for a platform that heeds the first of a range only.
    singly: bool,
}

/// One run.
#[derive(Debug)]
struct Case {
    variation: Variation,
    choices: Choices,
    seed: u64,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Choices { expire, singly } = self.choices;
        write!(f, "{} (seed {}, ", name(&self.variation), self.seed)?;
        write!(f, "handBack: {}, ", if expire { "Expire" } else { "Release" })?;
        write!(f, "settlement: {})", if singly { "Single" } else { "Ranges" })
    }
}

/// What is special about a profile.
fn name(variation: &Variation) -> &str {
    Some(variation.name.as_str()).filter(|name| !name.is_empty()).unwrap_or("all defaults")
}

impl Case {
    /// The profile as a file.
    fn yaml(&self) -> Result<String> {
        let fields = serde_json::to_value(self.variation.profile)?;
        let fields = fields.as_object().context("a profile is no object")?;
        Ok(fields.iter().fold(String::new(), |mut yaml, (field, value)| {
            // Writing to a string can't fail.
            let _ = writeln!(yaml, "{field}: {value}");
            yaml
        }))
    }

    /// Whether the platform may drop what a sidecar releases.
    fn may_drop(&self) -> bool {
        self.variation.profile.released == Redelivery::Never && !self.choices.expire
    }

    fn run(&self) -> Result<Tally> {
        // Applications go on while this thread, which does one thing after the other, waits.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mut scene = Scene::set(self, &runtime)?;
        mishaps::play(&mut scene)?;
        scene.mend()?;
        scene.reckon()
    }
}

/// A run for each profile as sidecars are by default, and one more where they have a setting for what the profile does.
fn cases(variations: Vec<Variation>) -> Vec<Case> {
    let variable = |name| std::env::var(name).ok();
    let first: u64 = variable("SLUICE_SEED").map_or(1, |seed| seed.parse().unwrap());
    let wanted = variable(ONE);
    let mut cases = Vec::new();
    for (index, variation) in (0..).zip(variations) {
        // One profile alone has the very seed: what a failure prints is enough to see it again.
        let seed = if wanted.is_some() { first } else { first + index };
        let Profile { released, disposition_ranges, .. } = variation.profile;
        let told = Choices {
            expire: released == Redelivery::Never,
            singly: disposition_ranges == DispositionRanges::FirstOnly,
        };
        if told.expire || told.singly {
            cases.push(Case { variation: variation.clone(), choices: told, seed });
        }
        cases.push(Case { variation, choices: Choices::default(), seed });
    }
    if let Some(wanted) = wanted {
        let names: Vec<_> = Profile::alone().iter().chain(&Profile::pairs()).map(|it| name(it).to_owned()).collect();
        assert!(names.contains(&wanted), "{ONE} is {wanted:?}, none of {names:#?}");
        cases.retain(|case| name(&case.variation) == wanted);
    }
    cases
}

/// Runs them all, some at a time. Fails with all that went wrong.
fn run_all(cases: &[Case]) {
    let queue = Mutex::new(cases.iter());
    let results = Mutex::new((Tally::default(), Vec::new()));
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some(case) = { queue.lock().unwrap_or_else(PoisonError::into_inner).next() } {
                    let result = case.run();
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    match result {
                        Ok(tally) => results.0 += tally,
                        Err(error) => {
                            let yaml = case.yaml().unwrap_or_else(|error| error.to_string());
                            results.1.push(format!("{case}: {error:#}\nunder the profile\n{yaml}"));
                        }
                    }
                }
            });
        }
    });
    let (tally, failures) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{} runs: {tally:?}", cases.len());
    assert!(failures.is_empty(), "{} of {} runs failed:\n{}", failures.len(), cases.len(), failures.join("\n"));
    if std::env::var(ONE).is_err() {
        had_their_share(cases, &tally);
    }
}

/// So many runs as there are have had all of this in them, or they show nothing.
fn had_their_share(cases: &[Case], tally: &Tally) {
    let Tally { accepted, hits, released, expired, late, repeated, dropped, after_ack, .. } = *tally;
    for (what, count) in [
        ("accepted", accepted),
        ("faults that hit something", hits),
        ("released", released),
        ("expired", expired),
        ("answers after the ACK timeout", late),
        ("repeated", repeated),
        ("pushed again after an ack", after_ack),
    ] {
        assert!(count > 0, "none: {what}");
    }
    // One run may be without.
    let may_drop = cases.iter().filter(|case| case.may_drop()).count();
    assert!(
        may_drop < 2 || dropped > 0,
        "nothing was dropped in {may_drop} runs whose platform drops what is released"
    );
}

#[test]
fn nothing_is_lost_under_any_single_value() {
    run_all(&cases(Profile::alone()));
}

#[test]
fn nothing_is_lost_under_any_two_values() {
    run_all(&cases(Profile::pairs()));
}
