//! What a message costs the sidecar, from the link to the application and back.
//!
//! A source of pre-encoded messages on TLS ([`source`](crate::source)) feeds the sidecar, which runs as a process of its own;
//! an application that does nothing but acknowledge ([`application`](crate::application)) is here too. Only the sidecar's CPU
//! time is counted ([`usage`](crate::usage)). The case `engine` replaces sidecar and application by the bare AMQP source that
//! settles at once ([`engine`](crate::engine)).

use std::io::BufRead as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sluice_tests::certificates::Certificates;

use crate::application::{self, Application};
use crate::options::Options;
use crate::source::{Load, Source};
use crate::usage::{self, Usage};

/// Before figures count: connections are made, caches warm, windows open.
const WARM_UP: Duration = Duration::from_secs(2);

/// Below this share of a core the sidecar was waiting for others, and its cost per message would flatter it.
const BUSY: f64 = 0.9;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The sidecar's binary.
    #[arg(long)]
    sidecar: PathBuf,
    #[command(flatten)]
    options: Options,
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    size: usize,
    load: Load,
    bare_engine: bool,
}

const CASES: [Case; 6] = [
    Case { name: "engine", size: 256, load: Load::AsFastAsItTakes, bare_engine: true },
    Case { name: "engine", size: 1024, load: Load::AsFastAsItTakes, bare_engine: true },
    Case { name: "sidecar", size: 256, load: Load::AsFastAsItTakes, bare_engine: false },
    Case { name: "sidecar", size: 1024, load: Load::AsFastAsItTakes, bare_engine: false },
    Case { name: "sidecar-1000", size: 256, load: Load::PerSecond(1000), bare_engine: false },
    Case { name: "sidecar-1000", size: 1024, load: Load::PerSecond(1000), bare_engine: false },
];

/// The figures of a run, or the medians of several.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    case: &'static str,
    size: usize,
    messages: u64,
    msg_per_s: f64,
    cpu_us_per_msg: f64,
    rss_mi_b: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// The share of a core that the measured process used; below 0.9 a figure at full speed does not count.
    core: f64,
}

/// Runs the cases that are asked for.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let options = &arguments.options;
    let cases = options.choose(&CASES, |case| case.name)?;
    if !options.json {
        println!(
            "{:<14} {:>6} {:>12} {:>10} {:>8} {:>8} {:>8} {:>6}",
            "case", "size", "msg/s", "µs/msg", "RSS MiB", "p50 ms", "p99 ms", "core"
        );
    }
    for case in cases {
        let (mut runs, mut idle) = (Vec::new(), 0);
        while runs.len() < options.runs {
            let figures = measure(case, arguments)?;
            if matches!(case.load, Load::AsFastAsItTakes) && figures.core < BUSY {
                idle += 1;
                let core = figures.core;
                eprintln!("  a run does not count: the process used only {core:.2} of a core");
                ensure!(idle <= options.runs, "the process under measurement waits for others: is the machine busy?");
                continue;
            }
            runs.push(figures);
        }
        report(&median(runs), options.json)?;
    }
    Ok(())
}

fn report(figures: &Figures, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(figures)?);
    } else {
        let ms = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.3}"));
        println!(
            "{:<14} {:>6} {:>12.0} {:>10.3} {:>8.1} {:>8} {:>8} {:>6.2}",
            figures.case,
            figures.size,
            figures.msg_per_s,
            figures.cpu_us_per_msg,
            figures.rss_mi_b,
            ms(figures.p50_ms),
            ms(figures.p99_ms),
            figures.core
        );
    }
    Ok(())
}

/// The run in the middle by cost; it is reported whole, so that its figures belong together.
fn median(mut runs: Vec<Figures>) -> Figures {
    runs.sort_by(|a, b| a.cpu_us_per_msg.total_cmp(&b.cpu_us_per_msg));
    runs.swap_remove(runs.len() / 2)
}

fn measure(case: Case, arguments: &Arguments) -> Result<Figures> {
    let certificates = Certificates::generate()?;
    let source = Source::start(&certificates, case.size, case.load)?;
    let home = tempfile::tempdir()?;
    let mut measured = Measured(if case.bare_engine {
        Command::new(std::env::current_exe()?)
            .arg("engine")
            .arg(source.port().to_string())
            .arg(certificates.authority())
            .spawn()?
    } else {
        let document = home.path().join("consumer-group.yaml");
        let text = json!({
            "apiVersion": "sluice.dev/v1alpha1",
            "kind": "ConsumerGroup",
            "metadata": {"name": "bench"},
            "spec": {
                "groupId": "DEFAULT_GROUP",
                "instance": {"amqpHost": "127.0.0.1", "amqpPort": source.port(), "caBundle": {"file": certificates.authority()}},
                "delivery": {"maxInFlight": 2000},
            },
        });
        std::fs::write(&document, text.to_string())?;
        Command::new(&arguments.sidecar)
            .args(["run", "--admin", "127.0.0.1:0", "--config"])
            .arg(&document)
            .arg("--listen")
            .arg(format!("unix://{}", home.path().join("sluice.sock").display()))
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", "bench")
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "bench")
            .env("SLUICE_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} can't be started", arguments.sidecar.display()))?
    });
    let application = if case.bare_engine { None } else { Some(application::start(&measured.address()?)?) };

    std::thread::sleep(WARM_UP);
    let pid = measured.0.id();
    let latencies_from = application.as_ref().map_or(0, Application::samples);
    let (begun, usage, settled) = (Instant::now(), Usage::of(pid)?, source.settled());
    std::thread::sleep(Duration::from_secs(arguments.options.seconds));
    if let Some(status) = measured.0.try_wait()? {
        bail!("the measured process ended in mid-run: {status}");
    }
    source.check()?;
    if let Some(application) = &application {
        application.check()?;
    }
    let (elapsed, used, settled_then) = (begun.elapsed(), Usage::of(pid)?, source.settled());
    let messages = settled_then - settled;
    ensure!(messages > 0, "nothing was settled in {elapsed:?}");
    let cpu = used.cpu.saturating_sub(usage.cpu);
    let (p50, p99) = match &application {
        Some(application) => application.latencies(latencies_from),
        None => (None, None),
    };
    let count = usage::to_f64(messages);
    Ok(Figures {
        case: case.name,
        size: case.size,
        messages,
        msg_per_s: count / elapsed.as_secs_f64(),
        cpu_us_per_msg: cpu.as_secs_f64() * 1e6 / count,
        rss_mi_b: used.peak_rss_mib,
        p50_ms: p50,
        p99_ms: p99,
        core: cpu.as_secs_f64() / elapsed.as_secs_f64(),
    })
}

/// The process under measurement; it ends with its run.
struct Measured(Child);

impl Measured {
    /// The address it prints when it listens.
    fn address(&mut self) -> Result<String> {
        #[derive(Deserialize)]
        struct Ready {
            grpc: String,
        }
        let stdout = self.0.stdout.take().context("the sidecar's output is not piped")?;
        let mut line = String::new();
        std::io::BufReader::new(stdout).read_line(&mut line)?;
        let ready: Ready = serde_json::from_str(&line).with_context(|| format!("the sidecar printed {line:?}"))?;
        Ok(ready.grpc)
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // Whatever it has in hand is worth nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
