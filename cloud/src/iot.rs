//! The actions of the IoT OpenAPI, version 2018-01-20, that an operator (or a test) needs: what is asked, and how the answer
//! is read (PLATFORM.md 4, `API-EXAMPLES.md`). Values in, values out; `client` (a feature) sends them.
//!
//! Answers about figures are read generously: a member that is missing or odd is unknown, and the rest still counts. Answers
//! about subscriptions are read strictly, since a later update is made from them and must not switch anything off.

mod groups;
mod status;
mod subscriptions;

pub use self::groups::{
    ConsumerGroup, ConsumerGroupPage, CreateConsumerGroup, DeleteConsumerGroup, PageSize, QueryConsumerGroupByGroupId,
    QueryConsumerGroupList,
};
pub use self::status::{ConnectedClient, GroupStatus, MaskedId, QueryConsumerGroupStatus};
pub use self::subscriptions::{
    CreateConsumerGroupSubscribeRelation, CreateSubscribeRelation, DeleteConsumerGroupSubscribeRelation, Flags,
    MessageType, QuerySubscribeRelation, Subscription, UpdateSubscribeRelation,
};

use crate::answer::SignedAction;
use crate::rpc::{Call, Params};

/// The version of the API.
pub const VERSION: &str = "2018-01-20";

/// The host of the API in a region, unless an instance has one of its own (PLATFORM.md 4).
pub fn host(region: &str) -> String {
    format!("iot.{region}.aliyuncs.com")
}

/// Which instance is meant: part of every call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance {
    /// The region's ID, `cn-shanghai` say.
    pub region: String,
    /// The instance's ID; `None` for a legacy public instance, which has none and must not be given one (PLATFORM.md 4).
    pub id: Option<String>,
}

impl Instance {
    fn call(&self, action: &'static str, own: impl IntoIterator<Item = (&'static str, String)>) -> Call {
        let mut params: Params = own.into_iter().collect();
        params.set("RegionId", self.region.as_str());
        if let Some(id) = self.id.as_deref().filter(|id| !id.is_empty()) {
            params.set("IotInstanceId", id);
        }
        Call { action, version: VERSION, params }
    }
}

impl SignedAction for CreateConsumerGroup {}
impl SignedAction for DeleteConsumerGroup {}
impl SignedAction for QueryConsumerGroupByGroupId {}
impl SignedAction for QueryConsumerGroupList {}
impl SignedAction for QueryConsumerGroupStatus {}
impl SignedAction for CreateConsumerGroupSubscribeRelation {}
impl SignedAction for CreateSubscribeRelation {}
impl SignedAction for DeleteConsumerGroupSubscribeRelation {}
impl SignedAction for QuerySubscribeRelation {}
impl SignedAction for UpdateSubscribeRelation {}

#[cfg(test)]
mod tests;
