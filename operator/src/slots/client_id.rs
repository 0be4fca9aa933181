//! The name of one connection on the platform: it says which pod and which slot, for whoever reads the platform's console.

use sluice_cloud::sign::{ClientId, ClientIdError};

use super::names::{PodRef, SlotIndex};

/// How many characters of the UID are in it: enough to tell the pods of one name apart.
const UID_CHARS: usize = 8;

/// The client ID of this pod's connection on this slot: `NAME.UID.SLOT`, of which UID is the end of the pod's UID, and
/// NAME as much of the pod's name as fits into 64 characters. It is the *end* of a long name that is kept, since that is
/// where pods of one workload differ.
pub fn client_id(pod: &PodRef, slot: SlotIndex) -> Result<ClientId, ClientIdError> {
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let uid: Vec<char> = pod.uid.0.chars().filter(plain).collect();
    let end: String = uid[uid.len().saturating_sub(UID_CHARS)..].iter().collect();
    let tail = format!(".{end}.{slot}");
    let room = ClientId::MAX_CHARS.saturating_sub(tail.chars().count());
    let name: Vec<char> = pod.name.chars().filter(plain).collect();
    let kept: String = name[name.len().saturating_sub(room)..].iter().collect();
    ClientId::try_new(format!("{kept}{tail}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_pod_and_slot() {
        let pod = PodRef::new("0d9f4c1e-7a3b-4f35-9d2a-8a4b51c0ffee", "plant-a", "telemetry-worker-6c9f7d8b5-x2x7k");
        assert_eq!(client_id(&pod, SlotIndex(63)).unwrap().as_str(), "telemetry-worker-6c9f7d8b5-x2x7k.51c0ffee.63");
    }

    proptest! {
        #[test]
        fn is_always_valid_and_tells_slots_apart(uid in ".{0,80}", name in ".{0,300}", a in any::<u32>(), b in any::<u32>()) {
            let pod = PodRef::new(&uid, "ns", &name);
            let one = client_id(&pod, SlotIndex(a)).unwrap();
            let other = client_id(&pod, SlotIndex(b)).unwrap();
            prop_assert_eq!(one == other, a == b);
        }
    }
}
