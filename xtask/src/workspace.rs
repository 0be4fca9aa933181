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

/// The cargo that runs this program, in the workspace's root. What cargo told this program of its own package is left out:
/// build scripts that look at the like would all run again.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let of_this_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_this_package)) {
        cargo.env_remove(name);
    }
    cargo.current_dir(root());
    cargo
}

/// Calls `cargo build` with `arguments`, its progress on standard error. Returns where the binaries are, by name.
pub(crate) fn build<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<HashMap<String, PathBuf>> {
    let mut cargo = cargo();
    cargo.arg("build").args(arguments);
    built_by(cargo)
}

/// The same for a `cargo build` that is called otherwise.
pub(crate) fn built_by(mut cargo: Command) -> Result<HashMap<String, PathBuf>> {
    cargo.arg("--message-format=json-render-diagnostics");
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
        profile: Profile,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    #[derive(Deserialize)]
    struct Profile {
        test: bool,
    }
    let message: Message = serde_json::from_str(line).ok()?;
    let built = (message.target.name, message.executable?);
    (!message.profile.test).then_some(built)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_binary_is_found_in_the_messages_of_cargo() {
        let line = r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"b"},"profile":{"test":false},"executable":"/t/release/b"}"#;
        assert_eq!(binary(line), Some(("b".to_owned(), PathBuf::from("/t/release/b"))));
    }

    #[test]
    fn libraries_tests_and_other_messages_are_passed_over() {
        for line in [
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"l"},"profile":{"test":false},"executable":null}"#,
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"b"},"profile":{"test":true},"executable":"/t/debug/deps/b-1"}"#,
            r#"{"reason":"build-finished","success":true}"#,
            "",
        ] {
            assert_eq!(binary(line), None, "{line}");
        }
    }
}
