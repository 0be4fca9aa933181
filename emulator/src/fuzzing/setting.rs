//! Where the scripts play: one account with one access key, one instance, one group.

use std::sync::{Arc, LazyLock};

use crate::clock::Clock;
use crate::config::AccessKeyEntry;
use crate::hub::Hub;
use crate::instances::{Instances, Quotas, Setup};
use crate::platform::Platform;
use crate::profile::Profile;
use crate::rules::Rules;
use crate::terms::Terms;

pub(super) const ACCOUNT: &str = "1";
pub(super) const KEY: &str = "testid";
pub(super) const SECRET: &str = "testsecret";
pub(super) const GROUP: &str = "g";

/// The profiles to choose from; the default one is the first.
static PROFILES: LazyLock<Vec<Profile>> = LazyLock::new(|| {
    let varied = Profile::alone().into_iter().chain(Profile::pairs());
    std::iter::once(Profile::default()).chain(varied.map(|it| it.profile)).collect()
});

/// The profile that a script chooses.
pub(super) fn profile(choice: u8) -> Profile {
    PROFILES[usize::from(choice) % PROFILES.len()]
}

pub(super) fn key() -> AccessKeyEntry {
    AccessKeyEntry::new(KEY, SECRET)
}

/// A platform of which nothing has happened yet, at this Unix time in ms.
pub(super) fn hub(terms: &Arc<Terms>, unix_ms: u64) -> Arc<Hub> {
    let setup = Setup { id: "i".into(), account: ACCOUNT.into(), groups: vec![GROUP.into()], products: Vec::new() };
    let quotas =
        Quotas { groups_per_product: 2, products_per_group: 2, groups_per_account: 4, rules: Rules::default() };
    let instances = Instances::new(vec![setup], quotas, 1, unix_ms);
    Arc::new(Hub::new(Clock::start(), Platform::new(Arc::clone(terms), [], 0, 1), instances))
}
