//! The signature against the vectors of PLATFORM.md 1.4, and the user name there and back.

use proptest::prelude::*;

use super::*;

const AKSIGN: &str = "authId=testid&timestamp=1573489088171";
const STSTOKEN: &str = "authId=STS.testid&securityToken=testtoken&timestamp=1573489088171";
const VECTORS: [(&str, SignMethod, &str); 6] = [
    (AKSIGN, SignMethod::HmacMd5, "I/Tb6mPPa1CH7tc+1vO7lQ=="),
    (AKSIGN, SignMethod::HmacSha1, "RG+3WYzI9qDD0P9m6ER+maK4yH0="),
    (AKSIGN, SignMethod::HmacSha256, "dAMr0c09P/ECCozeLuJydCVfplDP8RzdvNouS3nf3EA="),
    (STSTOKEN, SignMethod::HmacMd5, "co/+iCSFdrcxggaJvUKLrA=="),
    (STSTOKEN, SignMethod::HmacSha1, "pPDD1tdWktzkIIFiBt75tdxpDaY="),
    (STSTOKEN, SignMethod::HmacSha256, "orZARclxKWJZkohk0WjAts1UHLbkAJZ+hW0/BmNrgN0="),
];

fn secret() -> SecretString {
    SecretString::from("testsecret")
}

fn identity(security_token: Option<&str>) -> ConnectIdentity {
    ConnectIdentity {
        client_id: ClientId::try_new("pod-0").unwrap(),
        iot_instance_id: Some("iot-emulator".to_owned()),
        consumer_group_id: "DEFAULT_GROUP".to_owned(),
        sign_method: SignMethod::HmacSha1,
        timestamp_ms: 1_573_489_088_171,
        access_key_id: if security_token.is_some() { "STS.testid" } else { "testid" }.to_owned(),
        security_token: security_token.map(SecretString::from),
    }
}

#[test]
fn the_password_is_that_of_the_reference_vectors() {
    for (text, method, expected) in VECTORS {
        let text = SecretString::from(text);
        assert_eq!(password(method, &secret(), &text).expose(), expected, "{method}");
        assert!(verify_password(method, &secret(), &text, expected), "{method}");
    }
}

#[test]
fn the_string_to_sign_is_that_of_the_reference_vectors() {
    assert_eq!(string_to_sign("testid", None, 1_573_489_088_171).expose(), AKSIGN);
    let token = SecretString::from("testtoken");
    assert_eq!(string_to_sign("STS.testid", Some(&token), 1_573_489_088_171).expose(), STSTOKEN);
}

#[test]
fn a_sign_method_is_known_by_its_name_in_any_case() {
    for method in SignMethod::ALL {
        assert_eq!(method.wire_name().parse(), Ok(method));
        assert_eq!(method.wire_name().to_uppercase().parse(), Ok(method));
    }
    assert_eq!("Hmacsha1".parse(), Ok(SignMethod::HmacSha1));
    assert_eq!("sha1".parse::<SignMethod>(), Err(UnknownSignMethod("sha1".to_owned())));
}

#[test]
fn an_access_key_signs_as_the_platform_documents_it() {
    let sasl = identity(None).sign(&secret()).unwrap();
    assert_eq!(
        sasl.user_name.expose(),
        "pod-0|iotInstanceId=iot-emulator,authMode=aksign,signMethod=hmacsha1,consumerGroupId=DEFAULT_GROUP,\
         authId=testid,timestamp=1573489088171|"
    );
    assert_eq!(sasl.password.expose(), "RG+3WYzI9qDD0P9m6ER+maK4yH0=");
}

#[test]
fn a_security_token_signs_as_ststoken() {
    let sasl = identity(Some("testtoken")).sign(&secret()).unwrap();
    assert_eq!(
        sasl.user_name.expose(),
        "pod-0|iotInstanceId=iot-emulator,authMode=ststoken,signMethod=hmacsha1,consumerGroupId=DEFAULT_GROUP,\
         authId=STS.testid,securityToken=testtoken,timestamp=1573489088171|"
    );
    assert_eq!(sasl.password.expose(), "pPDD1tdWktzkIIFiBt75tdxpDaY=");
}

#[test]
fn a_legacy_public_instance_sends_no_instance_id() {
    for none in [None, Some(String::new())] {
        let sasl = ConnectIdentity { iot_instance_id: none, ..identity(None) }.sign(&secret()).unwrap();
        assert!(sasl.user_name.expose().starts_with("pod-0|authMode=aksign,"), "no iotInstanceId expected");
    }
}

#[test]
fn a_value_that_would_change_the_user_name_is_refused() {
    let group = |id: &str| ConnectIdentity { consumer_group_id: id.to_owned(), ..identity(None) };
    let refused = |identity: ConnectIdentity| identity.sign(&secret()).unwrap_err();
    assert_eq!(refused(group("")), SignError::Empty { option: "consumerGroupId" });
    assert_eq!(refused(group("a,b")), SignError::Separator { option: "consumerGroupId", character: ',' });
    assert_eq!(refused(identity(Some("a|b"))), SignError::Separator { option: "securityToken", character: '|' });
    assert_eq!(refused(identity(Some(""))), SignError::Empty { option: "securityToken" });
    let key = ConnectIdentity { access_key_id: "a\0b".to_owned(), ..identity(None) };
    assert_eq!(refused(key), SignError::Separator { option: "authId", character: '\0' });
    let instance = ConnectIdentity { iot_instance_id: Some("a,b".to_owned()), ..identity(None) };
    assert_eq!(refused(instance), SignError::Separator { option: "iotInstanceId", character: ',' });
}

#[test]
fn a_client_id_has_1_to_64_characters_and_no_bar() {
    assert_eq!(ClientId::try_new(""), Err(ClientIdError::Empty));
    assert_eq!(ClientId::try_new("a|b"), Err(ClientIdError::Character('|')));
    assert_eq!(ClientId::try_new("a\nb"), Err(ClientIdError::Character('\n')));
    assert_eq!(ClientId::try_new("消".repeat(64)).unwrap().as_str().chars().count(), 64);
    assert_eq!(ClientId::try_new("a".repeat(65)), Err(ClientIdError::TooLong(65)));
}

#[test]
fn options_come_in_any_order_and_unknown_ones_are_passed_over() {
    let read = ConnectIdentity::parse(
        "c|timestamp=1,encode=base64,authId=k,securityToken=a=b==,consumerGroupId=g,x=,authMode=ststoken,\
         iotInstanceId=,signMethod=HmacSHA256|",
    )
    .unwrap();
    assert_eq!(read.client_id.as_str(), "c");
    assert_eq!(read.iot_instance_id, None);
    assert_eq!(read.consumer_group_id, "g");
    assert_eq!(read.sign_method, SignMethod::HmacSha256);
    assert_eq!(read.timestamp_ms, 1);
    assert_eq!(read.access_key_id, "k");
    assert_eq!(read.security_token.unwrap().expose(), "a=b==");
}

#[test]
fn a_user_name_that_can_t_be_read_says_why() {
    const GOOD: &str = "c|authMode=aksign,signMethod=hmacmd5,consumerGroupId=g,authId=k,timestamp=1|";
    assert!(ConnectIdentity::parse(GOOD).is_ok());
    let replaced = |from: &str, to: &str| ConnectIdentity::parse(&GOOD.replacen(from, to, 1)).unwrap_err();

    assert_eq!(replaced("1|", "1"), UserNameError::Form { bars: 1 });
    assert_eq!(replaced("1|", "1|x"), UserNameError::Form { bars: 2 });
    assert_eq!(replaced("1|", "1||"), UserNameError::Form { bars: 3 });
    assert_eq!(ConnectIdentity::parse("").unwrap_err(), UserNameError::Form { bars: 0 });
    assert_eq!(ConnectIdentity::parse("|").unwrap_err(), UserNameError::Form { bars: 1 });
    assert_eq!(replaced("c|", "|"), UserNameError::ClientId(ClientIdError::Empty));
    assert_eq!(ConnectIdentity::parse("c||").unwrap_err(), UserNameError::NotAnOption { position: 1 });
    assert_eq!(replaced("authId=k", "authId"), UserNameError::NotAnOption { position: 4 });
    assert_eq!(replaced("authMode=aksign,", ""), UserNameError::Missing("authMode"));
    assert_eq!(replaced("aksign", "ststoken"), UserNameError::Missing("securityToken"));
    assert_eq!(replaced("aksign", "AKSIGN"), UserNameError::AuthMode("AKSIGN".to_owned()));
    assert_eq!(replaced("aksign", "aksign,securityToken=t"), UserNameError::UnusedToken);
    assert_eq!(replaced("hmacmd5", "md5"), UserNameError::SignMethod(UnknownSignMethod("md5".to_owned())));
    assert_eq!(replaced("Id=g", "Id="), UserNameError::Missing("consumerGroupId"));
    assert_eq!(replaced("authId=k", "authId=k,authId=l"), UserNameError::Repeated("authId"));
    for timestamp in ["01", "+1", "-1", "1.0", "now", "99999999999999999999"] {
        let expected = UserNameError::Timestamp(timestamp.to_owned());
        assert_eq!(replaced("timestamp=1", &format!("timestamp={timestamp}")), expected);
    }
    assert_eq!(replaced("timestamp=1", "timestamp="), UserNameError::Missing("timestamp"));
}

#[test]
fn a_wrong_password_is_refused() {
    let identity = identity(None);
    let right = "RG+3WYzI9qDD0P9m6ER+maK4yH0=";
    assert!(identity.verify(&secret(), right));
    assert!(!identity.verify(&SecretString::from("othersecret"), right));
    for wrong in ["", "RG+3", "RG+3WYzI9qDD0P9m6ER+maK4yH1=", "not base64!", "I/Tb6mPPa1CH7tc+1vO7lQ=="] {
        assert!(!identity.verify(&secret(), wrong), "{wrong:?}");
    }
    let later = ConnectIdentity { timestamp_ms: 1_573_489_088_172, ..identity };
    assert!(!later.verify(&secret(), right));
}

#[test]
fn neither_identity_nor_credentials_print_a_secret() {
    let identity = identity(Some("testtoken"));
    let sasl = identity.sign(&secret()).unwrap();
    let printed = format!("{identity:?} {sasl:?}");
    assert!(!printed.contains("testtoken") && !printed.contains(sasl.password.expose()), "{printed}");
}

prop_compose! {
    fn identities()(
        client_id in "[^|\\p{Cc}]{1,64}",
        iot_instance_id in proptest::option::of("[a-z0-9-]{1,40}"),
        consumer_group_id in "[^,|\\p{Cc}]{1,40}",
        sign_method in proptest::sample::select(SignMethod::ALL.to_vec()),
        timestamp_ms: u64,
        access_key_id in "[A-Za-z0-9.]{1,40}",
        security_token in proptest::option::of(prop_oneof!["[A-Za-z0-9+/=]{1,80}", "[A-Za-z0-9+/=]{2000}"]),
    ) -> ConnectIdentity {
        ConnectIdentity {
            client_id: ClientId::try_new(client_id).unwrap(),
            iot_instance_id,
            consumer_group_id,
            sign_method,
            timestamp_ms,
            access_key_id,
            security_token: security_token.map(SecretString::from),
        }
    }
}

proptest! {
    #[test]
    fn what_is_signed_reads_back_and_verifies(identity in identities(), secret in "\\PC{1,200}") {
        let secret = SecretString::from(secret);
        let sasl = identity.sign(&secret).unwrap();
        let read = ConnectIdentity::parse(sasl.user_name.expose()).unwrap();
        prop_assert_eq!(&read.client_id, &identity.client_id);
        prop_assert_eq!(&read.iot_instance_id, &identity.iot_instance_id);
        prop_assert_eq!(&read.consumer_group_id, &identity.consumer_group_id);
        prop_assert_eq!(read.sign_method, identity.sign_method);
        prop_assert_eq!(read.timestamp_ms, identity.timestamp_ms);
        prop_assert_eq!(&read.access_key_id, &identity.access_key_id);
        prop_assert_eq!(
            read.security_token.as_ref().map(SecretString::expose),
            identity.security_token.as_ref().map(SecretString::expose)
        );
        prop_assert!(read.verify(&secret, sasl.password.expose()));
    }

    #[test]
    fn reading_a_user_name_never_panics(text in "\\PC*", options in "[a-zA-Z=,|0-9]{0,120}") {
        let _ = ConnectIdentity::parse(&text);
        let _ = ConnectIdentity::parse(&options);
    }
}
