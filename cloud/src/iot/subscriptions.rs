//! Subscriptions: which kinds of a product's messages are pushed, and to which groups. One belongs to a product, not to a
//! group, and an update replaces all of it: *a flag that is left out becomes false*. So what is read keeps every flag that
//! the platform has, known here or not, and an update sends all of them again.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Instance;
use crate::answer::{Action, Unreadable, parse};
use crate::rpc::Call;

/// A kind of message that a subscription switches on or off (PLATFORM.md 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MessageType {
    /// What devices report.
    DeviceData,
    /// Devices going online and offline.
    DeviceStatusChange,
    /// Changes of topology.
    DeviceTopoLifeCycle,
    /// Sub-devices found by gateways.
    FoundDeviceList,
    /// Historical reports.
    ThingHistory,
    /// Devices created, deleted, disabled.
    DeviceLifeCycle,
    /// Results and progress of updates over the air.
    OtaEvent,
    /// Changes of devices' tags. AMQP only.
    DeviceTag,
    /// Module versions that devices report. AMQP only.
    OtaVersion,
    /// Batches of updates over the air. AMQP only.
    OtaJob,
}

impl MessageType {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::DeviceData,
        Self::DeviceStatusChange,
        Self::DeviceTopoLifeCycle,
        Self::FoundDeviceList,
        Self::ThingHistory,
        Self::DeviceLifeCycle,
        Self::OtaEvent,
        Self::DeviceTag,
        Self::OtaVersion,
        Self::OtaJob,
    ];

    /// The flag's name in requests and answers.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::DeviceData => "DeviceDataFlag",
            Self::DeviceStatusChange => "DeviceStatusChangeFlag",
            Self::DeviceTopoLifeCycle => "DeviceTopoLifeCycleFlag",
            Self::FoundDeviceList => "FoundDeviceListFlag",
            Self::ThingHistory => "ThingHistoryFlag",
            Self::DeviceLifeCycle => "DeviceLifeCycleFlag",
            Self::OtaEvent => "OtaEventFlag",
            Self::DeviceTag => "DeviceTagFlag",
            Self::OtaVersion => "OtaVersionFlag",
            Self::OtaJob => "OtaJobFlag",
        }
    }
}

/// The flags of a subscription, those that this version does not know among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(BTreeMap<String, bool>);

impl Flags {
    /// These on, and nothing said of others.
    pub fn of(on: impl IntoIterator<Item = MessageType>) -> Self {
        Self(on.into_iter().map(|message| (message.flag().to_owned(), true)).collect())
    }

    /// Whether messages of this kind are pushed. A flag that the platform does not mention is off.
    pub fn is_on(&self, message: MessageType) -> bool {
        self.0.get(message.flag()).copied().unwrap_or(false)
    }

    /// The same with this kind switched on. Nothing here switches one off.
    #[must_use]
    pub fn with(mut self, message: MessageType) -> Self {
        self.0.insert(message.flag().to_owned(), true);
        self
    }

    /// Names and values, as they go into a request.
    pub fn iter(&self) -> impl Iterator<Item = (&str, bool)> {
        self.0.iter().map(|(name, on)| (name.as_str(), *on))
    }
}

/// A product's subscription by AMQP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The product.
    pub product_key: String,
    /// What is pushed.
    pub flags: Flags,
    /// To which groups: each of them gets every message.
    pub group_ids: Vec<String>,
}

impl Subscription {
    fn call(&self, instance: &Instance, action: &'static str) -> Call {
        let mut call = instance.call(action, [("ProductKey", self.product_key.clone()), ("Type", "AMQP".to_owned())]);
        for (index, group) in self.group_ids.iter().enumerate() {
            call.params.set(format!("ConsumerGroupIds.{}", index + 1), group.as_str());
        }
        for (name, on) in self.flags.iter() {
            call.params.set(name, if on { "true" } else { "false" });
        }
        call
    }
}

/// Asks for a product's subscription by AMQP. That there is none may be an answer without groups, or a failure of class
/// `NotFound`: which one is not documented.
#[derive(Clone, Debug)]
pub struct QuerySubscribeRelation {
    /// Where.
    pub instance: Instance,
    /// Which product.
    pub product_key: String,
}

impl Action for QuerySubscribeRelation {
    const NAME: &'static str = "QuerySubscribeRelation";
    type Answer = Subscription;

    fn call(&self) -> Call {
        self.instance.call(Self::NAME, [("ProductKey", self.product_key.clone()), ("Type", "AMQP".to_owned())])
    }

    fn read(&self, body: &[u8]) -> Result<Subscription, Unreadable> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            #[serde(default)]
            product_key: Option<String>,
            #[serde(default, rename = "Type")]
            kind: Option<String>,
            #[serde(default)]
            consumer_group_ids: Option<Vec<String>>,
            #[serde(flatten)]
            rest: BTreeMap<String, Value>,
        }
        let answer: Answer = parse(body)?;
        if let Some(other) = answer.product_key.as_deref().filter(|key| *key != self.product_key) {
            return Err(Unreadable(format!("it is about product {other:?}, not {:?}", self.product_key)));
        }
        if let Some(other) = answer.kind.as_deref().filter(|kind| *kind != "AMQP") {
            return Err(Unreadable(format!("it is about a subscription of type {other:?}, not AMQP")));
        }
        let mut flags = Flags::default();
        for (name, value) in answer.rest.into_iter().filter(|(name, _)| name.ends_with("Flag")) {
            let on = match (&value, value.as_str()) {
                (Value::Null, _) => continue,
                (Value::Bool(on), _) => *on,
                (_, Some("true")) => true,
                (_, Some("false")) => false,
                _ => return Err(Unreadable(format!("{name} is neither true nor false"))),
            };
            flags.0.insert(name, on);
        }
        let group_ids = answer.consumer_group_ids.unwrap_or_default();
        Ok(Subscription { product_key: self.product_key.clone(), flags, group_ids })
    }
}

/// Makes a product's subscription, of which there is none yet. At least one flag must be on.
#[derive(Clone, Debug)]
pub struct CreateSubscribeRelation {
    /// Where.
    pub instance: Instance,
    /// What it shall be.
    pub subscription: Subscription,
}

/// Replaces a product's subscription. Make it from what [`QuerySubscribeRelation`] said: whatever is left out is lost.
#[derive(Clone, Debug)]
pub struct UpdateSubscribeRelation {
    /// Where.
    pub instance: Instance,
    /// What it shall be.
    pub subscription: Subscription,
}

/// Adds a group to a product's subscription and leaves the rest of it alone.
#[derive(Clone, Debug)]
pub struct CreateConsumerGroupSubscribeRelation {
    /// Where.
    pub instance: Instance,
    /// Which product.
    pub product_key: String,
    /// Which group.
    pub group_id: String,
}

/// Takes a group from a product's subscription; not its last one. No reconcile does this.
#[derive(Clone, Debug)]
pub struct DeleteConsumerGroupSubscribeRelation {
    /// Where.
    pub instance: Instance,
    /// Which product.
    pub product_key: String,
    /// Which group.
    pub group_id: String,
}

impl Action for CreateSubscribeRelation {
    const NAME: &'static str = "CreateSubscribeRelation";
    type Answer = ();

    fn call(&self) -> Call {
        self.subscription.call(&self.instance, Self::NAME)
    }

    fn read(&self, _: &[u8]) -> Result<(), Unreadable> {
        Ok(())
    }
}

impl Action for UpdateSubscribeRelation {
    const NAME: &'static str = "UpdateSubscribeRelation";
    type Answer = ();

    fn call(&self) -> Call {
        self.subscription.call(&self.instance, Self::NAME)
    }

    fn read(&self, _: &[u8]) -> Result<(), Unreadable> {
        Ok(())
    }
}

impl Action for CreateConsumerGroupSubscribeRelation {
    const NAME: &'static str = "CreateConsumerGroupSubscribeRelation";
    type Answer = ();

    fn call(&self) -> Call {
        let own = [("ProductKey", self.product_key.clone()), ("ConsumerGroupId", self.group_id.clone())];
        self.instance.call(Self::NAME, own)
    }

    fn read(&self, _: &[u8]) -> Result<(), Unreadable> {
        Ok(())
    }
}

impl Action for DeleteConsumerGroupSubscribeRelation {
    const NAME: &'static str = "DeleteConsumerGroupSubscribeRelation";
    type Answer = ();

    fn call(&self) -> Call {
        let own = [("ProductKey", self.product_key.clone()), ("ConsumerGroupId", self.group_id.clone())];
        self.instance.call(Self::NAME, own)
    }

    fn read(&self, _: &[u8]) -> Result<(), Unreadable> {
        Ok(())
    }
}
