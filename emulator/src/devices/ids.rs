//! IDs of the lengths that the platform's have. The same thing always has the same ID.

use rand::SeedableRng as _;
use rand::distr::{Alphanumeric, SampleString as _};
use rand::rngs::SmallRng;

/// How many letters and digits an ID begins with. They tell nobody anything.
const OPAQUE: usize = 20;
/// What is added to a device's number, so that the ID has as many digits as in the documents: `4z819VQHk6VSLmmBJfrf00107ee200`.
const FIRST_DEVICE: u32 = 0x0010_0000;

/// The beginning of the ID of this thing.
fn opaque(of: &str, number: u64) -> String {
    // FNV-1a.
    let seed = of
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut rng = SmallRng::seed_from_u64(seed ^ number);
    Alphanumeric.sample_string(&mut rng, OPAQUE)
}

/// A device's ID; it tells the device's number, so that it can be found.
pub(super) fn device(product: &str, number: u32) -> String {
    format!("{}00{:06x}00", opaque(product, number.into()), FIRST_DEVICE + number)
}

/// The number of the device that may have this ID.
pub(super) fn device_number(id: &str) -> Option<u32> {
    let digits = id.get(OPAQUE + 2..)?.strip_suffix("00")?;
    u32::from_str_radix(digits, 16).ok()?.checked_sub(FIRST_DEVICE)
}

/// The ID of a firmware package.
pub(super) fn package(number: u64) -> String {
    opaque("package", number) + "030100"
}

/// The ID of a firmware update job.
pub(super) fn job(number: u64) -> String {
    opaque("job", number) + "020100"
}

/// The ID of what a job is for one device.
pub(super) fn task(job: &str, device: &str) -> String {
    opaque(&[job, device].concat(), 0) + "010100"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_as_long_as_in_the_documents() {
        // The examples of PLATFORM.md 3 and 4, in full length.
        let documented = |id: &str, example: &str| {
            assert_eq!(id.len(), example.len(), "{id}");
            assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
        };
        documented(&device("a1emulator0", 17), "4z819VQHk6VSLmmBJfrf00107ee200");
        documented(&job(17), "wahVIzGkCMuAUE2gDERM02****");
        documented(&task(&job(17), "device-0017"), "y3tOmCDNgpR8F9jnVEzC01****");
        documented(&package(17), "q3j9OYBjUAZMv1hlMgdo03****");
    }

    #[test]
    fn a_device_s_number_can_be_told_from_its_id() {
        for number in [0, 1, 255, 9_999] {
            assert_eq!(device_number(&device("pk", number)), Some(number));
        }
        for id in
            ["", "4z819VQHk6VSLmmBJfrf", "4z819VQHk6VSLmmBJfrf000000ff00", "pkdevice-0001", "损坏率上报损坏率上报"]
        {
            assert_eq!(device_number(id), None, "{id}");
        }
    }

    #[test]
    fn different_things_have_different_ids() {
        let ids = (0..100).flat_map(|number| {
            let task = task(&job(0), &format!("device-{number:04}"));
            [device("pk", number), device("pl", number), job(number.into()), package(number.into()), task]
        });
        assert_eq!(ids.collect::<std::collections::HashSet<_>>().len(), 500);
    }
}
