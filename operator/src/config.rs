//! The command line, and what follows from it.

#![allow(clippy::doc_markdown, reason = "clap shows the comments of arguments to users as they are")]

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The operator of Sluice: grants client slots and connect permits, injects the sidecar, scales workloads.
#[derive(Debug, Parser)]
#[command(name = "sluice-operator", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs until SIGTERM or SIGINT. The cluster is the one that the process runs in, or the one of KUBECONFIG. SLUICE_LOG
    /// filters the log (info, debug, sluice_operator=debug, …). Prints one JSON line with its addresses when it is
    /// listening.
    Run(Options),
}

/// The options of `run`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Where sidecars find the broker (gRPC over TLS; port 0 picks one).
    #[arg(long, default_value = "0.0.0.0:8443", value_name = "ADDRESS")]
    pub broker: SocketAddr,
    /// Where the API server finds the webhook (HTTPS; port 0 picks one).
    #[arg(long, default_value = "0.0.0.0:9443", value_name = "ADDRESS")]
    pub webhook: SocketAddr,
    /// Where /healthz, /readyz and /metrics are served (port 0 picks one).
    #[arg(long, default_value = "0.0.0.0:9464", value_name = "ADDRESS")]
    pub admin: SocketAddr,
    /// An endpoint beside *.aliyuncs.com (for STS: beside STS's own names there) that credentials may be sent to: HOST:PORT, or
    /// *.DOMAIN. Can be repeated.
    #[arg(long, value_name = "ENDPOINT")]
    pub allow_endpoint: Vec<String>,
    /// The operator's own namespace, which holds its Lease, its CA and the slot tables. Default: POD_NAMESPACE.
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The name of this replica. Default: POD_NAME, or the host's name.
    #[arg(long, value_name = "NAME")]
    pub identity: Option<String>,
    /// Where injected sidecars are told to find the broker. Can be repeated.
    #[arg(long, value_name = "HOST:PORT")]
    pub broker_address: Vec<String>,
    /// The sidecar's image that is injected.
    #[arg(long, value_name = "IMAGE")]
    pub sidecar_image: Option<String>,
    /// The MutatingWebhookConfiguration whose CA bundle is kept up to date. Without it, that is left to others.
    #[arg(long, value_name = "NAME")]
    pub webhook_name: Option<String>,
    /// A name or an address that the certificates of broker and webhook are made out to. Can be repeated.
    #[arg(long, value_name = "DNS-OR-IP")]
    pub certificate_name: Vec<String>,
    /// How the log is written.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line for each event, for people.
    Text,
    /// One JSON object for each event.
    Json,
}

/// What is missing on the command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No namespace.
    #[error(
        "the operator's own namespace is not known: give --namespace, or set POD_NAMESPACE from metadata.namespace"
    )]
    Namespace,
    /// No name.
    #[error("this replica has no name: give --identity, or set POD_NAME from metadata.name")]
    Identity,
}

impl Options {
    /// The operator's own namespace. `environment` reads a variable.
    pub fn namespace(&self, environment: impl Fn(&str) -> Option<String>) -> Result<String, ConfigError> {
        let given = self.namespace.clone().or_else(|| environment("POD_NAMESPACE"));
        given.filter(|name| !name.is_empty()).ok_or(ConfigError::Namespace)
    }

    /// The name of this replica. `environment` reads a variable.
    pub fn identity(&self, environment: impl Fn(&str) -> Option<String>) -> Result<String, ConfigError> {
        let given = self.identity.clone().or_else(|| environment("POD_NAME")).or_else(|| environment("HOSTNAME"));
        given.filter(|name| !name.is_empty()).ok_or(ConfigError::Identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Options {
        let all = ["sluice-operator", "run"].iter().chain(arguments);
        let Command::Run(options) = Arguments::try_parse_from(all).unwrap().command;
        options
    }

    #[test]
    fn what_is_not_given_has_a_default_or_comes_from_the_pod() {
        let options = options(&[]);
        assert_eq!(options.broker, ([0, 0, 0, 0], 8443).into());
        let pod = |name: &str| Some(format!("from {name}"));
        assert_eq!(options.namespace(pod).unwrap(), "from POD_NAMESPACE");
        assert_eq!(options.identity(pod).unwrap(), "from POD_NAME");
        assert_eq!(options.namespace(|_| None), Err(ConfigError::Namespace));
        assert_eq!(options.identity(|_| Some(String::new())), Err(ConfigError::Identity));
    }

    #[test]
    fn what_can_be_repeated_is_kept_in_order() {
        let options = options(&[
            "--allow-endpoint",
            "127.0.0.1:5671",
            "--allow-endpoint",
            "emulator.test:443",
            "--namespace",
            "sluice-system",
            "--log-format",
            "json",
        ]);
        assert_eq!(options.allow_endpoint, ["127.0.0.1:5671", "emulator.test:443"]);
        assert_eq!(options.namespace(|_| None).unwrap(), "sluice-system");
        assert_eq!(options.log_format, LogFormat::Json);
    }
}
