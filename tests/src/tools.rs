//! What the tests need and a machine may lack, fetched on first use: `RabbitMQ` 3.10 with Erlang, and Python with
//! qpid-proton.
//!
//! Debian's packages are downloaded and unpacked into a cache directory, not installed: no root is needed, no service
//! starts, and no port is taken. All that is asked of the machine is the `apt-get` and `dpkg-deb` of Debian 12, and the
//! libraries that these and the essential packages need themselves; every other library comes along. What is unpacked
//! stays there for the next run, in a directory that is named for what is in it: another list of packages, or another
//! release, gets another directory.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, bail};
use sha2::{Digest as _, Sha256};

use crate::process::output_of;

/// `RabbitMQ`, and the parts of Erlang that it needs.
const RABBITMQ_PACKAGES: &[&str] = &[
    "rabbitmq-server",
    "erlang-asn1",
    "erlang-base",
    "erlang-crypto",
    "erlang-eldap",
    "erlang-inets",
    "erlang-mnesia",
    "erlang-os-mon",
    "erlang-parsetools",
    "erlang-public-key",
    "erlang-runtime-tools",
    "erlang-ssl",
    "erlang-syntax-tools",
    "erlang-tools",
    "erlang-xmerl",
    // For Erlang's `crypto`.
    "libssl3",
];

/// qpid-proton for Python, and the Python that it is built for.
const PROTON_PACKAGES: &[&str] = &[
    "python3-qpid-proton",
    "libqpid-proton11",
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    // For proton's extension module.
    "libpython3.11",
    // For the interpreter.
    "libexpat1",
    // For proton and `hashlib`.
    "libssl3",
];

/// qpid-proton for machines without Debian's packages; built from source, which takes a C compiler.
const PROTON_WHEEL: &str = "python-qpid-proton==0.40.0";

/// An unpacked `RabbitMQ`.
#[derive(Debug)]
pub struct RabbitMqFiles {
    /// `…/rabbitmq_server-3.10.x`: `sbin/` and `plugins/` are in it.
    pub home: PathBuf,
    /// A directory with an `erl` that works where it is, to be put first in `PATH`.
    pub erlang: PathBuf,
    /// Erlang's name server.
    pub epmd: PathBuf,
    /// `LD_LIBRARY_PATH` for all of Erlang.
    pub libraries: OsString,
}

/// A Python that can `import proton`.
#[derive(Debug)]
pub struct PythonWithProton {
    /// The interpreter.
    pub interpreter: PathBuf,
    /// The environment that it must run in.
    pub environment: Vec<(&'static str, OsString)>,
}

/// `RabbitMQ` 3.10, fetched if it is not there yet.
pub fn ensure_rabbitmq() -> Result<&'static RabbitMqFiles> {
    static FOUND: OnceLock<Result<RabbitMqFiles, String>> = OnceLock::new();
    FOUND
        .get_or_init(|| find_rabbitmq().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow!("the tests need RabbitMQ 3.10 (Debian 12: rabbitmq-server and erlang): {error}"))
}

/// Python with qpid-proton, fetched if it is not there yet.
pub fn ensure_python_proton() -> Result<&'static PythonWithProton> {
    static FOUND: OnceLock<Result<PythonWithProton, String>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            proton_of_debian()
                .or_else(|debian| proton_of_pypi().with_context(|| format!("{debian:#}; without Debian's packages")))
                .map_err(|error| format!("{error:#}"))
        })
        .as_ref()
        .map_err(|error| {
            anyhow!(
                "the tests need qpid-proton for Python (from Debian 12's packages, or built from PyPI, which takes \
                 python3-venv, python3-dev, libssl-dev and gcc): {error}"
            )
        })
}

fn find_rabbitmq() -> Result<RabbitMqFiles> {
    let root = unpacked("rabbitmq", RABBITMQ_PACKAGES, relocate_erlang)?;
    let files = || -> Result<RabbitMqFiles> {
        Ok(RabbitMqFiles {
            home: child(&root.join("usr/lib/rabbitmq/lib"), "rabbitmq_server-3.10.")?,
            erlang: root.join(RELOCATED),
            epmd: child(&root.join("usr/lib/erlang"), "erts-")?.join("bin/epmd"),
            libraries: libraries(&root)?,
        })
    };
    files().with_context(|| unusable(&root))
}

/// Where an unpacked Erlang has the `erl` that works.
const RELOCATED: &str = "relocated";

/// Adds an `erl` to an Erlang that is not in the place it was built for: Debian's own has that place written into it.
/// This one finds its files from where it is itself.
fn relocate_erlang(root: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let runtime = child(&root.join("usr/lib/erlang"), "erts-")?;
    let runtime = runtime.file_name().map(|name| name.display().to_string()).unwrap_or_default();
    let script = format!(
        "#!/bin/sh\n\
         ROOTDIR=$(cd \"$(dirname \"$0\")/../usr/lib/erlang\" && pwd) || exit 1\n\
         export ROOTDIR BINDIR=\"$ROOTDIR/{runtime}/bin\" EMU=beam PROGNAME=erl\n\
         exec \"$BINDIR/erlexec\" \"$@\"\n"
    );
    let directory = root.join(RELOCATED);
    fs::create_dir(&directory)?;
    let erl = directory.join("erl");
    fs::write(&erl, script)?;
    fs::set_permissions(&erl, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn proton_of_debian() -> Result<PythonWithProton> {
    let root = unpacked("python-proton", PROTON_PACKAGES, |_| Ok(()))?;
    let usr = root.join("usr");
    let python = || {
        checked(PythonWithProton {
            interpreter: usr.join("bin/python3.11"),
            environment: vec![
                ("PYTHONPATH", usr.join("lib/python3/dist-packages").into()),
                ("PYTHONHOME", usr.clone().into()),
                ("LD_LIBRARY_PATH", libraries(&root)?),
            ],
        })
    };
    python().with_context(|| unusable(&root))
}

fn proton_of_pypi() -> Result<PythonWithProton> {
    let home = peers()?.join(directory_name("python-proton-venv", &[PROTON_WHEEL]));
    let found = PythonWithProton { interpreter: home.join("bin/python"), environment: Vec::new() };
    if let Ok(found) = checked(PythonWithProton { interpreter: home.join("bin/python"), environment: Vec::new() }) {
        return Ok(found);
    }
    output_of("python3 -m venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))?;
    output_of("pip install", Command::new(&found.interpreter).args(["-m", "pip", "install", "--quiet", PROTON_WHEEL]))?;
    checked(found).with_context(|| unusable(&home))
}

/// The interpreter, if it can do what it is for.
fn checked(python: PythonWithProton) -> Result<PythonWithProton> {
    let mut command = Command::new(&python.interpreter);
    command.envs(python.environment.iter().map(|(name, value)| (name, value)));
    let script = "import hashlib, hmac, proton, proton.reactor; assert proton.SSL.present()";
    output_of("python with qpid-proton", command.args(["-c", script]))?;
    Ok(python)
}

/// What to say of a directory whose content does not do.
fn unusable(directory: &Path) -> String {
    format!("what is in {} can't be used; remove it to have it fetched again", directory.display())
}

/// The directories of shared libraries below `root`, for `LD_LIBRARY_PATH`.
fn libraries(root: &Path) -> Result<OsString> {
    let is_multiarch =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains("-linux-gnu"));
    let directories = ["usr/lib", "lib"]
        .iter()
        .filter_map(|lib| fs::read_dir(root.join(lib)).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_multiarch);
    Ok(env::join_paths(directories)?)
}

/// The directory in which `packages` are unpacked, fetched if it is not there. It appears under its name only when whole,
/// which includes what `complete` adds to it.
fn unpacked(name: &str, packages: &[&str], complete: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let home = peers()?.join(directory_name(name, packages));
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

/// A name that changes with the packages, the machine's release and its architecture.
fn directory_name(name: &str, packages: &[&str]) -> String {
    let release = release(&fs::read_to_string("/etc/os-release").unwrap_or_default());
    let mut hash = Sha256::new();
    for part in packages.iter().copied().chain([release.as_str(), env::consts::ARCH]) {
        hash.update(part);
        hash.update("\n");
    }
    let hash = hash.finalize();
    format!("{name}-{release}-{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3])
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
    apt(&options, &["update"])?;
    apt(&options, &wanted)?;
    Ok(())
}

/// Where all of this lives: outside the checkout, so that a fresh clone finds it. `SLUICE_CACHE`, or else `sluice` in the
/// user's cache directory.
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

/// The entry of `directory` whose name begins with `prefix`.
fn child(directory: &Path, prefix: &str) -> Result<PathBuf> {
    fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .with_context(|| {
            format!("{} holds no {prefix}*: this machine's packages are of another release", directory.display())
        })
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
    fn another_list_has_another_directory() {
        let name = directory_name("peer", &["a", "b"]);
        assert_eq!(name, directory_name("peer", &["a", "b"]));
        assert_ne!(name, directory_name("peer", &["a", "b", "c"]));
        assert_ne!(name, directory_name("peer", &["ab"]));
    }
}
