//! The emulator's configuration file, and the same as a value for tests that run the emulator in their own process.
//! Unknown fields are errors. What is left out has the platform's value, or serves the quick start.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use sluice_cloud::secret::SecretString;

use crate::limits::Limits;

/// The smallest max-frame-size that AMQP allows (2.7.1).
pub(crate) const MIN_MAX_FRAME_SIZE: u32 = 512;

/// Everything that can be configured.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Where AMQP over TLS is served. Port 0 picks one.
    pub amqp: SocketAddr,
    /// Where the admin API is served, without TLS. Port 0 picks one.
    pub http: SocketAddr,
    /// Where the CA lives: `ca.pem` and `ca.key`, made there if they are not there yet. Without it the CA lives in memory.
    pub dir: Option<PathBuf>,
    /// The instance's ID, which every user name must carry; empty for a legacy public instance.
    pub instance_id: String,
    /// The consumer groups.
    pub groups: Vec<String>,
    /// The access keys.
    pub access_keys: Vec<AccessKeyEntry>,
    /// The temporary keys, with their tokens.
    pub tokens: Vec<TokenEntry>,
    /// The platform's limits and times.
    pub limits: Limits,
    /// How the AMQP peer behaves where the platform is not known to.
    pub wire: Wire,
    /// The product key of the generated devices.
    pub product_key: String,
    /// Decides what is random: which client gets a message, what the devices say.
    pub seed: u64,
}

/// An access key.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessKeyEntry {
    /// Its ID.
    pub id: String,
    /// Its secret.
    #[serde(deserialize_with = "secret")]
    pub secret: SecretString,
}

/// A temporary access key, as STS hands one out.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenEntry {
    /// Its ID, `STS.…`.
    pub access_key_id: String,
    /// Its secret.
    #[serde(deserialize_with = "secret")]
    pub access_key_secret: SecretString,
    /// The token that goes with it.
    #[serde(deserialize_with = "secret")]
    pub security_token: SecretString,
    /// When it expires, in Unix ms; never when left out. It is looked at when a client connects.
    #[serde(default)]
    pub expires_at_ms: Option<u64>,
}

/// The AMQP peer's own choices.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Wire {
    /// The largest frame it takes and sends; 65,536 bytes.
    pub max_frame_size: u32,
    /// How many sessions a connection may have at a time; 8. The official Java client opens one for itself and one for
    /// its consumer.
    pub sessions: u16,
    /// The size of a property in its Open, in bytes; none by default. To see whether a client takes a large Open.
    pub open_property_bytes: usize,
}

impl Default for Wire {
    fn default() -> Self {
        Self { max_frame_size: 65_536, sessions: 8, open_property_bytes: 0 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            amqp: SocketAddr::from((Ipv4Addr::LOCALHOST, 5671)),
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, 5680)),
            dir: None,
            instance_id: "iot-emulator".to_owned(),
            groups: vec!["DEFAULT_GROUP".to_owned()],
            access_keys: vec![AccessKeyEntry { id: "testid".to_owned(), secret: "testsecret".into() }],
            tokens: Vec::new(),
            limits: Limits::default(),
            wire: Wire::default(),
            product_key: "a1emulator0".to_owned(),
            seed: 1,
        }
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::new)
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not a configuration.
    #[error("{path} is not an emulator configuration: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// A value makes no sense.
    #[error("{field}: {reason}")]
    Value {
        /// The field, by its path in the file.
        field: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

impl Config {
    /// A configuration for tests: free ports on loopback, everything else by default.
    #[must_use]
    pub fn on_free_ports() -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { amqp: free, http: free, ..Self::default() }
    }

    /// Reads a YAML (or JSON) file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        serde_saphyr::from_str(&text)
            .map_err(|error| ConfigError::Parse { path: path.to_owned(), reason: error.to_string() })
    }

    /// Checks what the types can't say.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |field, reason: String| Err(ConfigError::Value { field, reason });
        if let Some(group) = repeated(self.groups.iter().map(String::as_str)) {
            return wrong("groups", format!("{group:?} is there twice"));
        }
        if self.groups.is_empty() || self.groups.iter().any(String::is_empty) {
            return wrong("groups", "there must be at least one, and none may be empty".to_owned());
        }
        if let Some(id) = repeated(self.access_keys.iter().map(|key| key.id.as_str())) {
            return wrong("accessKeys", format!("{id:?} is there twice"));
        }
        if repeated(self.tokens.iter().map(|token| token.security_token.expose())).is_some() {
            return wrong("tokens", "a security token is there twice".to_owned());
        }
        if self.wire.max_frame_size < MIN_MAX_FRAME_SIZE {
            return wrong("wire.maxFrameSize", format!("must be {MIN_MAX_FRAME_SIZE} or more (AMQP 1.0, 2.7.1)"));
        }
        if self.wire.sessions == 0 {
            return wrong("wire.sessions", "must be 1 or more".to_owned());
        }
        if self.limits.idle_time_out_min > self.limits.idle_time_out_max {
            return wrong("limits.idleTimeOutMin", "must not be more than limits.idleTimeOutMax".to_owned());
        }
        Ok(())
    }
}

fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(yaml: &str) -> Result<Config, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_changes_what_it_names_and_nothing_else() {
        let config = parse(
            "groups: [a, b]\naccessKeys: [{id: k, secret: hidden}]\nlimits: {ackTimeout: 300ms, backlogPerGroup: 5}\n",
        )
        .unwrap();
        assert_eq!(config.groups, ["a", "b"]);
        assert_eq!(config.limits.ack_timeout, Duration::from_millis(300));
        assert_eq!(config.limits.backlog_per_group, 5);
        assert_eq!(config.limits.retry_after, Duration::from_mins(1));
        assert_eq!(config.instance_id, "iot-emulator");
        assert!(!format!("{config:?}").contains("hidden"));
    }

    #[test]
    fn unknown_fields_and_odd_durations_are_named() {
        assert!(parse("grups: [a]").unwrap_err().contains("grups"));
        assert!(parse("limits: {ackTimeOut: 1s}").unwrap_err().contains("ackTimeOut"));
        assert!(parse("limits: {ackTimeout: soon}").unwrap_err().contains("\"soon\" is not a duration"));
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        assert!(Config::default().validate().is_ok());
        for yaml in ["groups: []", "groups: [a, a]", "wire: {maxFrameSize: 100}", "limits: {idleTimeOutMin: 10m}"] {
            assert!(parse(yaml).unwrap().validate().is_err(), "{yaml}");
        }
    }
}
