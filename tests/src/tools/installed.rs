//! Programs that the machine must have. Those that it lacks are installed by apt where that is allowed: they don't work from
//! any other place than their own, as those of [`super::cache`] do.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::geteuid;

use super::cache;
use super::version::Version;
use crate::process::output_of;

/// A program of the machine.
#[derive(Debug)]
pub(super) struct Program {
    /// What it is called in `PATH`.
    pub(super) name: &'static str,
    /// The argument that has it say its version.
    pub(super) version: &'static str,
    /// The oldest that does.
    pub(super) oldest: Version,
    /// Debian's package.
    pub(super) package: &'static str,
}

impl Program {
    /// Fails if it is not there, or too old.
    fn check(&self) -> Result<()> {
        let Self { name, version, oldest, .. } = self;
        let said = output_of(name, Command::new(name).arg(version)).with_context(|| format!("no {name} in PATH"))?;
        let found = Version::of(&said).with_context(|| format!("{name} says no version: {said}"))?;
        ensure!(found >= *oldest, "the {name} in PATH is {found}, and {oldest} or newer is needed");
        Ok(())
    }
}

/// Sees to it that all of `programs` are there.
pub(super) fn ensure_all(programs: &[Program]) -> Result<()> {
    let Err(missing) = check_all(programs) else { return Ok(()) };
    cache::alone(|| {
        // Another test process may have been faster.
        if check_all(programs).is_ok() {
            return Ok(());
        }
        let packages: Vec<_> =
            programs.iter().filter(|program| program.check().is_err()).map(|program| program.package).collect();
        let by_hand = format!("apt-get install --no-install-recommends {}", packages.join(" "));
        if !geteuid().is_root() {
            bail!("{missing:#}; as root: {by_hand}");
        }
        eprintln!("{missing}; installing: {by_hand}");
        install(&packages).with_context(|| format!("{missing:#}"))?;
        check_all(programs)
    })
}

fn check_all(programs: &[Program]) -> Result<()> {
    programs.iter().try_for_each(Program::check)
}

/// Installs packages; if the machine's package lists are missing or stale, with fresh ones.
fn install(packages: &[&str]) -> Result<()> {
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.envs([("LC_ALL", "C"), ("DEBIAN_FRONTEND", "noninteractive")]);
        command.args(["--quiet", "--yes", "--option=DPkg::Lock::Timeout=600"]).args(arguments);
        output_of(&format!("apt-get {}", arguments.first().copied().unwrap_or_default()), &mut command)
    };
    let wanted = [&["install", "--no-install-recommends"], packages].concat();
    apt(&wanted).map(drop).or_else(|_| cache::with_fresh_lists(apt, &wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_or_too_old_is_named() {
        let cargo =
            Program { name: "cargo", version: "--version", oldest: Version { major: 1, minor: 0 }, package: "cargo" };
        cargo.check().unwrap();
        let newer = Program { oldest: Version { major: 1_000, minor: 0 }, ..cargo };
        let error = newer.check().unwrap_err().to_string();
        assert!(error.contains("cargo") && error.contains("1000.0 or newer"), "{error}");
        let error = Program { name: "no-such-program", ..newer }.check().unwrap_err().to_string();
        assert_eq!(error, "no no-such-program in PATH");
    }
}
