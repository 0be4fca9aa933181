//! Kubernetes' control plane, `kubectl` and Helm: found on the machine, or built once from pinned Go modules.
//!
//! What `KUBEBUILDER_ASSETS` names (the convention of controller-runtime's envtest) is taken first, as far as its
//! versions fit. `setup-envtest` brings `etcd`, `kube-apiserver` and `kubectl` there, but no controller-manager and no
//! scheduler. What it lacks is built from `tests/tools/`, whose `go.mod` and `go.sum` pin every module, and kept in the
//! cache of [`super::cache`]; etcd comes from Debian's `etcd-server`, unpacked there.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::go::{self, OLDEST_GO};
use super::version::Version;
use super::{cache, unusable};
use crate::process::output_of;

/// The programs of a control plane.
#[derive(Debug, Clone)]
pub struct KubernetesFiles {
    /// The store.
    pub etcd: PathBuf,
    /// `kube-apiserver`.
    pub api_server: PathBuf,
    /// `kube-controller-manager`, of the API server's minor version.
    pub controller_manager: PathBuf,
    /// `kube-scheduler`, of the API server's minor version.
    pub scheduler: PathBuf,
    /// `kubectl`, at most one minor version from the API server's.
    pub kubectl: PathBuf,
}

/// The oldest API server that Sluice works with: the first one with native sidecars on by default.
const OLDEST: Version = Version { major: 1, minor: 29 };

/// A control plane's programs, built if they are not there yet: some minutes, once for a machine.
pub fn ensure_kubernetes() -> Result<&'static KubernetesFiles> {
    static FOUND: OnceLock<Result<KubernetesFiles, String>> = OnceLock::new();
    FOUND.get_or_init(|| find_kubernetes().map_err(|error| format!("{error:#}"))).as_ref().map_err(|error| {
        anyhow!(
            "the tests need Kubernetes' control plane: in KUBEBUILDER_ASSETS (etcd, kube-apiserver {OLDEST} or newer, \
             kube-controller-manager, kube-scheduler, kubectl), or built by Go {OLDEST_GO} or newer, with etcd from \
             Debian's etcd-server: {error}"
        )
    })
}

/// `helm`, built if it is not there yet.
pub fn ensure_helm() -> Result<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let module = Module::read("helm", "helm.sh/helm/v3").map_err(|error| format!("{error:#}"))?;
            module.program("helm", "helm.sh/helm/v3/cmd/helm").map_err(|error| format!("{error:#}"))
        })
        .as_ref()
        .map(PathBuf::as_path)
        .map_err(|error| anyhow!("the tests need Helm, built by Go {OLDEST_GO} or newer: {error}"))
}

fn find_kubernetes() -> Result<KubernetesFiles> {
    let module = Module::read("kubernetes", "k8s.io/kubernetes")?;
    let assets = Assets::find()?;
    let plan = Plan::new(&assets.versions, module.minor()?)?;
    if let Some(why) = &plan.passed_over {
        eprintln!("{why}");
    }
    let take = |name: &str, found: bool| match &assets.directory {
        Some(directory) if found => Ok(directory.join(name)),
        _ => module.program(name, &format!("k8s.io/kubernetes/cmd/{name}")),
    };
    let etcd = assets.directory.as_ref().map(|directory| directory.join("etcd")).filter(|etcd| etcd.is_file());
    Ok(KubernetesFiles {
        etcd: etcd.map_or_else(etcd_of_debian, Ok)?,
        api_server: take("kube-apiserver", plan.api_server)?,
        controller_manager: take("kube-controller-manager", plan.controllers)?,
        scheduler: take("kube-scheduler", plan.controllers)?,
        kubectl: take("kubectl", plan.kubectl)?,
    })
}

fn etcd_of_debian() -> Result<PathBuf> {
    let root = cache::unpacked("etcd", &["etcd-server"], |_| Ok(()))?;
    let etcd = root.join("usr/bin/etcd");
    ensure!(etcd.is_file(), unusable(&root));
    Ok(etcd)
}

/// What is in `KUBEBUILDER_ASSETS`.
#[derive(Debug, Default)]
struct Assets {
    directory: Option<PathBuf>,
    versions: AssetVersions,
}

/// The versions of what is there.
#[derive(Debug, Default, Clone, Copy)]
struct AssetVersions {
    api_server: Option<Version>,
    controller_manager: Option<Version>,
    scheduler: Option<Version>,
    kubectl: Option<Version>,
}

impl Assets {
    fn find() -> Result<Self> {
        let set = env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty());
        let Some(directory) = set.map(PathBuf::from) else { return Ok(Self::default()) };
        ensure!(directory.is_dir(), "KUBEBUILDER_ASSETS is {}, which is no directory", directory.display());
        let version = |name: &str, arguments: &[&str]| -> Result<Option<Version>> {
            let program = directory.join(name);
            if !program.is_file() {
                return Ok(None);
            }
            let said = output_of(&program.display().to_string(), Command::new(&program).args(arguments))?;
            let version = Version::of(&said).with_context(|| format!("{} says no version: {said}", program.display()));
            version.map(Some)
        };
        let versions = AssetVersions {
            api_server: version("kube-apiserver", &["--version"])?,
            controller_manager: version("kube-controller-manager", &["--version"])?,
            scheduler: version("kube-scheduler", &["--version"])?,
            kubectl: version("kubectl", &["version", "--client"])?,
        };
        Ok(Self { directory: Some(directory), versions })
    }
}

/// Which programs of `KUBEBUILDER_ASSETS` are taken; the others are built.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    api_server: bool,
    /// Controller-manager and scheduler.
    controllers: bool,
    kubectl: bool,
    /// Why an API server that is there is not taken.
    passed_over: Option<String>,
}

impl Plan {
    /// `pinned` is the minor version of what would be built.
    fn new(found: &AssetVersions, pinned: Version) -> Result<Self> {
        let close = |kubectl: Option<Version>, server: Version| {
            kubectl.is_some_and(|kubectl| kubectl.major == server.major && kubectl.minor.abs_diff(server.minor) <= 1)
        };
        let built =
            Self { api_server: false, controllers: false, kubectl: close(found.kubectl, pinned), passed_over: None };
        let Some(server) = found.api_server else { return Ok(built) };
        if server < OLDEST {
            bail!(
                "KUBEBUILDER_ASSETS holds kube-apiserver {server}, and Sluice needs {OLDEST} or newer (native sidecars): \
                 put a newer one there, or unset KUBEBUILDER_ASSETS to have {pinned} built"
            );
        }
        let controllers = found.controller_manager == Some(server) && found.scheduler == Some(server);
        if !controllers && server != pinned {
            let passed_over = Some(format!(
                "KUBEBUILDER_ASSETS holds kube-apiserver {server}, but no kube-controller-manager and kube-scheduler \
                 {server}; a control plane of {pinned} is built instead"
            ));
            return Ok(Self { passed_over, ..built });
        }
        Ok(Self { api_server: true, controllers, kubectl: close(found.kubectl, server), passed_over: None })
    }
}

/// A Go module of `tests/tools/`, which pins a program's version and everything that it is made of.
#[derive(Debug)]
struct Module {
    directory: PathBuf,
    /// Of the module that holds the programs, such as `v1.36.2`.
    version: String,
    /// `go.mod` and `go.sum`: what the programs are made of.
    pins: Vec<u8>,
}

impl Module {
    /// Reads `tests/tools/NAME`, which requires `module`.
    fn read(name: &str, module: &str) -> Result<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(name);
        let read = |file: &str| {
            let path = directory.join(file);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let (requirements, sums) = (read("go.mod")?, read("go.sum")?);
        let version = required(&requirements, module)
            .with_context(|| format!("{}/go.mod does not require {module}", directory.display()))?
            .to_owned();
        Ok(Self { directory, version, pins: [requirements, sums].concat().into_bytes() })
    }

    fn minor(&self) -> Result<Version> {
        Version::of(&self.version).with_context(|| format!("{} is no version", self.version))
    }

    /// The program `name`, of `package`.
    fn program(&self, name: &str, package: &str) -> Result<PathBuf> {
        let home = cache::made(&format!("{name}-{}", self.version), &self.pins, |directory| {
            self.build(name, package, directory)
        })?;
        Ok(home.join(name))
    }

    fn build(&self, name: &str, package: &str, directory: &Path) -> Result<()> {
        let version = &self.version;
        let mut go = go::build(&self.directory)?;
        eprintln!("building {name} {version}: minutes, once for this machine");
        let start = Instant::now();
        let mut link = "-s -w".to_owned();
        if let Some(Version { major, minor }) = package.starts_with("k8s.io/").then(|| self.minor()).transpose()? {
            let component = "k8s.io/component-base/version";
            let (major, minor) = (major.to_string(), minor.to_string());
            for (name, value) in [("gitVersion", version), ("gitMajor", &major), ("gitMinor", &minor)] {
                link.extend([" -X ", component, ".", name, "=", value]);
            }
        }
        go.args(["-ldflags", &link, "-o"]).arg(directory.join(name)).arg(package);
        let status = go.stdin(Stdio::null()).stdout(Stdio::null()).status().context("cannot start go")?;
        ensure!(status.success(), "go build {package} in {} ended with {status}", self.directory.display());
        eprintln!("building {name} {version}: done after {:.0} s", start.elapsed().as_secs_f64());
        Ok(())
    }
}

/// The version of `module` that the text of a `go.mod` requires.
fn required<'a>(requirements: &'a str, module: &str) -> Option<&'a str> {
    requirements.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|&word| word == "require");
        (words.next()? == module).then(|| words.next())?.filter(|word| word.starts_with('v'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINNED: Version = Version { major: 1, minor: 36 };

    fn version(minor: u32) -> Version {
        Version { major: 1, minor }
    }

    #[test]
    fn the_pinned_version_is_read_from_the_module() {
        let requirements = "module a\n\nrequire (\n\tk8s.io/kube v1.2.3\n\tk8s.io/kubernetes v1.36.2 // indirect\n)\n";
        assert_eq!(required(requirements, "k8s.io/kubernetes"), Some("v1.36.2"));
        assert_eq!(required("require helm.sh/helm/v3 v3.21.4\n", "helm.sh/helm/v3"), Some("v3.21.4"));
        assert_eq!(required(requirements, "k8s.io/other"), None);
        assert!(Module::read("kubernetes", "k8s.io/kubernetes").unwrap().minor().unwrap() >= OLDEST);
        assert!(Module::read("helm", "helm.sh/helm/v3").is_ok());
    }

    #[test]
    fn assets_of_the_pinned_minor_are_taken_and_completed() {
        let found =
            AssetVersions { api_server: Some(version(36)), kubectl: Some(version(36)), ..AssetVersions::default() };
        let plan = Plan::new(&found, PINNED).unwrap();
        assert_eq!(plan, Plan { api_server: true, controllers: false, kubectl: true, passed_over: None });
    }

    #[test]
    fn assets_of_another_minor_are_taken_only_with_their_controllers() {
        let mut found =
            AssetVersions { api_server: Some(version(33)), kubectl: Some(version(33)), ..AssetVersions::default() };
        let plan = Plan::new(&found, PINNED).unwrap();
        assert!(!plan.api_server && !plan.controllers && !plan.kubectl);
        assert!(plan.passed_over.unwrap().contains("1.33"));
        (found.controller_manager, found.scheduler) = (Some(version(33)), Some(version(33)));
        let plan = Plan::new(&found, PINNED).unwrap();
        assert_eq!(plan, Plan { api_server: true, controllers: true, kubectl: true, passed_over: None });
    }

    #[test]
    fn an_api_server_without_native_sidecars_is_refused() {
        let found = AssetVersions { api_server: Some(version(28)), ..AssetVersions::default() };
        let error = Plan::new(&found, PINNED).unwrap_err().to_string();
        assert!(error.contains("1.28") && error.contains("1.29 or newer"), "{error}");
    }

    #[test]
    fn without_assets_all_is_built() {
        let plan = Plan::new(&AssetVersions::default(), PINNED).unwrap();
        assert!(!plan.api_server && !plan.controllers && !plan.kubectl && plan.passed_over.is_none());
    }
}
