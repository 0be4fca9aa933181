//! The benchmarks behind `cargo xtask bench`: what a message costs the sidecar ([`sidecar`]), and how many messages come out
//! of the emulator ([`emulator`]).

mod application;
mod emulator;
mod engine;
mod failure;
mod options;
mod sidecar;
mod source;
mod usage;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "bench", about = "Measures sidecar and emulator; `cargo xtask bench` builds and runs it")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The sidecar's CPU time per message.
    Sidecar(sidecar::Arguments),
    /// The emulator's messages per second.
    Emulator(emulator::Arguments),
    /// The process of the sidecar's case `engine`: connects to a port and settles what comes.
    #[command(hide = true)]
    Engine { port: u16, authority: PathBuf },
}

fn main() -> Result<()> {
    match Arguments::parse().what {
        What::Sidecar(arguments) => sidecar::run(&arguments),
        What::Emulator(arguments) => emulator::run(&arguments),
        What::Engine { port, authority } => engine::run(port, &authority),
    }
}
