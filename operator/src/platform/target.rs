//! What the pipeline registers: which group of the platform is polled, where, with whose keys, and which subscriptions it
//! is to have.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use sluice_cloud::credentials::AccessKey;
use sluice_cloud::endpoint::Endpoint;
use sluice_cloud::iot::Instance;
use sluice_crds::{Manage, ProductSubscription};

use crate::credentials::Handle;
use crate::group::validate::Validated;

/// A valid ConsumerGroup, as the poller needs it.
#[derive(Clone)]
pub struct Target {
    /// The platform's group, and where to ask about it.
    pub subject: Subject,
    /// The keys that calls are signed with.
    pub keys: Arc<dyn ApiKeys>,
    /// The subscriptions that it is to have; `None` if it does not care.
    pub subscriptions: Option<Wanted>,
}

impl Target {
    /// What a ConsumerGroup asks for; `None` if it says nothing of an OpenAPI.
    pub fn of(group: &Validated) -> Option<Self> {
        let instance = &group.spec.instance;
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let account = given(&instance.account_id).or_else(|| given(&instance.id))?;
        let endpoint = group.api.clone()?;
        let region = given(&instance.region).or_else(|| region_of(endpoint.host())).unwrap_or_default();
        Some(Self {
            subject: Subject {
                account,
                endpoint,
                instance: Instance { region, id: given(&instance.id) },
                group_id: group.spec.group_id.clone(),
                ca: group.ca.clone(),
            },
            keys: Arc::new(group.api_keys.clone()),
            subscriptions: group
                .spec
                .subscriptions
                .as_ref()
                .map(|wanted| Wanted { manage: wanted.manage, products: wanted.products.clone() }),
        })
    }
}

/// The region that an endpoint's name tells: `iot.cn-shanghai.aliyuncs.com`, with or without more labels before the last two.
fn region_of(host: &str) -> Option<String> {
    let mut labels = host.strip_suffix(".aliyuncs.com")?.split('.');
    labels.find(|label| label.contains('-') && !label.starts_with("iot-")).map(str::to_owned)
}

/// A group of the platform, and where to ask about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Whose calls they are: what has the same name here shares the calls that the platform allows an account. The
    /// account's ID, else the instance's, else that of the AccessKey.
    pub account: String,
    /// The OpenAPI. An allowed endpoint.
    pub endpoint: Endpoint,
    /// The instance that the group is in.
    pub instance: Instance,
    /// The group.
    pub group_id: String,
    /// The certificates to trust there (PEM); `None`: the system's.
    pub ca: Option<Arc<str>>,
}

/// Subscriptions that a group is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What is done about a difference.
    pub manage: Manage,
    /// The products, each once.
    pub products: Vec<ProductSubscription>,
}

/// The keys that a ConsumerGroup's calls are signed with.
pub trait ApiKeys: Any + Send + Sync {
    /// The key to sign with now, from memory; or why there is none, in words for people.
    fn current(&self) -> Result<ApiKey, String>;

    /// The platform has refused this key. If it is one that can be renewed, that should be done soon.
    fn refused(&self, key: &AccessKey);

    /// Whether the other is a handle on the same keys.
    fn is(&self, other: &dyn ApiKeys) -> bool;
}

/// A key to sign with, now.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// The key.
    pub key: AccessKey,
    /// Another number for another key: what was learnt of one says nothing of the other.
    pub version: u64,
}

impl ApiKeys for Handle {
    fn current(&self) -> Result<ApiKey, String> {
        let credential = Handle::current(self).map_err(|fault| fault.to_string())?;
        Ok(ApiKey { key: credential.key, version: credential.version })
    }

    fn refused(&self, key: &AccessKey) {
        Handle::refused(self, key);
    }

    fn is(&self, other: &dyn ApiKeys) -> bool {
        (other as &dyn Any).downcast_ref::<Self>().is_some_and(|other| other == self)
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.subject == other.subject && self.keys.is(&*other.keys) && self.subscriptions == other.subscriptions
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, keys: _, subscriptions } = self;
        f.debug_struct("Target").field("subject", subject).field("subscriptions", subscriptions).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_read_off_the_endpoints_that_name_one() {
        assert_eq!(region_of("iot.cn-shanghai.aliyuncs.com").as_deref(), Some("cn-shanghai"));
        assert_eq!(region_of("iot-06z00.iot.ap-southeast-1.aliyuncs.com").as_deref(), Some("ap-southeast-1"));
        assert_eq!(region_of("iot.aliyuncs.com"), None);
        assert_eq!(region_of("127.0.0.1"), None);
    }
}
