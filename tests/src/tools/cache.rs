//! Where what was fetched or built is kept: a directory for each list of packages on each release, and for each program
//! of each version, which appears when it is whole.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::process::output_of;

/// The directory in which `packages` are unpacked, fetched if it is not there. It appears under its name only when
/// whole, which includes what `complete` adds to it.
pub(super) fn unpacked(name: &str, packages: &[&str], complete: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let home = directory(name, packages)?;
    if !home.exists() {
        fetch(&home, packages, complete).with_context(|| format!("cannot make {}", home.display()))?;
    }
    Ok(home)
}

fn fetch(home: &Path, packages: &[&str], complete: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let work = tempfile::tempdir_in(peers()?)?;
    download(work.path(), packages)?;
    let root = work.path().join("root");
    fs::create_dir(&root)?;
    for entry in fs::read_dir(work.path())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            output_of("dpkg-deb", Command::new("dpkg-deb").arg("--extract").arg(&path).arg(&root))?;
        }
    }
    complete(&root)?;
    // Another test process may have been faster.
    match fs::rename(&root, home) {
        Err(error) if !home.exists() => bail!("cannot move what was unpacked there: {error}"),
        _ => Ok(()),
    }
}

/// The directory of what `make` makes, which is called if it is not there. It appears under its name only when whole;
/// the name changes with `pins`, whatever determines the content. One process of this machine makes such a thing at a
/// time, and the others wait for it.
pub(super) fn made(name: &str, pins: &[u8], make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let peers = peers()?;
    let home = peers.join(format!("{name}-{}-{}", env::consts::ARCH, short_hash(&[pins])));
    if home.exists() {
        return Ok(home);
    }
    alone(|| {
        if !home.exists() {
            let work = tempfile::tempdir_in(&peers)?;
            let whole = work.path().join("whole");
            fs::create_dir(&whole)?;
            make(&whole)?;
            fs::rename(&whole, &home).with_context(|| format!("cannot move what was built to {}", home.display()))?;
        }
        Ok(())
    })?;
    Ok(home)
}

/// Does what only one process of this machine may do at a time; the others wait for it.
pub(super) fn alone<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let lock = peers()?.join("builds.lock");
    let lock = fs::File::create(&lock).with_context(|| format!("cannot make {}", lock.display()))?;
    lock.lock().context("cannot wait for other test runs that build")?;
    work()
}

/// Where `name` has its place, made of `packages`.
pub(super) fn directory(name: &str, packages: &[&str]) -> Result<PathBuf> {
    Ok(peers()?.join(directory_name(name, packages)))
}

/// A name that changes with the packages, the machine's release and its architecture.
fn directory_name(name: &str, packages: &[&str]) -> String {
    let release = release(&fs::read_to_string("/etc/os-release").unwrap_or_default());
    let parts = packages.iter().copied().chain([release.as_str(), env::consts::ARCH]);
    format!("{name}-{release}-{}", short_hash(&parts.map(str::as_bytes).collect::<Vec<_>>()))
}

/// Eight hexadecimal digits that change with any of `parts`.
fn short_hash(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update("\n");
    }
    let hash = hash.finalize();
    format!("{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3])
}

/// `debian12`, of the text of an os-release file. A release without a number, such as Debian's unstable, has none here.
fn release(text: &str) -> String {
    let value = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches('"').replace('/', "")
    };
    format!("{}{}", value("ID"), value("VERSION_ID"))
}

/// Downloads packages into `directory`; if the machine's package lists are missing or stale, with lists of its own.
fn download(directory: &Path, packages: &[&str]) -> Result<()> {
    let apt = |options: &[String], arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(directory).env("LC_ALL", "C").arg("--quiet").args(options).args(arguments);
        output_of(&format!("apt-get {}", arguments.first().copied().unwrap_or_default()), &mut command)
    };
    let wanted = [&["download"], packages].concat();
    if apt(&[], &wanted).is_ok() {
        return Ok(());
    }
    let lists = directory.join("lists");
    let cache = directory.join("cache");
    fs::create_dir_all(lists.join("partial"))?;
    fs::create_dir_all(cache.join("archives/partial"))?;
    let options = [
        format!("--option=Dir::State::lists={}", lists.display()),
        format!("--option=Dir::Cache={}", cache.display()),
        "--option=APT::Sandbox::User=".to_owned(),
    ];
    with_fresh_lists(|arguments| apt(&options, arguments), &wanted)
}

/// Has `apt` update the package lists, and then do what is wanted. A source that does not answer is no failure as long as
/// another one has the packages; if none has, it is the reason.
pub(super) fn with_fresh_lists(apt: impl Fn(&[&str]) -> Result<String>, wanted: &[&str]) -> Result<()> {
    let updated = apt(&["update", "--error-on=any"]);
    match (apt(wanted), updated) {
        (Ok(_), _) => Ok(()),
        (Err(error), Ok(_)) => Err(error),
        (Err(error), Err(reason)) => Err(error.context(format!("{reason:#}"))),
    }
}

/// Where all of this lives: outside the checkout, so that a fresh clone finds it. `SLUICE_CACHE`, or else `sluice` in
/// the user's cache directory.
fn peers() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("SLUICE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("sluice")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/sluice")))
        .context("none of SLUICE_CACHE, XDG_CACHE_HOME and HOME is set, so there is no place for what tests need")?;
    let peers = cache.join("peers");
    fs::create_dir_all(&peers).with_context(|| format!("cannot make {}", peers.display()))?;
    Ok(peers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_its_id_and_number() {
        assert_eq!(release("NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n"), "debian12");
        assert_eq!(release("ID=debian\n"), "debian");
        assert_eq!(release(""), "");
    }

    #[test]
    fn a_source_that_does_not_answer_is_the_reason_only_if_packages_are_missing() {
        let apt = |has_packages: bool| {
            move |arguments: &[&str]| match arguments {
                ["update", ..] => bail!("no answer"),
                _ if has_packages => Ok(String::new()),
                _ => bail!("no such package"),
            }
        };
        with_fresh_lists(apt(true), &["download", "a"]).unwrap();
        let error = with_fresh_lists(apt(false), &["download", "a"]).unwrap_err();
        assert_eq!(format!("{error:#}"), "no answer: no such package");
    }

    #[test]
    fn another_list_has_another_directory() {
        let name = directory_name("peer", &["a", "b"]);
        assert_eq!(name, directory_name("peer", &["a", "b"]));
        assert_ne!(name, directory_name("peer", &["a", "b", "c"]));
        assert_ne!(name, directory_name("peer", &["ab"]));
    }
}
