//! What a connection is to be: what its owner chooses, and the one limit that is not for choosing.

use std::time::Duration;

/// The session's window, in transfers. Credit is what holds the peer back, so this is as wide as every peer can count.
pub(super) const SESSION_WINDOW: u32 = 0x7fff_ffff;

/// What a connection is to be.
#[derive(Debug, Clone)]
pub struct Params {
    /// Names this client in the peer's logs.
    pub container_id: String,
    /// The name the peer is asked for, in SASL and Open.
    pub host: String,
    /// Names the link.
    pub link_name: String,
    /// The node to receive from; the platform ignores it (`PLATFORM.md 1.5`).
    pub source_address: String,
    /// What Open announces: the peer is to send a frame within it. The platform takes 30–300 s (`PLATFORM.md 1.1`).
    pub idle_timeout: Duration,
    /// The largest frame that the peer may send, in bytes.
    pub max_frame_size: u32,
    /// The largest message that the peer may send, in bytes.
    pub max_message_size: u64,
    /// How long the peer may take for each step until the link stands, and for its Close.
    pub step_timeout: Duration,
    /// Settle each delivery in a frame of its own, should the peer not honour ranges.
    pub settle_singly: bool,
}
