//! Java with qpid-jms, and the client written with it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, ensure};
use sha2::{Digest as _, Sha256};

use super::installed::{self, Program};
use super::version::Version;
use super::{cache, client, pins};
use crate::process::output_of;

const PROGRAMS: &[Program] = &[
    Program {
        name: "javac",
        version: "-version",
        oldest: Version { major: 11, minor: 0 },
        package: "default-jdk-headless",
    },
    Program { name: "mvn", version: "--version", oldest: Version { major: 3, minor: 6 }, package: "maven" },
];

/// The class path of the client written with qpid-jms, fetched and compiled if it is not there yet.
pub fn ensure_jms() -> Result<&'static OsString> {
    static FOUND: OnceLock<Result<OsString, String>> = OnceLock::new();
    FOUND.get_or_init(|| class_path().map_err(|error| format!("{error:#}"))).as_ref().map_err(|error| {
        anyhow!(
            "the tests need Java with qpid-jms (Debian 12: default-jdk-headless and maven; qpid-jms comes from Maven \
             Central): {error}"
        )
    })
}

fn class_path() -> Result<OsString> {
    installed::ensure_all(PROGRAMS)?;
    let source = client("jms");
    let jars = cache::made("qpid-jms", &pins(&source, &["pom.xml", "jars.sha256"])?, |whole| fetch(&source, whole))?;
    let jars = jars.join("*");
    let pins = pins(&source, &["pom.xml", "jars.sha256", "Receiver.java"])?;
    let classes = cache::made("jms-receiver", &pins, |classes| {
        let mut javac = Command::new("javac");
        javac.args(["--release", "11"]).arg("-d").arg(classes).arg("-cp").arg(&jars).arg(source.join("Receiver.java"));
        output_of("javac", &mut javac).map(drop)
    })?;
    Ok(env::join_paths([classes, jars])?)
}

/// Has Maven bring the jars, and compares them with those that were pinned.
fn fetch(source: &Path, whole: &Path) -> Result<()> {
    let work = tempfile::tempdir_in(whole)?;
    let jars = work.path().join("jars");
    let mut mvn = Command::new("mvn");
    mvn.args(["--batch-mode", "--quiet", "dependency:copy-dependencies"]).arg("--file").arg(source.join("pom.xml"));
    // A repository of its own: what the user's holds is neither used nor added to.
    for (name, directory) in [("maven.repo.local", work.path().join("repository")), ("outputDirectory", jars.clone())] {
        let mut definition = OsString::from(format!("-D{name}="));
        definition.push(directory);
        mvn.arg(definition);
    }
    output_of("mvn dependency:copy-dependencies", &mut mvn)?;
    let pinned = fs::read_to_string(source.join("jars.sha256")).context("cannot read jars.sha256")?;
    let brought = sums(&jars)?;
    ensure!(brought == pinned, "Maven brought other jars than jars.sha256 names:\n{brought}");
    for entry in fs::read_dir(&jars)? {
        let entry = entry?;
        fs::rename(entry.path(), whole.join(entry.file_name()))?;
    }
    Ok(())
}

/// The hashes of the files of a directory, by name, as `sha256sum *` prints them.
fn sums(directory: &Path) -> Result<String> {
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let entry = entry?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), entry.path());
    }
    let mut text = String::new();
    for (name, path) in files {
        let hash = Sha256::digest(fs::read(&path)?);
        // Writing to a string does not fail.
        for byte in hash {
            let _ = write!(text, "{byte:02x}");
        }
        let _ = writeln!(text, "  {name}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_sha256sum() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("b"), "abc").unwrap();
        fs::write(directory.path().join("a"), "").unwrap();
        let expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a\n\
                        ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  b\n";
        assert_eq!(sums(directory.path()).unwrap(), expected);
    }
}
