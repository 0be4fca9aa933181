//! What is to be done about a product's subscription: a pure function of what is wanted and what the platform says.
//!
//! A subscription belongs to a product, and other groups live by it. So nothing is ever switched off or removed, a change
//! is made from what the platform said right before, and what may not be done is put into words instead.

use sluice_cloud::iot::{MessageType, Subscription};
use sluice_crds::{Manage, MessageType as Wanted, ProductSubscription};

/// Groups that a product's subscription can have (`PLATFORM.md 1.8`).
const GROUPS: usize = 10;

/// What to do about one product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: it is as it should be.
    Done,
    /// Make the subscription, of which there is none.
    Create(Subscription),
    /// Add the group.
    AddGroup,
    /// Replace the subscription by what it is and more.
    Widen(Subscription),
    /// Nothing may be done; this is what differs, and what a person can do.
    Report(String),
}

/// Looks at one product. `found` is what the platform has now; `None` if it has no subscription of it.
pub(super) fn plan(manage: Manage, group: &str, wanted: &ProductSubscription, found: Option<&Subscription>) -> Step {
    let product = &wanted.product_key;
    let Some(found) = found.filter(|found| !found.group_ids.is_empty()) else {
        return match manage {
            Manage::Union => Step::Create(Subscription {
                product_key: product.clone(),
                flags: wanted
                    .messages
                    .iter()
                    .fold(found.map(|found| found.flags.clone()).unwrap_or_default(), |flags, message| {
                        flags.with(flag(*message))
                    }),
                group_ids: vec![group.to_owned()],
            }),
            Manage::AddGroup | Manage::Observe => Step::Report(format!(
                "product {product} has no AMQP subscription: make one in the console, or set subscriptions.manage to Union"
            )),
        };
    };
    let member = found.group_ids.iter().any(|id| id == group);
    let missing: Vec<Wanted> =
        wanted.messages.iter().copied().filter(|message| !found.flags.is_on(flag(*message))).collect();
    let full = found.group_ids.len() >= GROUPS;
    match manage {
        _ if member && missing.is_empty() => Step::Done,
        Manage::Observe => Step::Report(difference(product, group, member, &missing)),
        _ if !member && full => Step::Report(format!(
            "product {product} is subscribed by {GROUPS} groups, which is all that the platform allows: take one out in the console"
        )),
        Manage::Union if !missing.is_empty() => {
            let mut widened = found.clone();
            widened.flags = missing.iter().fold(widened.flags, |flags, message| flags.with(flag(*message)));
            if !member {
                widened.group_ids.push(group.to_owned());
            }
            Step::Widen(widened)
        }
        _ if !member => Step::AddGroup,
        _ => Step::Report(difference(product, group, member, &missing)),
    }
}

/// A difference in words.
fn difference(product: &str, group: &str, member: bool, missing: &[Wanted]) -> String {
    let mut words = Vec::new();
    if !member {
        words.push(format!("group {group} is not subscribed to it (AddGroup or Union would add it)"));
    }
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|message| flag(*message).flag()).collect();
        words.push(format!("{} is off (Union would switch it on, for all groups of the product)", names.join(", ")));
    }
    format!("product {product}: {}", words.join("; "))
}

/// The platform's flag of a type.
fn flag(message: Wanted) -> MessageType {
    match message {
        Wanted::DeviceData => MessageType::DeviceData,
        Wanted::StatusChange => MessageType::DeviceStatusChange,
        Wanted::TopologyLifecycle => MessageType::DeviceTopoLifeCycle,
        Wanted::FoundDeviceList => MessageType::FoundDeviceList,
        Wanted::ThingHistory => MessageType::ThingHistory,
        Wanted::DeviceLifecycle => MessageType::DeviceLifeCycle,
        Wanted::OtaEvent => MessageType::OtaEvent,
        Wanted::DeviceTag => MessageType::DeviceTag,
        Wanted::OtaVersion => MessageType::OtaVersion,
        Wanted::OtaJob => MessageType::OtaJob,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sluice_cloud::iot::Flags;

    use super::*;

    const ALL: [Wanted; 10] = [
        Wanted::DeviceData,
        Wanted::StatusChange,
        Wanted::TopologyLifecycle,
        Wanted::FoundDeviceList,
        Wanted::ThingHistory,
        Wanted::DeviceLifecycle,
        Wanted::OtaEvent,
        Wanted::DeviceTag,
        Wanted::OtaVersion,
        Wanted::OtaJob,
    ];

    fn messages() -> impl Strategy<Value = Vec<Wanted>> {
        prop::sample::subsequence(ALL.to_vec(), 1..=ALL.len())
    }

    fn found() -> impl Strategy<Value = Option<Subscription>> {
        prop::option::of((messages(), prop::sample::subsequence((0..14).collect::<Vec<u8>>(), 0..=12)).prop_map(
            |(on, groups)| Subscription {
                product_key: "a1".to_owned(),
                flags: Flags::of(on.into_iter().map(flag)),
                group_ids: groups.into_iter().map(|n| format!("g{n}")).collect(),
            },
        ))
    }

    fn manage() -> impl Strategy<Value = Manage> {
        prop_oneof![Just(Manage::Observe), Just(Manage::AddGroup), Just(Manage::Union)]
    }

    /// What the platform has after a step, by its own rules.
    fn after(step: &Step, found: Option<Subscription>) -> Option<Subscription> {
        match step {
            Step::Done | Step::Report(_) => found,
            Step::Create(subscription) | Step::Widen(subscription) => Some(subscription.clone()),
            Step::AddGroup => found.map(|mut found| {
                found.group_ids.push("g0".to_owned());
                found
            }),
        }
    }

    proptest! {
        #[test]
        fn nothing_is_ever_switched_off_or_removed(manage in manage(), messages in messages(), found in found()) {
            let wanted = ProductSubscription { product_key: "a1".to_owned(), messages };
            let step = plan(manage, "g0", &wanted, found.as_ref());
            if let (Some(before), Some(now)) = (&found, after(&step, found.clone())) {
                for message in MessageType::ALL {
                    prop_assert!(now.flags.is_on(message) || !before.flags.is_on(message));
                }
                prop_assert!(before.group_ids.iter().all(|id| now.group_ids.contains(id)));
                prop_assert!(now.group_ids.len() <= before.group_ids.len().max(GROUPS));
            }
        }

        #[test]
        fn one_step_ends_in_done_or_in_words(manage in manage(), messages in messages(), found in found()) {
            let wanted = ProductSubscription { product_key: "a1".to_owned(), messages };
            let step = plan(manage, "g0", &wanted, found.as_ref());
            let second = plan(manage, "g0", &wanted, after(&step, found).as_ref());
            prop_assert!(matches!(second, Step::Done | Step::Report(_)), "{step:?} then {second:?}");
            if manage == Manage::Observe {
                prop_assert!(matches!(step, Step::Done | Step::Report(_)), "observing changes nothing: {step:?}");
            }
            if manage == Manage::AddGroup {
                prop_assert!(!matches!(step, Step::Create(_) | Step::Widen(_)), "{step:?}");
            }
        }
    }

    #[test]
    fn a_difference_says_what_to_do() {
        let wanted =
            ProductSubscription { product_key: "a1".to_owned(), messages: vec![Wanted::DeviceData, Wanted::OtaEvent] };
        let found = Subscription {
            product_key: "a1".to_owned(),
            flags: Flags::of([MessageType::DeviceData]),
            group_ids: vec!["other".to_owned()],
        };
        let step = plan(Manage::Observe, "g0", &wanted, Some(&found));
        assert_eq!(
            step,
            Step::Report(
                "product a1: group g0 is not subscribed to it (AddGroup or Union would add it); OtaEventFlag is off (Union would \
                 switch it on, for all groups of the product)"
                    .to_owned()
            )
        );
        assert_eq!(plan(Manage::AddGroup, "g0", &wanted, Some(&found)), Step::AddGroup);
    }
}
