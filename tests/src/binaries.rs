//! The binaries under test: built once per test run, in the profile and target directory of the tests themselves.
//!
//! They are built together with everything else of the workspace, as `cargo xtask test` does before it runs any test:
//! cargo resolves the features of dependencies for what is built together, so that a narrower choice would have them all
//! compiled once more.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Deserialize;

use crate::process;

/// The binaries, once built.
#[derive(Debug)]
struct Binaries {
    sidecar: PathBuf,
    emulator: PathBuf,
    operator: PathBuf,
    example: PathBuf,
}

/// `sluice-sidecar`.
pub fn sidecar() -> Result<&'static Path> {
    Ok(&built()?.sidecar)
}

/// `sluice-emulator`.
pub fn emulator() -> Result<&'static Path> {
    Ok(&built()?.emulator)
}

/// `sluice-operator`.
pub fn operator() -> Result<&'static Path> {
    Ok(&built()?.operator)
}

/// The example application in Rust.
pub fn example() -> Result<&'static Path> {
    Ok(&built()?.example)
}

/// The binaries, or why there are none.
static BUILT: OnceLock<Result<Binaries, String>> = OnceLock::new();

/// Has the binaries in this directory used, as they are, and none built. For programs that measure: what they start is
/// built before. Fails if binaries were asked for before.
pub fn use_those_in(directory: &Path) -> Result<()> {
    let binary = |name: &str| directory.join(name);
    let binaries = Binaries {
        sidecar: binary("sluice-sidecar"),
        emulator: binary("sluice-emulator"),
        operator: binary("sluice-operator"),
        example: binary("sluice-example-rust"),
    };
    BUILT.set(Ok(binaries)).map_err(|_| anyhow!("binaries were used before it was said which"))
}

/// Builds them all on the first call; the later ones wait for it and share what came of it.
fn built() -> Result<&'static Binaries> {
    BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}"))).as_ref().map_err(|error| anyhow!("{error}"))
}

fn build() -> Result<Binaries> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    // What cargo tells a test of its own package; build scripts that look at the like would all run again.
    let of_this_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_this_package)) {
        command.env_remove(name);
    }
    command.args(["build", "--quiet", "--message-format=json-render-diagnostics"]);
    command.args(["--workspace", "--all-targets", "--profile", &profile()?]);
    let messages = process::output_of("the build of the binaries under test", &mut command)?;
    let executable = |name: &str| {
        messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
            .find(|artifact| artifact.is_binary(name))
            .and_then(|artifact| artifact.executable)
            .with_context(|| format!("the build made no binary `{name}`"))
    };
    Ok(Binaries {
        sidecar: executable("sluice-sidecar")?,
        emulator: executable("sluice-emulator")?,
        operator: executable("sluice-operator")?,
        example: executable("sluice-example-rust")?,
    })
}

/// The profile of the running tests, told from where cargo put them.
fn profile() -> Result<String> {
    let directory = profile_directory()?;
    match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") => Ok("dev".to_owned()),
        Some(name) => Ok(name.to_owned()),
        None => bail!("cannot tell the profile from {}", directory.display()),
    }
}

/// `…/target/PROFILE`, of `…/target/PROFILE/deps/TEST`.
fn profile_directory() -> Result<PathBuf> {
    let test = env::current_exe().context("cannot tell where the tests were built")?;
    let directory = test.parent().filter(|directory| directory.ends_with("deps")).and_then(Path::parent);
    Ok(directory.with_context(|| format!("{} is not where cargo puts tests", test.display()))?.to_owned())
}

/// What the harness reads of cargo's `compiler-artifact` messages.
#[derive(Debug, Deserialize)]
struct Artifact {
    target: Target,
    profile: Profile,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Profile {
    /// Whether it is the target's unit tests.
    test: bool,
}

impl Artifact {
    fn is_binary(&self, name: &str) -> bool {
        self.target.name == name && self.target.kind.iter().any(|kind| kind == "bin") && !self.profile.test
    }
}
