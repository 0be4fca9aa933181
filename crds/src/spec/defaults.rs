//! The value of every field that a document may leave out.

use super::{HandBack, Pause, ScalingMode, Settlement, SignMethod};
use crate::{ByteQuantity, Duration};

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
/// `spec.credentials.assumeRole.duration`: what STS itself takes for a default (PLATFORM.md 4.3).
pub const ROLE_DURATION: Duration = Duration::from_secs(3_600);
/// `spec.limits.clientSlots`: the smaller of the two numbers that the platform's documents name (PLATFORM.md 1.8).
pub const CLIENT_SLOTS: u32 = 64;
/// `spec.limits.connectAttemptsPerMinute`: a little under the platform's 100 (PLATFORM.md 1.8).
pub const CONNECT_ATTEMPTS_PER_MINUTE: u32 = 95;
/// `spec.scaling.mode`
pub const SCALING_MODE: ScalingMode = ScalingMode::Operator;
/// `spec.scaling.minReplicas`
pub const MIN_REPLICAS: u32 = 1;
/// `spec.scaling.maxReplicas`: a pod for every client slot.
pub const MAX_REPLICAS: u32 = 64;
/// `spec.scaling.targetSaturation`, in percent.
pub const TARGET_SATURATION: u32 = 70;
/// `spec.scaling.pause`
pub const PAUSE: Pause = Pause::None;
/// `spec.scaling.backlog.activation`
pub const BACKLOG_ACTIVATION: u32 = 0;
/// `spec.scaling.backlog.drainWithin`
pub const BACKLOG_DRAIN_WITHIN: Duration = Duration::from_secs(1_800);
/// `spec.scaling.behavior.scaleUp.stabilizationWindow`: none, as in an HPA.
pub const SCALE_UP_STABILIZATION_WINDOW: Duration = Duration::from_secs(0);
/// `spec.scaling.behavior.scaleUp.maxPods`, as in an HPA.
pub const SCALE_UP_MAX_PODS: u32 = 4;
/// `spec.scaling.behavior.scaleUp.maxPercent`, as in an HPA.
pub const SCALE_UP_MAX_PERCENT: u32 = 100;
/// `spec.scaling.behavior.scaleUp.period`, as in an HPA.
pub const SCALE_UP_PERIOD: Duration = Duration::from_secs(15);
/// `spec.scaling.behavior.scaleDown.stabilizationWindow`, as in an HPA.
pub const SCALE_DOWN_STABILIZATION_WINDOW: Duration = Duration::from_secs(300);
/// `spec.scaling.behavior.scaleDown.membershipWindow`: the platform needs so long to balance (PLATFORM.md 1.7).
pub const SCALE_DOWN_MEMBERSHIP_WINDOW: Duration = Duration::from_secs(600);
/// `spec.scaling.behavior.scaleDown.maxPods`
pub const SCALE_DOWN_MAX_PODS: u32 = 4;
/// `spec.scaling.behavior.scaleDown.maxPercent`
pub const SCALE_DOWN_MAX_PERCENT: u32 = 50;
/// `spec.scaling.behavior.scaleDown.period`
pub const SCALE_DOWN_PERIOD: Duration = Duration::from_secs(60);
/// `spec.delivery.connectionsPerPod`
pub const CONNECTIONS_PER_POD: u32 = 1;
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
