//! The condition `CredentialsValid`: whether there are keys, and whether the platform takes them.

use sluice_crds::status::{ConditionType, Reason};

use super::{Truth, Verdict};
use crate::credentials::{Fault, Standing};
use crate::group::dereference::World;
use crate::group::validate::Validated;
use crate::group::view::Evidence;

const KIND: ConditionType = ConditionType::CredentialsValid;

pub(super) fn verdict(group: &Validated, world: &World) -> Verdict {
    let link = (&world.standings.link, "credentials");
    let api = world.standings.api.as_ref().map(|standing| (standing, "apiCredentials"));
    let all = [Some(link), api];
    for (standing, field) in all.into_iter().flatten() {
        if let Standing::Failed(Fault { reason, words }) = standing {
            // What is only not known is no reason to call them bad.
            let truth = match reason {
                Reason::Unverified | Reason::PlatformUnreachable => Truth::Unknown,
                _ => Truth::False,
            };
            return Verdict::new(KIND, truth, *reason, format!("spec.{field}: {words}"));
        }
    }
    if all.into_iter().flatten().any(|(standing, _)| *standing == Standing::Pending) {
        return Verdict::unless_known(KIND, Reason::Unverified, "the keys have not been fetched yet");
    }
    let shared = world.standings.api.is_none();
    let api = world.platform.as_ref().map(|platform| &platform.api);
    let refusal = world.sidecars.as_ref().and_then(|view| view.refusal.as_ref()).filter(|refusal| refusal.credentials);
    let verified = world.sidecars.as_ref().is_some_and(|view| view.verified);
    if let Some(refusal) = refusal {
        let words =
            format!("a link was refused ({}): check the keys and that they have the right iot:sub", refusal.words);
        return Verdict::new(KIND, Truth::False, Reason::Refused, words);
    }
    if let Some(Evidence::Refused(words)) = api {
        // The keys of the links may be good all the same; who reads this has to mend something in any case.
        let field = if shared { "credentials" } else { "apiCredentials" };
        return Verdict::new(KIND, Truth::False, Reason::Refused, format!("spec.{field}: {words}"));
    }
    if verified || (shared && api == Some(&Evidence::Works)) {
        let trouble = all.into_iter().flatten().find_map(|(standing, field)| match standing {
            Standing::Ready { trouble: Some(trouble), .. } => Some(format!("; but spec.{field}: {trouble}")),
            _ => None,
        });
        let words = format!("the platform takes them{}", trouble.unwrap_or_default());
        return Verdict::new(KIND, Truth::True, Reason::Verified, words);
    }
    if let Some(Evidence::Unreachable(words)) = api {
        return Verdict::new(KIND, Truth::Unknown, Reason::PlatformUnreachable, words);
    }
    if world.sidecars.is_none() {
        return Verdict::unless_known(KIND, Reason::Unverified, "the sidecars have not reported yet");
    }
    let words = match &group.api {
        Some(_) => "no link has come up and no call was answered yet",
        None => "no link has come up yet; with spec.instance.region or apiEndpoint they could be tried before",
    };
    Verdict::new(KIND, Truth::Unknown, Reason::Unverified, words)
}
