//! The chart of this workspace as Helm reads it, in a [`Cluster`] of the tests.

use std::fmt;

use anyhow::Result;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::process::output_of;

/// Where the chart is.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/sluice");

/// A release of the chart: its name in a namespace, whether it is installed or not. Values are those of `values.yaml`.
pub struct Release<'cluster> {
    cluster: &'cluster Cluster,
    namespace: String,
    name: String,
}

impl fmt::Debug for Release<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "release {}/{}", self.namespace, self.name)
    }
}

impl<'cluster> Release<'cluster> {
    /// Nothing is installed yet. The namespace need not exist.
    pub fn new(cluster: &'cluster Cluster, namespace: &str, name: &str) -> Self {
        Self { cluster, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace that it is in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Installs it, and its namespace if need be; returns what Helm prints. Nothing is waited for.
    pub fn install(&self, values: &Value) -> Result<String> {
        self.helm(&["install", &self.name, CHART, "--create-namespace"], Some(values))
    }

    /// Installs what has changed in chart or values; values that are not given are the chart's again.
    pub fn upgrade(&self, values: &Value) -> Result<String> {
        self.helm(&["upgrade", &self.name, CHART], Some(values))
    }

    /// Takes it away, but for what the chart wants to be kept; waits until it is gone.
    pub fn uninstall(&self) -> Result<String> {
        self.helm(&["uninstall", &self.name, "--wait"], None)
    }

    /// What is installed, in YAML.
    pub fn manifest(&self) -> Result<String> {
        self.helm(&["get", "manifest", &self.name], None)
    }

    /// What would be installed, in YAML, if this were the version of Kubernetes. The cluster is not asked.
    pub fn template(&self, kubernetes: &str, values: &Value) -> Result<String> {
        self.helm(&["template", &self.name, CHART, "--kube-version", kubernetes], Some(values))
    }

    /// What Helm says about the chart with these values; an error if it warns.
    pub fn lint(&self, values: &Value) -> Result<String> {
        self.helm(&["lint", CHART, "--strict"], Some(values))
    }

    fn helm(&self, arguments: &[&str], values: Option<&Value>) -> Result<String> {
        let mut command = self.cluster.helm()?;
        command.args(arguments).args(["--namespace", &self.namespace]);
        let file = tempfile::NamedTempFile::new()?;
        if let Some(values) = values {
            serde_json::to_writer(&file, values)?;
            command.arg("--values").arg(file.path());
        }
        output_of(&format!("helm {}", arguments[0]), &mut command)
    }
}
