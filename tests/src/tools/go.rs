//! Programs in Go: those of pinned modules, and the client written with Azure/go-amqp.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, bail};

use super::version::Version;
use super::{cache, client, pins};
use crate::process::output_of;

/// The oldest Go that builds the tools.
pub(super) const OLDEST_GO: Version = Version { major: 1, minor: 26 };

/// The client written with Azure/go-amqp, built if it is not there yet.
pub fn ensure_go_amqp() -> Result<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(|| build_go_amqp().map_err(|error| format!("{error:#}"))).as_ref().map(PathBuf::as_path).map_err(
        |error| {
            anyhow!("the tests need a client written with Azure/go-amqp, built by Go {OLDEST_GO} or newer: {error}")
        },
    )
}

fn build_go_amqp() -> Result<PathBuf> {
    let source = client("go-amqp");
    let pins = pins(&source, &["go.mod", "go.sum", "main.go"])?;
    let home = cache::made("go-amqp-receiver", &pins, |directory| {
        output_of("go build", build(&source)?.arg("-o").arg(directory.join("receiver")).arg(".")).map(drop)
    })?;
    Ok(home.join("receiver"))
}

/// `go build`, in the directory of a module, with nothing of the caller's own choices but where modules come from.
pub(super) fn build(module: &Path) -> Result<Command> {
    check()?;
    let mut go = Command::new("go");
    go.current_dir(module).envs([("CGO_ENABLED", "0"), ("GOFLAGS", "-mod=readonly"), ("GOWORK", "off")]);
    for name in ["GOOS", "GOARCH", "GOEXPERIMENT"] {
        go.env_remove(name);
    }
    go.args(["build", "-trimpath", "-buildvcs=false"]);
    Ok(go)
}

/// Fails if there is no Go that can build the tools.
fn check() -> Result<()> {
    let said = output_of("go version", Command::new("go").arg("version")).context("no Go was found in PATH")?;
    match Version::of(&said) {
        Some(version) if version >= OLDEST_GO => Ok(()),
        _ => bail!("the Go in PATH is too old: {}", said.trim()),
    }
}
