//! Children that can't outlive this process, not even when it is killed with SIGKILL: they are started through this very
//! program, which asks the kernel for that and then becomes the child.

use std::{
    convert::Infallible,
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

#[derive(clap::Args)]
pub(crate) struct Args {
    program: PathBuf,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// A command for `program`. On systems other than Linux it may outlive a parent that is killed.
pub(crate) fn command(program: &Path) -> Command {
    if cfg!(target_os = "linux") {
        // This program, even if its file has been replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg("leash").arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// Becomes the program.
pub(crate) fn run(args: &Args) -> Result<Infallible> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("tying a child to its parent")?;
    let error = Command::new(&args.program).args(&args.arguments).exec();
    Err(error).with_context(|| format!("starting {}", args.program.display()))
}
