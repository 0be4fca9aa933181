//! Which messages of which products the group is to receive (PLATFORM.md 1.10 and 4).

use serde::Deserialize;

/// Which messages of which products the group is to receive. Subscriptions belong to a product, not to a group: groups of
/// one product receive the same types. Nothing is ever switched off or removed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Subscriptions {
    /// What is done about a difference. `Observe`: it is reported in the condition `SubscriptionsSynced`. `AddGroup`: the
    /// group is added to a product's subscription; missing types are reported. `Union`: missing types are switched on as
    /// well, for all groups of the product. Nothing is ever switched off or removed. Default: `Observe`.
    #[serde(default)]
    pub manage: Manage,
    /// The products, 1 to 1000, each once. Required.
    pub products: Vec<ProductSubscription>,
}

/// What is done about a difference between what is wanted and what the platform says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
pub enum Manage {
    /// It is reported.
    #[default]
    Observe,
    /// The group is added.
    AddGroup,
    /// The group is added, and missing types are switched on.
    Union,
}

/// What the group is to receive of one product.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProductSubscription {
    /// The product's key, as the console shows it. Required.
    pub product_key: String,
    /// The types of messages, each once: `DeviceData` (what devices publish), `StatusChange` (online and offline),
    /// `TopologyLifecycle` and `FoundDeviceList` (of gateways), `ThingHistory` (history of properties and events),
    /// `DeviceLifecycle` (create, delete, enable, disable), `OtaEvent` (results of upgrades), `DeviceTag`, `OtaVersion`,
    /// `OtaJob`. At least one. Required.
    pub messages: Vec<MessageType>,
}

/// A type of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
pub enum MessageType {
    /// `DeviceDataFlag`: what devices publish.
    DeviceData,
    /// `DeviceStatusChangeFlag`: devices that go online and offline.
    StatusChange,
    /// `DeviceTopoLifeCycleFlag`: changes of a gateway's topology.
    TopologyLifecycle,
    /// `FoundDeviceListFlag`: devices that a gateway found.
    FoundDeviceList,
    /// `ThingHistoryFlag`: history of properties and events.
    ThingHistory,
    /// `DeviceLifeCycleFlag`: devices that are created, deleted, enabled, disabled.
    DeviceLifecycle,
    /// `OtaEventFlag`: results of upgrades.
    OtaEvent,
    /// `DeviceTagFlag`: changes of tags.
    DeviceTag,
    /// `OtaVersionFlag`: versions that modules report.
    OtaVersion,
    /// `OtaJobFlag`: states of upgrade jobs.
    OtaJob,
}
