//! `cargo xtask demo`: emulated devices publish, the sidecar receives, an application consumes; in the end every single
//! message is accounted for.

mod audit;
mod emulator;
mod process;
mod report;
mod screen;
mod stack;
mod tally;

use std::{
    collections::{HashMap, VecDeque},
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use self::{
    audit::{Audit, Findings},
    emulator::Counts,
    report::Report,
    screen::{Figures, Screen},
    stack::{PACKAGES, RETRY_SECONDS, Stack},
    tally::Tally,
};
use crate::{interrupt::Interrupts, workspace};

/// How many devices publish.
const DEVICES: u32 = 50;
/// How often the figures are brought up to date.
const TICK: Duration = Duration::from_millis(100);
/// How often the fates of messages are looked at.
const AUDIT_EVERY: Duration = Duration::from_secs(2);
/// The time that the live rate is taken over.
const RATE_WINDOW: Duration = Duration::from_secs(2);
/// How long the link may take to come up.
const CONNECT: Duration = Duration::from_secs(15);
/// How long messages under way may take after the devices have stopped.
const DRAIN: Duration = Duration::from_secs(60);
/// How often a sidecar that died is started again before the demo gives up.
const RESTARTS: u32 = 20;
/// The most real-time messages per second that the platform pushes over one connection (PLATFORM.md 1.8).
const MAX_RATE: u32 = 1_000;
/// What is said before the sidecar's PID, for whoever wants to see it die.
pub(crate) const TRY: &str = "try `kill -9 ";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Publish for this many seconds; without it, until Ctrl-C.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,

    /// Messages per second, of all devices together; at most 1,000, as many as the platform pushes over one connection.
    #[arg(long, value_name = "R", default_value_t = 800, value_parser = rate_within_cap)]
    rate: u32,

    /// Take the binaries of emulator, sidecar and application from here, instead of building them for release.
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,

    /// Print nothing on standard output but the result, as one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the demo. Succeeds only if every published message was accepted, and not before its ack.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let binaries = match &args.binaries {
        Some(directory) => PACKAGES.map(|name| (name.to_owned(), directory.join(name))).into(),
        None => build()?,
    };
    let interrupts = Interrupts::watch()?;
    let mut screen = Screen::new(args.json);

    let stack = Stack::start(binaries)?;
    screen.say(&format!(
        "{} messages/s from {DEVICES} devices, {}; emulator {}, sidecar {}, application {}",
        args.rate,
        args.seconds.map_or("until Ctrl-C".to_owned(), |seconds| format!("for {seconds} s")),
        stack.emulator_process.pid(),
        stack.sidecar.pid(),
        stack.application.pid()
    ));
    screen.say(&format!(
        "{TRY}{}`: what it held comes again after {RETRY_SECONDS} s (on the platform: about a minute)",
        stack.sidecar.pid()
    ));

    let mut demo = Demo {
        stack,
        screen,
        interrupts,
        tally: Tally::default(),
        audit: Audit::default(),
        counts: Counts::default(),
        samples: VecDeque::new(),
        restarts: 0,
        start: Instant::now(),
        audited: Instant::now(),
    };
    demo.wait_for_link()?;
    let (report, findings) = demo.play(args)?;
    demo.screen.say(&report.to_string());
    if !findings.examples.is_empty() {
        demo.screen.say(&format!("such as the messages {}", findings.examples.join(", ")));
    }
    if args.json {
        writeln!(io::stdout(), "{}", serde_json::to_string(&report)?).context("printing the result")?;
    }
    Ok(if findings.none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn build() -> Result<HashMap<String, PathBuf>> {
    let packages = PACKAGES.iter().flat_map(|package| ["--package", package]);
    workspace::build(["--release", "--bins"].into_iter().chain(packages))
}

/// Reads a rate, and refuses one at which a backlog would grow, which looks like loss when the demo ends.
fn rate_within_cap(text: &str) -> Result<u32, String> {
    let rate: u32 = text.parse().map_err(|_| "not a number of messages per second".to_owned())?;
    if (1..=MAX_RATE).contains(&rate) {
        return Ok(rate);
    }
    Err(format!(
        "must be 1 to {MAX_RATE}: the platform pushes no more than {MAX_RATE} messages a second over one connection, and \
         what is published beyond that waits in its backlog"
    ))
}

/// A demo under way.
struct Demo {
    stack: Stack,
    screen: Screen,
    interrupts: Interrupts,
    tally: Tally,
    audit: Audit,
    counts: Counts,
    /// Acknowledged messages at times of late, for the live rate.
    samples: VecDeque<(Instant, u64)>,
    restarts: u32,
    start: Instant,
    audited: Instant,
}

impl Demo {
    /// Waits until the application has a stream and has heard that the sidecar's link is up.
    fn wait_for_link(&mut self) -> Result<()> {
        let deadline = Instant::now() + CONNECT;
        while !self.tally.link_up() {
            thread::sleep(TICK);
            ensure!(self.interrupts.count() == 0, "interrupted");
            self.stack.check()?;
            take_journal(&mut self.tally, self.stack.application.output())?;
            if self.stack.sidecar.exited()?.is_some() || Instant::now() > deadline {
                return Err(self.stack.sidecar.failure("has not connected"));
            }
        }
        Ok(())
    }

    /// Publishes, waits for what is under way, ends the processes in order, and accounts for every message.
    fn play(&mut self, args: &Args) -> Result<(Report, Findings)> {
        self.stack.emulator.start_devices(args.rate, DEVICES)?;
        self.start = Instant::now();
        let end = args.seconds.map(|seconds| self.start + Duration::from_secs(seconds));
        // Without an end of its own it ends with its screen, rather than go on where nobody sees it.
        while self.interrupts.count() == 0 && end.map_or_else(|| !self.screen.is_gone(), |end| Instant::now() < end) {
            self.tick()?;
        }
        self.stack.emulator.stop_devices()?;
        let seconds = self.start.elapsed().as_secs_f64();

        let interrupts = self.interrupts.count();
        let deadline = Instant::now() + DRAIN;
        self.screen.say("devices stopped, waiting for what is under way");
        self.tick()?;
        while self.counts.accepted < self.counts.published && Instant::now() < deadline {
            ensure!(self.interrupts.count() == interrupts, "interrupted while messages were under way");
            self.tick()?;
        }

        let last = self.stack.stop_application()?;
        take_journal(&mut self.tally, last)?;
        self.stack.stop_sidecar()?;
        self.counts = self.stack.emulator.counts()?;
        self.look_at_fates()?;
        let findings = std::mem::take(&mut self.audit).conclude(self.counts.published);
        Ok((Report::new(self.counts, &self.tally, &findings, seconds), findings))
    }

    /// Waits a little, then looks after everything once.
    fn tick(&mut self) -> Result<()> {
        thread::sleep(TICK);
        self.stack.check()?;
        self.mend_sidecar()?;
        take_journal(&mut self.tally, self.stack.application.output())?;
        self.counts = self.stack.emulator.counts()?;
        if self.audited.elapsed() >= AUDIT_EVERY {
            self.audited = Instant::now();
            self.look_at_fates()?;
        }
        let figures = self.figures();
        self.screen.figures(&figures);
        Ok(())
    }

    fn mend_sidecar(&mut self) -> Result<()> {
        let Some(status) = self.stack.sidecar.exited()? else { return Ok(()) };
        if self.restarts == RESTARTS {
            return Err(self.stack.sidecar.failure(&format!("ends again and again (last: {status})")));
        }
        self.restarts += 1;
        let died = self.stack.sidecar.pid();
        self.stack.restart_sidecar()?;
        let started = self.stack.sidecar.pid();
        self.screen.say(&format!("sidecar {died} has ended ({status}); started again as {started}"));
        Ok(())
    }

    fn look_at_fates(&mut self) -> Result<()> {
        let fates = self.stack.emulator.fates(self.audit.after())?;
        self.audit.look_at(fates, &mut self.tally);
        Ok(())
    }

    fn figures(&mut self) -> Figures {
        let now = Instant::now();
        self.samples.push_back((now, self.tally.acked()));
        while self.samples.len() > 2 && self.samples.front().is_some_and(|(at, _)| now - *at > RATE_WINDOW) {
            self.samples.pop_front();
        }
        Figures {
            elapsed: self.start.elapsed(),
            published: self.counts.published,
            delivered: self.tally.delivered(),
            acked: self.tally.acked(),
            in_flight: self.counts.unsettled,
            backlog: self.counts.backlog,
            rate: rate(&self.samples),
            latency: self.tally.latency_of_late(),
        }
    }
}

/// Messages per second from the first to the last sample.
fn rate(samples: &VecDeque<(Instant, u64)>) -> f64 {
    let (Some((start, from)), Some((end, to))) = (samples.front(), samples.back()) else { return 0.0 };
    let messages = u32::try_from(to - from).unwrap_or(u32::MAX);
    f64::from(messages) / (*end - *start).as_secs_f64().max(f64::EPSILON)
}

fn take_journal(tally: &mut Tally, lines: impl IntoIterator<Item = String>) -> Result<()> {
    for line in lines {
        if let Err(error) = tally.take(&line) {
            bail!("the application printed {line:?}, which is no line of its journal: {error}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_above_the_platforms_cap_is_refused_with_the_reason() {
        assert_eq!(rate_within_cap("1"), Ok(1));
        assert_eq!(rate_within_cap("1000"), Ok(1_000));
        for beyond in ["0", "1001"] {
            assert!(rate_within_cap(beyond).unwrap_err().contains("over one connection"), "{beyond}");
        }
        assert!(rate_within_cap("fast").unwrap_err().contains("not a number"));
    }
}
