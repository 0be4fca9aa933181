//! Node with rhea.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow};

use super::installed::{self, Program};
use super::version::Version;
use super::{cache, client, pins};
use crate::process::output_of;

const PROGRAMS: &[Program] = &[
    Program { name: "node", version: "--version", oldest: Version { major: 18, minor: 3 }, package: "nodejs" },
    // The first that reads lock files of version 3.
    Program { name: "npm", version: "--version", oldest: Version { major: 7, minor: 0 }, package: "npm" },
];

/// What says which rhea, and what else it is made of, with their hashes.
const PINNED_BY: &[&str] = &["package.json", "package-lock.json", ".npmrc"];

/// A `NODE_PATH` that holds rhea, fetched if it is not there yet.
pub fn ensure_rhea() -> Result<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(|| fetch().map_err(|error| format!("{error:#}"))).as_ref().map(PathBuf::as_path).map_err(
        |error| anyhow!("the tests need Node with rhea (Debian 12: nodejs and npm; rhea comes from npm): {error}"),
    )
}

fn fetch() -> Result<PathBuf> {
    installed::ensure_all(PROGRAMS)?;
    let source = client("rhea");
    let home = cache::made("rhea", &pins(&source, PINNED_BY)?, |directory| {
        for name in PINNED_BY {
            fs::copy(source.join(name), directory.join(name)).with_context(|| format!("cannot copy {name}"))?;
        }
        let mut npm = Command::new("npm");
        npm.current_dir(directory).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
        output_of("npm ci", &mut npm).map(drop)
    })?;
    Ok(home.join("node_modules"))
}
