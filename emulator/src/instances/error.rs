//! What the platform says no with.

use super::Channel;

/// Why something can't be done. Which codes the platform has for most of these is not documented; those that are not in
/// PLATFORM.md 4 are the emulator's own, after the pattern of the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InstanceError {
    #[error("The specified instance does not exist: {0}.")]
    NoInstance(String),
    #[error("The IotInstanceId must be passed, because the instances of this account have one.")]
    InstanceLeftOut,
    #[error("The tenant is invalid: instance {0} belongs to another account.")]
    OtherAccount(String),
    #[error("The consumer group does not exist: {0}.")]
    NoGroup(String),
    #[error("The default consumer group can't be {0}.")]
    DefaultGroup(&'static str),
    #[error(
        "The name of a consumer group must be 4 to 30 letters, digits and underscores, a Chinese one counting twice."
    )]
    GroupName,
    #[error("A consumer group of this name exists already: {0}.")]
    GroupNameTaken(String),
    #[error("The consumer group is subscribed to product {0}; remove it from the subscription first.")]
    GroupInUse(String),
    #[error("The account has {0} consumer groups, which is the limit.")]
    TooManyGroups(usize),
    #[error("The specified product does not exist: {0}.")]
    NoProduct(String),
    #[error("The product {0} has no {1} subscription.")]
    NotSubscribed(String, Channel),
    #[error("The product {0} has a {1} subscription already.")]
    AlreadySubscribed(String, Channel),
    #[error("At least one kind of message must be subscribed to.")]
    NoFlags,
    #[error("{0} goes with AMQP subscriptions only.")]
    AmqpOnly(&'static str),
    #[error("An AMQP subscription needs at least one ConsumerGroupIds.N.")]
    NoGroups,
    #[error("An MNS subscription needs an MnsConfiguration.")]
    NoMnsConfiguration,
    #[error("The product has {0} consumer groups, which is the limit.")]
    TooManyGroupsOfProduct(usize),
    #[error("The consumer group has {0} products, which is the limit.")]
    TooManyProductsOfGroup(usize),
    #[error("The consumer group {0} is part of the subscription already.")]
    AlreadyPart(String),
    #[error("The consumer group {0} is not part of the subscription.")]
    NotPart(String),
    #[error("The last consumer group of a subscription can't be removed.")]
    LastGroup,
}

impl InstanceError {
    /// The code that goes with it.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NoInstance(_) | Self::InstanceLeftOut => "iot.Sre.IotInstanceNotFound",
            Self::OtherAccount(_) => "iot.common.InvalidTenant",
            Self::NoGroup(_) => "iot.messagebroker.NotExistedConsumerGroup",
            Self::DefaultGroup(_) => "iot.messagebroker.DefaultConsumerGroupIsImmutable",
            Self::GroupName | Self::NoFlags | Self::AmqpOnly(_) | Self::NoGroups | Self::NoMnsConfiguration => {
                "iot.common.InvalidFormattedParameter"
            }
            Self::GroupNameTaken(_) => "iot.messagebroker.AlreadyExistedConsumerGroupName",
            Self::GroupInUse(_) => "iot.messagebroker.ConsumerGroupInUse",
            Self::TooManyGroups(_) => "iot.messagebroker.ConsumerGroupCountExceedMax",
            Self::NoProduct(_) => "iot.prod.NotExistedProduct",
            Self::NotSubscribed(..) => "iot.messagebroker.NotExistedSubscribeRelation",
            Self::AlreadySubscribed(..) => "iot.messagebroker.AlreadyExistedSubscribeRelation",
            Self::TooManyGroupsOfProduct(_) | Self::TooManyProductsOfGroup(_) => {
                "iot.messagebroker.SubscribeRelationCountExceedMax"
            }
            Self::AlreadyPart(_) => "iot.messagebroker.AlreadyExistedConsumerGroupRelation",
            Self::NotPart(_) => "iot.messagebroker.NotExistedConsumerGroupRelation",
            Self::LastGroup => "iot.messagebroker.LastConsumerGroupRelation",
        }
    }
}
