//! The emulator's configuration file, and the same as a value for tests that run the emulator in their own process.
//! Unknown fields are errors. What is left out has the platform's value, or serves the quick start.

mod access;
mod api;

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use self::access::{AccessKeyEntry, ProviderEntry, RoleEntry, ServiceAccountEntry, TokenEntry, TrustEntry};
pub use self::api::{OpenApi, Sts, ThrottleScope, Unsubscribed};

use crate::instances::DEFAULT_GROUP;
use crate::limits::Limits;
use crate::profile::Profile;

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
    /// Where the OpenAPI and STS are served, over TLS and without on the same port. Port 0 picks one.
    pub api: SocketAddr,
    /// Where the CA lives: `ca.pem` and `ca.key`, made there if they are not there yet. Without it the CA lives in memory.
    pub dir: Option<PathBuf>,
    /// Host names and IP addresses that the server's certificate is good for, besides `localhost`, `127.0.0.1` and `::1`.
    pub names: Vec<String>,
    /// The account that the first instance belongs to, and whatever names no other.
    pub account_id: String,
    /// The first instance's ID, which every user name must carry; empty for a legacy public instance.
    pub instance_id: String,
    /// The consumer groups of the first instance.
    pub groups: Vec<String>,
    /// The products of the first instance; any product key is one when there are none here.
    pub products: Vec<String>,
    /// More instances.
    pub instances: Vec<InstanceEntry>,
    /// The access keys.
    pub access_keys: Vec<AccessKeyEntry>,
    /// The temporary keys, with their tokens.
    pub tokens: Vec<TokenEntry>,
    /// The roles that may be assumed.
    pub roles: Vec<RoleEntry>,
    /// The identity providers whose tokens may be traded for a role.
    pub oidc_providers: Vec<ProviderEntry>,
    /// The OpenAPI.
    pub open_api: OpenApi,
    /// The token service.
    pub sts: Sts,
    /// The platform's limits and times.
    pub limits: Limits,
    /// What it does where the platform's documents are silent.
    pub profile: Profile,
    /// The AMQP peer's own choices.
    pub wire: Wire,
    /// The product key of the generated devices.
    pub product_key: String,
    /// Decides what is random: which client gets a message, what the devices say.
    pub seed: u64,
}

/// An instance beside the first one. Its groups are called `INSTANCE/GROUP` in the admin API.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstanceEntry {
    /// Its ID.
    pub id: String,
    /// The account it belongs to; [`Config::account_id`] when left out.
    #[serde(default)]
    pub account: Option<String>,
    /// Its groups besides `DEFAULT_GROUP`, which every instance has.
    #[serde(default = "default_groups")]
    pub groups: Vec<String>,
    /// Its products; any product key is one when there are none here.
    #[serde(default)]
    pub products: Vec<String>,
}

fn default_groups() -> Vec<String> {
    vec![DEFAULT_GROUP.to_owned()]
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
}

impl Default for Wire {
    fn default() -> Self {
        Self { max_frame_size: 65_536, sessions: 8 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            amqp: SocketAddr::from((Ipv4Addr::LOCALHOST, 5671)),
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, 5680)),
            api: SocketAddr::from((Ipv4Addr::LOCALHOST, 5681)),
            dir: None,
            names: Vec::new(),
            account_id: "1000000000000001".to_owned(),
            instance_id: "iot-emulator".to_owned(),
            groups: default_groups(),
            products: Vec::new(),
            instances: Vec::new(),
            access_keys: vec![AccessKeyEntry::new("testid", "testsecret")],
            tokens: Vec::new(),
            roles: Vec::new(),
            oidc_providers: Vec::new(),
            open_api: OpenApi::default(),
            sts: Sts::default(),
            limits: Limits::default(),
            profile: Profile::default(),
            wire: Wire::default(),
            product_key: "a1emulator0".to_owned(),
            seed: 1,
        }
    }
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
    /// The file is not what it should be.
    #[error("{path} is not {what}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
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
        Self { amqp: free, http: free, api: free, ..Self::default() }
    }

    /// Reads a YAML (or JSON) file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        serde_saphyr::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            what: "an emulator configuration",
            reason: error.to_string(),
        })
    }

    /// Checks what the types can't say.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |field, reason: String| Err(ConfigError::Value { field, reason });
        check_groups("groups", &self.groups)?;
        if self.account_id.is_empty() {
            return wrong("accountId", "must not be empty".to_owned());
        }
        for instance in &self.instances {
            check_groups("instances[].groups", &instance.groups)?;
        }
        let ids = || std::iter::once(&self.instance_id).chain(self.instances.iter().map(|instance| &instance.id));
        if let Some(id) = repeated(ids().map(String::as_str)) {
            return wrong("instances[].id", format!("{id:?} is there twice"));
        }
        if let Some(id) = ids().find(|id| id.contains('/')) {
            return wrong("instances[].id", format!("{id:?} has a slash in it"));
        }
        if let Some(arn) = repeated(self.roles.iter().map(|role| role.arn.as_str())) {
            return wrong("roles[].arn", format!("{arn:?} is there twice"));
        }
        self.roles.iter().try_for_each(RoleEntry::validate)?;
        if let Some(arn) = repeated(self.oidc_providers.iter().map(|provider| provider.arn.as_str())) {
            return wrong("oidcProviders[].arn", format!("{arn:?} is there twice"));
        }
        self.oidc_providers.iter().try_for_each(ProviderEntry::validate)?;
        self.open_api.validate()?;
        self.sts.validate()?;
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

fn check_groups(field: &'static str, groups: &[String]) -> Result<(), ConfigError> {
    let wrong = |reason: String| Err(ConfigError::Value { field, reason });
    if let Some(group) = repeated(groups.iter().map(String::as_str)) {
        return wrong(format!("{group:?} is there twice"));
    }
    if groups.is_empty() || groups.iter().any(String::is_empty) {
        return wrong("there must be at least one, and none may be empty".to_owned());
    }
    if let Some(group) = groups.iter().find(|group| group.contains('/')) {
        return wrong(format!("{group:?} has a slash in it, which separates instance and group"));
    }
    Ok(())
}

fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::time::Duration;

    use serde::de::DeserializeOwned;

    use super::*;

    const DOCUMENTED: &str = include_str!("../../docs/emulator.md");

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
    fn the_configuration_in_the_documentation_is_one() {
        let yaml = DOCUMENTED.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let config = parse(yaml).unwrap();
        config.validate().unwrap();
        assert_eq!((config.roles.len(), config.oidc_providers.len(), config.instances.len()), (1, 1, 1));
        let default = OpenApi::default();
        assert_eq!(format!("{:?}", config.open_api), format!("{default:?}"), "it shows the defaults");
        assert_eq!(config.limits, Limits::default());
    }

    /// Holds the rows of a section in the documentation's table of limits, `| `SECTION.FIELD` | `DEFAULT` | … |`, against the
    /// type that is read from there.
    fn holds_every_field_and_its_default<T: DeserializeOwned + Default + Debug>(section: &str) {
        // serde names the fields that there are.
        let error = serde_json::from_str::<T>(r#"{"nonsense": 0}"#).unwrap_err().to_string();
        let fields: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
        let rows = DOCUMENTED.lines().filter_map(|line| {
            let field = line.strip_prefix("| `")?.strip_prefix(section)?.strip_prefix('.')?;
            let (field, rest) = field.split_once("` | ")?;
            Some((field, rest.split_once(" |")?.0))
        });
        let (listed, defaults): (Vec<&str>, Vec<&str>) = rows.unzip();
        assert_eq!(listed, fields, "the fields of {section}");
        let have_one = listed.iter().zip(defaults).filter(|(_, default)| *default != "–");
        let yaml: Vec<_> = have_one.map(|(field, default)| format!("{field}: {}", default.trim_matches('`'))).collect();
        let read: T = serde_saphyr::from_str(&yaml.join("\n")).unwrap_or_else(|error| panic!("{section}: {error}"));
        assert_eq!(format!("{read:?}"), format!("{:?}", T::default()), "the defaults of {section}");
    }

    #[test]
    fn the_table_of_limits_in_the_documentation_has_every_field_and_its_default() {
        holds_every_field_and_its_default::<Limits>("limits");
        holds_every_field_and_its_default::<Wire>("wire");
        holds_every_field_and_its_default::<OpenApi>("openApi");
        holds_every_field_and_its_default::<Sts>("sts");
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
        for (yaml, field) in [
            ("groups: []", "groups"),
            ("groups: [a, a]", "groups"),
            ("groups: [a/b]", "groups"),
            ("wire: {maxFrameSize: 100}", "wire.maxFrameSize"),
            ("limits: {idleTimeOutMin: 10m}", "limits.idleTimeOutMin"),
            ("accountId: ''", "accountId"),
            ("instances: [{id: iot-emulator}]", "instances[].id"),
            ("instances: [{id: a, groups: []}]", "instances[].groups"),
            ("roles: [{arn: 'role/x'}]", "roles[].arn"),
            ("oidcProviders: [{arn: 'x', issuer: i, keysFile: k}]", "oidcProviders[].arn"),
            ("oidcProviders: [{arn: 'acs:ram::1:oidc-provider/k', issuer: i}]", "oidcProviders[].keysFile"),
            ("openApi: {callsPerSecond: 0}", "openApi.callsPerSecond"),
            ("sts: {minDuration: 2h}", "sts.defaultDuration"),
        ] {
            let Err(ConfigError::Value { field: found, .. }) = parse(yaml).unwrap().validate() else {
                panic!("{yaml} is accepted");
            };
            assert_eq!(found, field, "{yaml}");
        }
    }
}
