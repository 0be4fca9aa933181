//! The value of every field that a document may leave out.

use crate::{ByteQuantity, Duration, HandBack, Settlement, SignMethod};

/// `spec.instance.amqpPort`: AMQP over TLS (PLATFORM.md 1.2).
pub const AMQP_PORT: u16 = 5671;
/// `spec.instance.sourceAddress`: the platform looks at no address; its Java sample sends this one (PLATFORM.md 1.5).
pub const SOURCE_ADDRESS: &str = "default";
/// `spec.connection.idleTimeout`
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// `spec.connection.settlement`
pub const SETTLEMENT: Settlement = Settlement::Ranges;
/// `spec.credentials.signMethod`
pub const SIGN_METHOD: SignMethod = SignMethod::HmacSha256;
/// `spec.limits.connectAttemptsPerMinute`: a little under the platform's 100 (PLATFORM.md 1.8).
pub const CONNECT_ATTEMPTS_PER_MINUTE: u32 = 95;
/// `spec.delivery.maxInFlight`
pub const MAX_IN_FLIGHT: u32 = 1_000;
/// `spec.delivery.maxInFlightBytes`
pub const MAX_IN_FLIGHT_BYTES: ByteQuantity = ByteQuantity::from_mib(64);
/// `spec.delivery.leaseDuration`: leaves 5 s of the platform's 30 s (PLATFORM.md 1.7) for the answer to get there.
pub const LEASE_DURATION: Duration = Duration::from_secs(25);
/// `spec.delivery.handBack`
pub const HAND_BACK: HandBack = HandBack::Release;
/// `spec.delivery.deduplication.window`
pub const DEDUPLICATION_WINDOW: Duration = Duration::from_secs(600);
/// `spec.delivery.deduplication.maxEntries`
pub const DEDUPLICATION_MAX_ENTRIES: u32 = 100_000;
/// `spec.delivery.retry.minBackoff`
pub const RETRY_MIN_BACKOFF: Duration = Duration::from_millis(200);
/// `spec.delivery.retry.maxBackoff`
pub const RETRY_MAX_BACKOFF: Duration = Duration::from_secs(5);
