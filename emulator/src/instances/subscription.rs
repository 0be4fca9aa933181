//! A product's subscription: which kinds of message are pushed, and to which consumer groups (PLATFORM.md 1.10, 4). It
//! belongs to the product and the type, not to a group; a flag that an update leaves out becomes false.

use std::fmt;

use sluice_cloud::topic::MessageKind;

/// The type of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Channel {
    /// To consumer groups.
    Amqp,
    /// To a queue of the message service. Kept, shown, and nothing else: the emulator has no such queues.
    Mns,
}

impl Channel {
    /// Reads a `Type`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "AMQP" => Some(Self::Amqp),
            "MNS" => Some(Self::Mns),
            _ => None,
        }
    }

    /// How it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Amqp => "AMQP",
            Self::Mns => "MNS",
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A kind of message that is subscribed to or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flag {
    DeviceData,
    DeviceStatusChange,
    DeviceTopoLifeCycle,
    FoundDeviceList,
    ThingHistory,
    DeviceLifeCycle,
    OtaEvent,
    DeviceTag,
    OtaVersion,
    OtaJob,
}

impl Flag {
    /// Every flag, in the order of PLATFORM.md 4.
    pub(crate) const ALL: [Self; 10] = [
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

    /// Its parameter's name.
    pub(crate) fn parameter(self) -> &'static str {
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

    /// Whether a subscription of this type can have it.
    pub(crate) fn goes_with(self, channel: Channel) -> bool {
        channel == Channel::Amqp || !matches!(self, Self::DeviceTag | Self::OtaVersion | Self::OtaJob)
    }

    /// The flag that a message of this kind is subscribed to by. Whatever a device sends of its own is its data.
    pub(crate) fn of(kind: MessageKind) -> Self {
        match kind {
            MessageKind::Unspecified
            | MessageKind::Custom
            | MessageKind::PropertyPost
            | MessageKind::EventPost
            | MessageKind::BatchPost
            | MessageKind::DownlinkReply => Self::DeviceData,
            MessageKind::Status => Self::DeviceStatusChange,
            MessageKind::Lifecycle => Self::DeviceLifeCycle,
            MessageKind::Topology => Self::DeviceTopoLifeCycle,
            MessageKind::SubDeviceFound => Self::FoundDeviceList,
            MessageKind::Tags => Self::DeviceTag,
            MessageKind::PropertyHistory | MessageKind::EventHistory => Self::ThingHistory,
            MessageKind::OtaResult | MessageKind::OtaProgress => Self::OtaEvent,
            MessageKind::OtaVersion => Self::OtaVersion,
            MessageKind::OtaJobStatus => Self::OtaJob,
        }
    }
}

/// A set of flags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flags(u16);

impl Flags {
    pub(crate) fn has(self, flag: Flag) -> bool {
        self.0 & Self::bit(flag) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn bit(flag: Flag) -> u16 {
        1 << flag as u16
    }
}

impl FromIterator<Flag> for Flags {
    fn from_iter<I: IntoIterator<Item = Flag>>(flags: I) -> Self {
        Self(flags.into_iter().fold(0, |set, flag| set | Self::bit(flag)))
    }
}

/// One product's subscription of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// What is pushed.
    pub(crate) flags: Flags,
    /// To which groups, by their IDs; none for MNS.
    pub(crate) groups: Vec<String>,
    /// `MnsConfiguration` as it was given; empty for AMQP.
    pub(crate) mns: String,
}
