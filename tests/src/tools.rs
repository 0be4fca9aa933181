//! What the tests need and a machine may lack, fetched on first use: `RabbitMQ` 3.10 with Erlang, clients for AMQP 1.0 that
//! know nothing of Sluice (Python with qpid-proton, Node with rhea, Java with qpid-jms, one in Go), and Kubernetes' control
//! plane with Helm (see [`kubernetes`](ensure_kubernetes)).
//!
//! Debian's packages are downloaded and unpacked into a cache directory, not installed: no root is needed, no service
//! starts, and no port is taken. All that is asked of the machine is the `apt-get` and `dpkg-deb` of Debian 12, and the
//! libraries that these and the essential packages need themselves; every other library comes along. What is unpacked
//! stays there for the next run, in a directory that is named for what is in it: another list of packages, or another
//! release, gets another directory. What npm, Maven and Go bring is pinned by hashes (Maven's own
//! plugin by its version alone) and kept there as well. Node and Java
//! themselves are the machine's; if it has none they are installed, which takes root.

mod cache;
mod go;
mod installed;
mod java;
mod kubernetes;
mod node;
mod version;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow};

pub use self::go::ensure_go_amqp;
pub use self::java::ensure_jms;
pub use self::kubernetes::{KubernetesFiles, ensure_helm, ensure_kubernetes};
pub use self::node::ensure_rhea;
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
    let root = cache::unpacked("rabbitmq", RABBITMQ_PACKAGES, relocate_erlang)?;
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
    let root = cache::unpacked("python-proton", PROTON_PACKAGES, |_| Ok(()))?;
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
    let home = cache::directory("python-proton-venv", &[PROTON_WHEEL])?;
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

/// Where the source of a client is.
pub(crate) fn client(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

/// The content of files that determine what is made of them.
fn pins(directory: &Path, names: &[&str]) -> Result<Vec<u8>> {
    let read = |name: &&str| {
        let path = directory.join(name);
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    Ok(names.iter().map(read).collect::<Result<Vec<_>>>()?.concat())
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
