//! What a message's topic says about it: its kind, and the product and device it concerns (PLATFORM.md 3).
//!
//! This runs for every message, so it borrows from the topic, allocates nothing, and looks at each byte about once. It
//! can't fail: a topic that is none of the known ones is [`MessageKind::Unspecified`].

/// The kinds of message that the platform sends, in the order of the table in PLATFORM.md 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// None of the following.
    Unspecified,
    /// A topic of the user's own: `/{productKey}/{deviceName}/user/…` (row a). Its payload is the device's own, any bytes.
    Custom,
    /// A device went online or offline: `/as/mqtt/status/{productKey}/{deviceName}` (row b).
    Status,
    /// Property values: `…/thing/event/property/post` (row c).
    PropertyPost,
    /// An event: `…/thing/event/{identifier}/post` (row d).
    EventPost,
    /// Properties or events in a batch: `…/thing/property/batch/post`, `…/thing/event/batch/post` (row e).
    BatchPost,
    /// A device's answer to a downlink request: `…/thing/downlink/reply/message` (row f).
    DownlinkReply,
    /// A device was created, deleted, enabled or disabled: `…/thing/lifecycle` (row g). The payload of a creation holds
    /// the device's secret.
    Lifecycle,
    /// A gateway's topology changed: `…/thing/topo/lifecycle` (row h).
    Topology,
    /// A gateway found sub-devices: `…/thing/list/found` (row i).
    SubDeviceFound,
    /// A device's tags changed: `…/thing/deviceinfo/update` (row j).
    Tags,
    /// Property values of the past: `…/thing/event/property/history/post` (row k).
    PropertyHistory,
    /// An event of the past: `…/thing/event/{identifier}/history/post` (row l).
    EventHistory,
    /// The outcome of a firmware update: `…/ota/upgrade` (row m).
    OtaResult,
    /// The progress of a firmware update: `…/ota/progress/post` (row n).
    OtaProgress,
    /// The version of a firmware module: `…/ota/version/post` (row o).
    OtaVersion,
    /// The state of a firmware update job: `/{productKey}/{packageId}/{jobId}/ota/job/status` (row p). It names no
    /// device.
    OtaJobStatus,
}

/// A topic, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic<'a> {
    /// What kind of message comes under it.
    pub kind: MessageKind,
    /// The product; `None` only if the kind is unspecified, since then no segment is known to be one.
    pub product_key: Option<&'a str>,
    /// The device; `None` if the kind is unspecified, or one that names no device.
    pub device_name: Option<&'a str>,
}

/// Reads a topic.
///
/// Where two rows of the table fit, the more particular one counts: an event whose identifier is `property` can't be told
/// from a property post, nor one called `batch` from a batch. A custom topic stays one whatever follows `user/`.
pub fn parse(topic: &str) -> Topic<'_> {
    parse_status(topic).or_else(|| parse_product_first(topic)).unwrap_or(Topic {
        kind: MessageKind::Unspecified,
        product_key: None,
        device_name: None,
    })
}

/// Row b, the only one that does not begin with the product.
fn parse_status(topic: &str) -> Option<Topic<'_>> {
    let (product_key, device_name) = segment(topic.strip_prefix("/as/mqtt/status/")?)?;
    if device_name.is_empty() || device_name.contains('/') {
        return None;
    }
    Some(Topic { kind: MessageKind::Status, product_key: Some(product_key), device_name: Some(device_name) })
}

/// All other rows: the product, then the device or (row p) a package.
fn parse_product_first(topic: &str) -> Option<Topic<'_>> {
    let (product_key, rest) = segment(topic.strip_prefix('/')?)?;
    let (second, rest) = segment(rest)?;
    let product_key = Some(product_key);
    if let Some(kind) = device_kind(rest) {
        return Some(Topic { kind, product_key, device_name: Some(second) });
    }
    match segment(rest) {
        Some((_job_id, "ota/job/status")) => {
            Some(Topic { kind: MessageKind::OtaJobStatus, product_key, device_name: None })
        }
        _ => None,
    }
}

/// The kind by what follows the device.
fn device_kind(rest: &str) -> Option<MessageKind> {
    match rest {
        "thing/event/property/post" => Some(MessageKind::PropertyPost),
        "thing/property/batch/post" | "thing/event/batch/post" => Some(MessageKind::BatchPost),
        "thing/downlink/reply/message" => Some(MessageKind::DownlinkReply),
        "thing/lifecycle" => Some(MessageKind::Lifecycle),
        "thing/topo/lifecycle" => Some(MessageKind::Topology),
        "thing/list/found" => Some(MessageKind::SubDeviceFound),
        "thing/deviceinfo/update" => Some(MessageKind::Tags),
        "thing/event/property/history/post" => Some(MessageKind::PropertyHistory),
        "ota/upgrade" => Some(MessageKind::OtaResult),
        "ota/progress/post" => Some(MessageKind::OtaProgress),
        "ota/version/post" => Some(MessageKind::OtaVersion),
        _ => match rest.strip_prefix("thing/event/") {
            Some(event) => match segment(event)? {
                (_identifier, "post") => Some(MessageKind::EventPost),
                (_identifier, "history/post") => Some(MessageKind::EventHistory),
                _ => None,
            },
            None => rest.strip_prefix("user/").filter(|own| !own.is_empty()).map(|_| MessageKind::Custom),
        },
    }
}

/// Splits the text at its first `/`; `None` if there is none, or nothing before it.
fn segment(text: &str) -> Option<(&str, &str)> {
    // Segments are short, and on those a plain loop beats `split_once`, which searches as for long texts.
    match text.bytes().position(|byte| byte == b'/')? {
        0 => None,
        end => Some((&text[..end], &text[end + 1..])),
    }
}

#[cfg(test)]
mod tests;
