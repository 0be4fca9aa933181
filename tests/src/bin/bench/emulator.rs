//! How many messages come out of one emulator over TLS, its limits lifted: to one fast client, and to 64 at once, while 1,000
//! groups are defined.
//!
//! The emulator runs as a process of its own; the clients ([`clients`]), the sidecar's AMQP source without anything behind it,
//! share one thread here. In the case `backlog` messages have been published before the clients may have any, so that nothing
//! but their coming out is measured; in `live` the emulator's own devices publish at a rate meanwhile, on the same thread as
//! all else that it does.

mod clients;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::json;
use sluice_tests::admin::NewMessage;
use sluice_tests::emulator::{Emulator, GROUP};
use sluice_tests::{binaries, wait};

use self::clients::Clients;
use crate::options::Options;
use crate::usage::{Usage, to_f64};

/// The groups that are defined, the one that all is published to included.
const GROUPS: usize = 1_000;

/// The payload of what is published beforehand. What devices say comes to some 50 bytes more.
const PAYLOAD: usize = 256;

/// Messages published by one request.
const BATCH: usize = 10_000;

/// From the first message of the devices until figures count.
const WARM_UP: Duration = Duration::from_secs(1);

/// How long anything may take that has to come before figures, or after.
const BOUND: Duration = Duration::from_mins(2);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The emulator's binary.
    #[arg(long)]
    emulator: PathBuf,
    #[command(flatten)]
    options: Options,
    /// Messages of each run of the case `backlog`.
    #[arg(long, default_value_t = 500_000)]
    messages: usize,
    /// Messages a second that devices publish in the case `live`.
    #[arg(long, default_value_t = 100_000)]
    rate: u32,
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    clients: u32,
    /// The credit of each client.
    window: u32,
}

const CASES: [Case; 4] = [
    Case { name: "backlog", clients: 1, window: 2_000 },
    Case { name: "backlog", clients: 64, window: 250 },
    Case { name: "live", clients: 1, window: 2_000 },
    Case { name: "live", clients: 64, window: 250 },
];

/// The figures of a run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    case: &'static str,
    clients: u32,
    groups: usize,
    /// Bytes of payload, on average.
    size: f64,
    messages: u64,
    msg_per_s: f64,
    /// Of the emulator's process alone.
    cpu_us_per_msg: f64,
    rss_mi_b: f64,
    /// The share of a core that the emulator used.
    core: f64,
    /// From publishing to the client, in the case `live`.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// Published and not accepted at the end, in the case `live`: small if the emulator keeps up with its devices.
    behind: Option<u64>,
}

/// Runs the cases that are asked for.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let options = &arguments.options;
    let cases = options.choose(&CASES, |case| case.name)?;
    binaries::use_those_in(arguments.emulator.parent().context("--emulator names no file")?)?;
    if !options.json {
        println!(
            "{:<10} {:>7} {:>6} {:>10} {:>8} {:>8} {:>6} {:>8} {:>8} {:>8}",
            "case", "clients", "size", "msg/s", "µs/msg", "RSS MiB", "core", "p50 ms", "p99 ms", "behind"
        );
    }
    for case in cases {
        let mut runs = (0..options.runs).map(|_| measure(case, arguments)).collect::<Result<Vec<_>>>()?;
        // The run in the middle by speed; it is reported whole, so that its figures belong together.
        runs.sort_by(|a, b| a.msg_per_s.total_cmp(&b.msg_per_s));
        report(&runs.swap_remove(runs.len() / 2), options.json)?;
    }
    Ok(())
}

fn report(figures: &Figures, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(figures)?);
        return Ok(());
    }
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.2}"));
    println!(
        "{:<10} {:>7} {:>6.0} {:>10.0} {:>8.2} {:>8.1} {:>6.2} {:>8} {:>8} {:>8}",
        figures.case,
        figures.clients,
        figures.size,
        figures.msg_per_s,
        figures.cpu_us_per_msg,
        figures.rss_mi_b,
        figures.core,
        ms(figures.p50_ms),
        ms(figures.p99_ms),
        figures.behind.map_or("-".to_owned(), |behind| behind.to_string()),
    );
    Ok(())
}

/// An emulator whose limits bound nothing here, and its groups.
fn emulator() -> Result<Emulator> {
    let groups: Vec<_> = (1..GROUPS).map(|n| format!("group-{n}")).chain([GROUP.to_owned()]).collect();
    let configuration = json!({
        "groups": groups,
        "limits": {
            "realTimePerConnection": u32::MAX,
            "backlogPerGroup": u32::MAX,
            "connectAttemptsPerMinute": 1_000,
            "ackTimeout": "10m",
            // What nobody has credit for is in the backlog at once, and may leave it at once.
            "realTimeWait": "1ms",
            "retryAfter": "1ms",
            "unevenFor": "0s",
            "fateLogMessages": 100_000,
        },
    });
    Emulator::start_with(&configuration.to_string())
}

fn measure(case: Case, arguments: &Arguments) -> Result<Figures> {
    let emulator = emulator()?;
    let clients = Clients::connect(emulator.port()?, emulator.authority(), case.clients, case.window)?;
    let run = match case.name {
        "backlog" => drain(&emulator, &clients, arguments.messages),
        _ => live(&emulator, &clients, arguments),
    };
    // What a client says comes first: what else went wrong may have come of it.
    clients.check()?;
    let Run { messages, elapsed, cpu, behind } = run?;
    let (p50_ms, p99_ms) = clients.latencies();
    let count = to_f64(messages);
    Ok(Figures {
        case: case.name,
        clients: case.clients,
        groups: GROUPS,
        size: clients.mean_size(),
        messages,
        msg_per_s: count / elapsed.as_secs_f64(),
        cpu_us_per_msg: cpu.as_secs_f64() * 1e6 / count,
        rss_mi_b: Usage::of(emulator.id())?.peak_rss_mib,
        core: cpu.as_secs_f64() / elapsed.as_secs_f64(),
        p50_ms,
        p99_ms,
        behind,
    })
}

/// What came of a run.
struct Run {
    messages: u64,
    elapsed: Duration,
    cpu: Duration,
    behind: Option<u64>,
}

/// Publishes to clients that have no credit yet, then gives them some until they have accepted everything.
fn drain(emulator: &Emulator, clients: &Clients, messages: usize) -> Result<Run> {
    let admin = emulator.admin();
    let payload = [b'x'; PAYLOAD];
    let message = |n: usize| NewMessage::new(&format!("/a1B2c3D4e5F/meter-{:05}/user/readings", n % 1_000), &payload);
    let batch: Vec<_> = (0..BATCH).map(message).collect();
    let mut left = messages;
    while left > 0 {
        let some = &batch[..left.min(BATCH)];
        admin.publish(GROUP, some)?;
        left -= some.len();
    }
    let messages = messages as u64;
    admin.wait_for(GROUP, BOUND, |counts| counts.backlog == messages)?;
    let (begun, usage) = (Instant::now(), Usage::of(emulator.id())?);
    clients.go();
    // Looked at so seldom that looking costs nothing, and so often that it does not blur the time.
    while clients.settled() < messages && begun.elapsed() < BOUND {
        clients.check()?;
        thread::sleep(Duration::from_millis(1));
    }
    let (elapsed, used, settled) = (begun.elapsed(), Usage::of(emulator.id())?, clients.settled());
    ensure!(settled >= messages, "of {messages} messages clients have accepted {settled} after {BOUND:?}");
    let counts = admin.wait_for(GROUP, BOUND, |counts| counts.accepted == messages)?;
    ensure!(counts.pushed == messages, "messages came more than once: {counts:?}");
    Ok(Run { messages, elapsed, cpu: used.cpu.saturating_sub(usage.cpu), behind: None })
}

/// Has devices publish while clients accept.
fn live(emulator: &Emulator, clients: &Clients, arguments: &Arguments) -> Result<Run> {
    let admin = emulator.admin();
    clients.go();
    admin.devices(GROUP, arguments.rate)?;
    wait::until(BOUND, || clients.check().map(|()| (clients.settled() > 0).then_some(())).transpose())
        .with_context(|| format!("no message has come to a client in {BOUND:?}"))??;
    thread::sleep(WARM_UP);
    clients.forget();
    let (begun, usage, settled) = (Instant::now(), Usage::of(emulator.id())?, clients.settled());
    thread::sleep(Duration::from_secs(arguments.options.seconds));
    let (elapsed, used, settled_then) = (begun.elapsed(), Usage::of(emulator.id())?, clients.settled());
    let counts = admin.group(GROUP)?;
    admin.devices(GROUP, 0)?;
    let messages = settled_then - settled;
    ensure!(messages > 0, "clients have accepted nothing in {elapsed:?}");
    let cpu = used.cpu.saturating_sub(usage.cpu);
    Ok(Run { messages, elapsed, cpu, behind: Some(counts.published - counts.accepted) })
}
