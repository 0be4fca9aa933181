//! What the outcome of a call says about the credentials, in words that tell a person what to do. Pure.

use sluice_cloud::answer::{ApiError, ErrorClass};
use sluice_cloud::client::CallError;

use crate::group::view::Evidence;

/// So many failures in a row to reach the platform are no evidence against what was known before: connections break.
const PATIENCE: u32 = 3;

/// A failure in words: the platform's own, less the ID of the request, which would make every failure another one.
pub(super) fn words(error: &CallError) -> String {
    match error {
        CallError::Api(error) => ApiError { request_id: None, ..error.clone() }.to_string(),
        other => other.to_string(),
    }
}

/// What is known of the credentials after a call about `group_id` has failed, the `failures`-th in a row.
pub(super) fn after(known: &Evidence, error: &CallError, failures: u32, group_id: &str) -> Evidence {
    let words = words(error);
    match error.class() {
        ErrorClass::Throttled => known.clone(),
        ErrorClass::Credentials => Evidence::Refused(words),
        // Who is told what it may not do has been recognised: nothing is wrong with the keys.
        ErrorClass::PermissionDenied => Evidence::Unreachable(format!(
            "the platform recognises the keys, but they may not look at the group's figures; grant them \
             iot:QueryConsumerGroupStatus, or do without the backlog: {words}"
        )),
        ErrorClass::NotFound => Evidence::Unreachable(format!(
            "check spec.groupId ({group_id}) and spec.instance: the platform does not find the group: {words}"
        )),
        ErrorClass::Unavailable if matches!(known, Evidence::Works | Evidence::Refused(_)) && failures < PATIENCE => {
            known.clone()
        }
        ErrorClass::Unavailable | ErrorClass::Invalid => Evidence::Unreachable(words),
    }
}

/// How metrics call the outcome of a call.
pub(super) fn label<T>(result: &Result<T, CallError>) -> &'static str {
    match result.as_ref().err().map(CallError::class) {
        None => "ok",
        Some(ErrorClass::Throttled) => "throttled",
        Some(ErrorClass::Credentials) => "refused",
        Some(ErrorClass::PermissionDenied) => "denied",
        Some(ErrorClass::NotFound) => "not_found",
        Some(ErrorClass::Invalid) => "invalid",
        Some(ErrorClass::Unavailable) => "unavailable",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failure(class: ErrorClass, request_id: &str) -> CallError {
        CallError::Api(ApiError {
            action: "QueryConsumerGroupStatus",
            class,
            code: "Some.Code".into(),
            message: "The platform's words.".into(),
            request_id: Some(request_id.into()),
            status: 400,
        })
    }

    fn known() -> impl Strategy<Value = Evidence> {
        prop_oneof![
            Just(Evidence::Untried),
            Just(Evidence::Works),
            Just(Evidence::Refused("before".into())),
            Just(Evidence::Unreachable("before".into())),
        ]
    }

    fn class() -> impl Strategy<Value = ErrorClass> {
        use ErrorClass::{Credentials, Invalid, NotFound, PermissionDenied, Throttled, Unavailable};
        prop::sample::select(vec![Throttled, Credentials, PermissionDenied, NotFound, Invalid, Unavailable])
    }

    proptest! {
        #[test]
        fn only_a_refusal_of_credentials_speaks_against_them(known in known(), class in class(), failures in 1u32..10) {
            let evidence = after(&known, &failure(class, "1"), failures, "g");
            let anew = matches!(evidence, Evidence::Refused(_)) && evidence != known;
            prop_assert!(!anew || class == ErrorClass::Credentials);
            if class == ErrorClass::Credentials {
                let words = "QueryConsumerGroupStatus failed: Some.Code: The platform's words. (HTTP 400)";
                prop_assert_eq!(&evidence, &Evidence::Refused(words.to_owned()));
            }
            if class == ErrorClass::Throttled {
                prop_assert_eq!(&evidence, &known);
            }
        }

        #[test]
        fn the_same_failure_again_is_nothing_new(known in known(), class in class(), failures in 1u32..10) {
            let once = after(&known, &failure(class, "1"), failures, "g");
            let again = after(&once, &failure(class, "2"), failures, "g");
            prop_assert_eq!(once, again);
        }
    }

    #[test]
    fn a_broken_connection_is_no_evidence_and_an_outage_is() {
        let lost = failure(ErrorClass::Unavailable, "1");
        assert_eq!(after(&Evidence::Works, &lost, 2, "g"), Evidence::Works);
        assert!(matches!(after(&Evidence::Works, &lost, 3, "g"), Evidence::Unreachable(_)));
        assert!(matches!(after(&Evidence::Untried, &lost, 1, "g"), Evidence::Unreachable(_)));
    }

    #[test]
    fn a_missing_permission_is_not_said_to_be_a_wrong_key() {
        let denied = after(&Evidence::Untried, &failure(ErrorClass::PermissionDenied, "1"), 1, "g");
        let Evidence::Unreachable(words) = denied else { panic!("{denied:?}") };
        assert!(words.contains("recognises the keys") && words.contains("grant them iot:QueryConsumerGroupStatus"));
        assert!(words.contains("The platform's words."), "{words}");
        let Evidence::Unreachable(words) = after(&Evidence::Works, &failure(ErrorClass::NotFound, "1"), 1, "gg") else {
            panic!("of what is not there nothing is known");
        };
        assert!(words.contains("spec.groupId (gg)"), "{words}");
    }
}
