//! Where the workspace is, and how cargo is called in it.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The root of the workspace that this program was built from.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The cargo that runs this program, in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Builds the binaries of `packages` for release, its progress on standard error. Returns where they are, by name.
pub(crate) fn build_release(packages: &[&str]) -> Result<HashMap<String, PathBuf>> {
    let mut cargo = cargo();
    cargo.args(["build", "--release", "--bins", "--message-format=json-render-diagnostics"]);
    cargo.args(packages.iter().flat_map(|package| ["--package", package]));
    let mut child = cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting cargo build")?;

    let mut binaries = HashMap::new();
    if let Some(messages) = child.stdout.take() {
        for line in BufReader::new(messages).lines() {
            binaries.extend(binary(&line.context("reading cargo's messages")?));
        }
    }
    let status = child.wait().context("waiting for cargo build")?;
    ensure!(status.success(), "cargo build failed ({status})");
    Ok(binaries)
}

/// The name and place of the binary that a line of cargo's JSON messages tells of, if it does.
fn binary(line: &str) -> Option<(String, PathBuf)> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
        target: Target,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    let message: Message = serde_json::from_str(line).ok()?;
    Some((message.target.name, message.executable?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_binary_is_found_in_the_messages_of_cargo() {
        let line = r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"b"},"executable":"/t/release/b"}"#;
        assert_eq!(binary(line), Some(("b".to_owned(), PathBuf::from("/t/release/b"))));
    }

    #[test]
    fn libraries_and_other_messages_are_passed_over() {
        for line in [
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"l"},"executable":null}"#,
            r#"{"reason":"build-finished","success":true}"#,
            "",
        ] {
            assert_eq!(binary(line), None, "{line}");
        }
    }
}
