//! The emulator, the sidecars, their applications; and how everything is mended in the end.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use sluice_emulator::{SurplusAttempt, SurplusClient};
use sluice_tests::admin::{Admin, Connection, Counts, NewMessage};
use sluice_tests::emulator::{Emulator, GROUP};
use sluice_tests::sidecar::{Settings, Sidecar};
use sluice_tests::wait;
use tokio::runtime::Runtime;

use super::Case;
use super::identity::{Identity, ROLES};
use super::worker::{Journal, Mood, Worker};

/// How long an application has to answer.
pub(super) const LEASE: Duration = Duration::from_secs(2);

/// How long a platform waits for an answer: long enough after the lease for a busy machine.
pub(super) const ACK_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a group may take to drain, on a busy machine and where the platform makes it hard.
const DRAIN: Duration = Duration::from_secs(120);

/// How long a process may take to end when asked to.
pub(super) const BOUND: Duration = Duration::from_secs(60);

/// Between two looks at sidecars that were refused: each try to mend one is an attempt to connect, which are limited.
const MEND_EVERY: Duration = Duration::from_secs(2);

/// The sidecars that are there all the time.
pub(super) const SIDES: [&str; 2] = ["left", "right"];

/// The name of the one that comes and goes, where there is no place for a third.
const GUEST: &str = "guest";

/// A sidecar and its application.
#[derive(Debug)]
pub(super) struct Side {
    name: &'static str,
    pub(super) worker: Worker,
    pub(super) sidecar: Sidecar,
}

/// All that is there in a run.
pub(super) struct Scene<'run> {
    pub(super) case: &'run Case,
    runtime: &'run Runtime,
    pub(super) dice: StdRng,
    pub(super) journal: Arc<Journal>,
    /// The IDs of the messages published.
    pub(super) published: Vec<String>,
    /// Faults that hit something.
    pub(super) hits: u64,
    /// How often a sidecar had to be helped in the end.
    pub(super) helped: u64,
    sides: [Side; 2],
    guest: Option<Side>,
    identity: Identity,
    // Ended last.
    pub(super) emulator: Emulator,
}

impl<'run> Scene<'run> {
    /// Starts everything, and waits until both sidecars have a link.
    pub(super) fn set(case: &'run Case, runtime: &'run Runtime) -> Result<Self> {
        let mut dice = StdRng::seed_from_u64(case.seed);
        let configuration = format!(
            "limits: {{clientsPerGroup: 2, realTimePerConnection: 50, realTimeWait: 300ms, ackTimeout: {}s, retryAfter: 1s, \
             retryAfterLinkLoss: 1s}}\nroles: {ROLES}\nseed: {}\n",
            ACK_TIMEOUT.as_secs(),
            case.seed,
        );
        let emulator = Emulator::start_as(&configuration, &case.yaml()?)?;
        let identity = Identity::new(&emulator, case.variation.profile)?;
        let journal = Arc::new(Journal::default());
        let mut start = |name| Side::start(name, case, &emulator, &identity, runtime, &journal, dice.random());
        let sides = [start(SIDES[0])?, start(SIDES[1])?];
        for side in &sides {
            side.sidecar.status(BOUND, |status| status.link == "up")?;
        }
        Ok(Self {
            case,
            runtime,
            dice,
            journal,
            published: Vec::new(),
            hits: 0,
            helped: 0,
            sides,
            guest: None,
            identity,
            emulator,
        })
    }

    pub(super) fn admin(&self) -> &Admin {
        self.emulator.admin()
    }

    pub(super) fn side(&mut self, side: usize) -> &mut Side {
        &mut self.sides[side]
    }

    /// Publishes so many messages.
    pub(super) fn publish(&mut self, count: usize) -> Result<()> {
        let first = self.published.len();
        let messages: Vec<_> = (first..first + count)
            .map(|n| NewMessage::new(&format!("/a1TestProdct/meter-{n}/user/readings"), n.to_string().as_bytes()))
            .collect();
        let ids = self.admin().publish(GROUP, &messages)?;
        self.published.extend(ids);
        Ok(())
    }

    /// The last connection of a sidecar, if it has one.
    pub(super) fn connection(&self, side: usize) -> Result<Option<Connection>> {
        let connections = self.admin().connections(GROUP)?;
        Ok(connections.into_iter().rfind(|connection| connection.client.starts_with(SIDES[side])))
    }

    /// One more sidecar than there is a place for, until it is sent away.
    pub(super) fn invite(&mut self) -> Result<()> {
        let (case, seed) = (self.case, self.dice.random());
        let guest = Side::start(GUEST, case, &self.emulator, &self.identity, self.runtime, &self.journal, seed)?;
        self.guest = Some(guest);
        Ok(())
    }

    /// It goes without a word.
    pub(super) fn send_away(&mut self) {
        self.guest = None;
    }

    /// Renews the token, and lets the former one expire. Returns how many connections were made with it.
    pub(super) fn expire_token(&mut self) -> Result<usize> {
        match self.identity.renew(&self.emulator)? {
            Some(key) => self.admin().fault(&json!({"action": "expireToken", "key": key})),
            None => Ok(0),
        }
    }

    /// Ends all bad luck, and waits until the group is drained and both sidecars have a link. Who was refused as though its
    /// credentials were wrong tries again only after 5 min, and who is starved stays so while it is connected: those are
    /// helped, as somebody would. Nobody else is.
    pub(super) fn mend(&mut self) -> Result<()> {
        self.send_away();
        self.admin().fault(&json!({"action": "refuseNext", "attempts": 0}))?;
        for side in &self.sides {
            side.worker.be(Mood::Diligent);
        }
        let end = Instant::now() + DRAIN;
        let mut mended = None;
        loop {
            let counts = self.admin().group(GROUP)?;
            if is_drained(&counts) && self.all_are_up()? {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("not mended after {DRAIN:?}: {counts:?}{}", self.undrained()?);
            }
            if mended.is_none_or(|at: Instant| at.elapsed() >= MEND_EVERY) {
                mended = Some(Instant::now());
                self.help()?;
            }
            std::thread::sleep(wait::PAUSE);
        }
    }

    /// Whether all sidecars have a link that is given messages.
    fn all_are_up(&self) -> Result<bool> {
        let connections = self.admin().connections(GROUP)?;
        let up = |side: &Side| Ok(side.sidecar.status(BOUND, |_| true)?.link == "up");
        let all_up = self.sides.iter().map(up).collect::<Result<Vec<_>>>()?.into_iter().all(|up| up);
        Ok(all_up && connections.iter().all(|connection| !connection.surplus))
    }

    fn help(&mut self) -> Result<()> {
        let profile = &self.case.variation.profile;
        let refuses_at_sasl = matches!(profile.surplus_client, SurplusClient::Sasl | SurplusClient::SaslTemporary)
            || profile.surplus_attempt == SurplusAttempt::Sasl;
        for side in &mut self.sides {
            let status = side.sidecar.status(BOUND, |_| true)?;
            if status.link == "down" {
                ensure!(
                    refuses_at_sasl,
                    "{} takes its credentials for refused, and they are good: {status:?}",
                    side.name
                );
                side.sidecar.kill_and_restart()?;
                self.helped += 1;
            }
        }
        for connection in self.admin().connections(GROUP)?.iter().filter(|connection| connection.surplus) {
            self.admin().fault(&json!({"action": "close", "connection": connection.number}))?;
            self.helped += 1;
        }
        Ok(())
    }

    /// What is not drained, and where the sidecars stand.
    fn undrained(&self) -> Result<String> {
        let fates = self.admin().fates(GROUP)?;
        let open: Vec<_> = fates.iter().filter(|fate| !["accepted", "dropped"].contains(&&*fate.state)).collect();
        let mut text = format!("; {} messages", open.len());
        for fate in open.iter().take(3) {
            write!(text, "\n{}: {:?}", fate.id, self.admin().fate(&fate.id)?)?;
        }
        for side in &self.sides {
            write!(text, "\n{}: {:?}", side.name, side.sidecar.get("/status")?.1)?;
        }
        Ok(text)
    }

    /// Ends the sidecars in good order: they have nothing in hand that the platform has not heard of.
    pub(super) fn close(&mut self) -> Result<()> {
        for side in &mut self.sides {
            side.sidecar.status(BOUND, |status| status.held == 0)?;
            let status = side.sidecar.process().terminate(BOUND)?;
            ensure!(status.success(), "{} ended with {status}", side.name);
        }
        Ok(())
    }
}

pub(super) fn is_drained(counts: &Counts) -> bool {
    counts.waiting + counts.backlog + counts.unsettled == 0
}

impl Side {
    fn start(
        name: &'static str,
        case: &Case,
        emulator: &Emulator,
        identity: &Identity,
        runtime: &Runtime,
        journal: &Arc<Journal>,
        seed: u64,
    ) -> Result<Self> {
        let mut settings = Settings::for_emulator(emulator)?.with_delivery(json!({
            "leaseDuration": format!("{}s", LEASE.as_secs()),
            "maxInFlight": 16,
            "handBack": if case.choices.expire { "Expire" } else { "Release" },
        }));
        settings.document["metadata"]["name"] = json!(name);
        settings.document["spec"]["connection"] =
            json!({"settlement": if case.choices.singly { "Single" } else { "Ranges" }});
        if name == SIDES[1] {
            settings = settings.with_credentials_dir(&identity.directory());
        }
        let sidecar = Sidecar::start(settings)?;
        let worker = Worker::start(runtime, sidecar.address(), name, Arc::clone(journal), seed);
        Ok(Self { name, worker, sidecar })
    }
}
