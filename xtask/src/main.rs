//! `cargo xtask`: the project's own commands, as a program, so that they need nothing but cargo.
//!
//! This file is the command line alone; each command has a file of its own.

mod bench;
mod chart;
mod crd;
mod demo;
mod fuzz;
mod interrupt;
mod leash;
mod proto;
mod rehearsal;
mod test;
mod workspace;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Sluice's own commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show messages flowing from devices through the sidecar to an application, and account for every one.
    Demo(demo::Args),
    /// Measure what a message costs the sidecar, or what many groups and streams cost the operator.
    Bench(bench::Args),
    /// Generate what the Helm chart takes over from the definition of the custom resource and from its own values.
    Chart(chart::Args),
    /// Give what Sluice reads from its peers to a fuzzer.
    Fuzz(fuzz::Args),
    /// Run all tests of the workspace.
    Test,
    /// Generate the committed definition of the custom resource from the types of sluice-crds.
    Crd(crd::Args),
    /// Generate the committed Rust code of sluice-proto from its .proto files.
    Proto(proto::Args),
    /// Run a program that ends when the process that started it does.
    #[command(hide = true)]
    Leash(leash::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Chart(args) => chart::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Fuzz(args) => fuzz::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Test => test::run().map(|()| ExitCode::SUCCESS),
        Command::Crd(args) => crd::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Proto(args) => proto::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Leash(args) => leash::run(&args).map(|never| match never {}),
    };
    result.unwrap_or_else(|error| {
        // The terminal may be gone, and that is no reason to panic.
        let _ = writeln!(io::stderr(), "error: {error:#}");
        ExitCode::FAILURE
    })
}
