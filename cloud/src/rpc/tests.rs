//! The signature against the vectors of PLATFORM.md 4.1, canonical form there and back, and what a gateway refuses.

use proptest::prelude::*;

use super::*;
use crate::credentials::AccessKey;

const VECTOR_1: [(&str, &str); 14] = [
    ("TopicFullName", "/productKey/testdevice/get"),
    ("Action", "Pub"),
    ("Format", "XML"),
    ("MessageContent", "aGVsbG93b3JsZA="),
    ("AccessKeyId", "testid"),
    ("ProductKey", "12345abcdeZ"),
    ("Qos", "0"),
    ("RegionId", "cn-shanghai"),
    ("ServiceCode", "iot"),
    ("SignatureMethod", "HMAC-SHA1"),
    ("SignatureNonce", "0715a395-aedf-4a41-bab7-746b43d38d88"),
    ("SignatureVersion", "1.0"),
    ("Timestamp", "2017-10-02T09:39:41Z"),
    ("Version", "2017-04-20"),
];
const VECTOR_1_TEXT: &str = "GET&%2F&AccessKeyId%3Dtestid%26Action%3DPub%26Format%3DXML%26MessageContent%3D\
    aGVsbG93b3JsZA%253D%26ProductKey%3D12345abcdeZ%26Qos%3D0%26RegionId%3Dcn-shanghai%26ServiceCode%3Diot%26\
    SignatureMethod%3DHMAC-SHA1%26SignatureNonce%3D0715a395-aedf-4a41-bab7-746b43d38d88%26SignatureVersion%3D1.0%26\
    Timestamp%3D2017-10-02T09%253A39%253A41Z%26TopicFullName%3D%252FproductKey%252Ftestdevice%252Fget%26\
    Version%3D2017-04-20";

fn secret() -> SecretString {
    SecretString::from("testsecret")
}

fn verified(method: &str, params: &Params) -> Result<AccessKeyId, VerifyError> {
    verify(method, params, |id| (id == "testid").then(secret))
}

fn call() -> Call {
    Call {
        action: "DescribeDedicatedHosts",
        version: "2014-05-26",
        params: Params::new().with("RegionId", "cn-beijing"),
    }
}

fn at() -> jiff::Timestamp {
    "2023-03-13T08:34:30Z".parse().unwrap()
}

#[test]
fn the_signature_is_that_of_the_first_reference_vector() {
    let params = Params::from_iter(VECTOR_1);
    assert_eq!(string_to_sign("GET", &params).expose(), VECTOR_1_TEXT);
    assert_eq!(sign("GET", &params, &secret()), "Y9eWn4nF8QPh3c4zAFkM/k/u7eA=");
    let signed = params.with("Signature", "Y9eWn4nF8QPh3c4zAFkM/k/u7eA=");
    assert_eq!(verified("GET", &signed).unwrap().as_str(), "testid");
}

#[test]
fn the_signature_is_that_of_the_second_reference_vector() {
    let key = AccessKey::try_new("testid", secret(), None).unwrap();
    let mut params = call().signed("GET", &key, at(), &Nonce::from_bits(0xedb2_b34a_f0af_9a6d_14de_af7c_1a53_15eb));
    assert_eq!(params.get("Signature"), Some("9NaGiOspFP5UPcwX8Iwt2YJXXuk="));
    assert_eq!(verified("GET", &params).unwrap().as_str(), "testid");
    params.set("RegionId", "cn-shanghai");
    assert_eq!(verified("GET", &params), Err(VerifyError::Mismatch));
}

#[test]
fn a_temporary_key_signs_with_its_token() {
    let key = AccessKey::try_new("testid", secret(), Some("a+b/c==".into())).unwrap();
    let nonce = Nonce::from_bits(1);
    assert_eq!(nonce.as_str(), "00000000000000000000000000000001");
    let params = call().signed("POST", &key, at(), &nonce);
    assert_eq!(params.get("SecurityToken"), Some("a+b/c=="));
    assert!(verified("POST", &params).is_ok());
    assert_eq!(verified("POST", &params.with("SecurityToken", "another")), Err(VerifyError::Mismatch));
}

#[test]
fn a_call_has_no_parameter_named_as_a_public_one_by_accident() {
    let key = AccessKey::try_new("testid", secret(), None).unwrap();
    let odd = Call { params: Params::new().with("AccessKeyId", "x").with("Signature", "y"), ..call() };
    let params = odd.signed("POST", &key, at(), &Nonce::from_bits(1));
    assert_eq!(params.get("AccessKeyId"), Some("testid"));
    assert!(verified("POST", &params).is_ok());
}

#[test]
fn what_a_signed_call_must_have_is_named_when_it_is_missing() {
    let signed = Params::from_iter(VECTOR_1).with("Signature", "Y9eWn4nF8QPh3c4zAFkM/k/u7eA=");
    for name in ["AccessKeyId", "Signature", "SignatureMethod", "SignatureVersion", "SignatureNonce", "Timestamp"] {
        let without: Params = signed.iter().filter(|(found, _)| *found != name).collect();
        assert_eq!(verified("GET", &without), Err(VerifyError::Missing(name.to_owned())));
        assert_eq!(verified("GET", &signed.clone().with(name, "")), Err(VerifyError::Missing(name.to_owned())));
    }
    for (name, value) in [("SignatureMethod", "HMAC-SHA256"), ("SignatureVersion", "2.0")] {
        let refused = verified("GET", &signed.clone().with(name, value)).unwrap_err();
        assert!(matches!(refused, VerifyError::Unsupported { name: found, .. } if found == name), "{refused}");
    }
    for wrong in ["Y9eWn4nF8QPh3c4zAFkM/k/u7eB=", "not base64", "AAAA"] {
        assert_eq!(verified("GET", &signed.clone().with("Signature", wrong)), Err(VerifyError::Mismatch), "{wrong}");
    }
    assert_eq!(verified("POST", &signed), Err(VerifyError::Mismatch));
    let unknown = VerifyError::UnknownAccessKey("testid".to_owned());
    assert_eq!(verify("GET", &signed, |_| None), Err(unknown));
    assert_eq!(verify("GET", &signed, |_| Some("other".into())), Err(VerifyError::Mismatch));
}

#[test]
fn encoding_is_that_of_rfc_3986() {
    assert_eq!(percent_encode("AZaz09-_.~"), "AZaz09-_.~");
    assert_eq!(percent_encode(" *+/=%&消"), "%20%2A%2B%2F%3D%25%26%E6%B6%88");
    assert_eq!(percent_decode("a+b%20c%2a%2A").unwrap(), "a b c**");
    for (text, error) in [
        ("%", DecodeError::Escape(0)),
        ("a%4", DecodeError::Escape(1)),
        ("%+1", DecodeError::Escape(0)),
        ("%zz", DecodeError::Escape(0)),
        ("%FF", DecodeError::NotUtf8),
    ] {
        assert_eq!(percent_decode(text), Err(error), "{text}");
    }
}

#[test]
fn a_query_is_read_as_a_gateway_reads_it() {
    let mut params = Params::parse("&b=2&a=1%3D&&c&d=x=y").unwrap();
    assert_eq!(params.iter().collect::<Vec<_>>(), [("a", "1="), ("b", "2"), ("c", ""), ("d", "x=y")]);
    assert_eq!((params.len(), params.is_empty()), (4, false));
    params.read("e=%2B").unwrap();
    assert_eq!(params.get("e"), Some("+"));
    assert_eq!(params.read("f=1&a=2"), Err(ParamsError::Repeated("a".to_owned())));
    let refused = Params::parse("a=1&token%=hush").unwrap_err();
    assert_eq!(refused, ParamsError::Encoding { position: 2, reason: DecodeError::Escape(5) });
    assert!(Params::parse("").unwrap().is_empty());
}

#[test]
fn values_are_never_printed() {
    let params = Params::new().with("SecurityToken", "hush").with("Signature", "hush");
    assert_eq!(format!("{params:?}"), r#"{"SecurityToken", "Signature"}"#);
    let call = Call { params, ..call() };
    assert!(!format!("{call:?} {:?}", call.params.encode()).contains("hush"));
}

#[test]
fn timestamps_are_utc_to_the_second() {
    let text = "2017-10-02T09:39:41Z";
    assert_eq!(format_timestamp(parse_timestamp(text).unwrap()), text);
    assert_eq!(format_timestamp(parse_timestamp("2019-11-12T11:19:13.999Z").unwrap()), "2019-11-12T11:19:13Z");
    for wrong in [
        "",
        "2017-10-02",
        "2017-10-02T09:39:41",
        "2017-10-02 09:39:41Z",
        "2017-13-02T09:39:41Z",
        "2017-10-02T09:39:41+01:00Z",
    ] {
        assert_eq!(parse_timestamp(wrong), None, "{wrong}");
    }
}

fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    let own = proptest::collection::btree_map("[A-Z]{1,2}\\PC{0,6}", "\\PC{0,12}", 0..8);
    own.prop_map(|own| own.into_iter().filter(|(name, _)| name != "Signature").collect())
}

/// The canonical form as the document tells it, step by step.
fn by_the_book(method: &str, pairs: &[(String, String)]) -> String {
    let mut pairs: Vec<_> = pairs.iter().filter(|(name, _)| name != "Signature").collect();
    pairs.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    let encoded: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", percent_encode(name), percent_encode(value))).collect();
    format!("{method}&{}&{}", percent_encode("/"), percent_encode(&encoded.join("&")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_encoded_is_read_again(text in any::<String>()) {
        prop_assert_eq!(percent_decode(&percent_encode(&text)), Ok(text));
    }

    #[test]
    fn rubbish_is_read_or_refused(text in "[%+&=0-9A-Fa-g\u{0}é]{0,40}", other in any::<String>()) {
        for text in [text, other] {
            if let Ok(params) = Params::parse(&text) {
                let again = Params::parse(params.encode().expose()).unwrap();
                prop_assert!(again.iter().eq(params.iter()) || params.get("") == Some(""));
            }
            let _ = parse_timestamp(&text);
        }
    }

    #[test]
    fn the_order_of_parameters_does_not_matter(pairs in pairs(), method in "GET|POST") {
        let forwards: Params = pairs.iter().cloned().collect();
        let backwards: Params = pairs.iter().rev().cloned().collect();
        let (text, other) = (string_to_sign(&method, &forwards), string_to_sign(&method, &backwards));
        prop_assert_eq!(text.expose(), other.expose());
        prop_assert_eq!(text.expose(), by_the_book(&method, &pairs));
        let again = Params::parse(backwards.encode().expose()).unwrap();
        prop_assert!(again.iter().eq(forwards.iter()));
    }

    #[test]
    fn a_signed_call_verifies_over_the_wire_and_no_other_does(
        pairs in pairs(),
        method in "GET|POST",
        secret in "[!-~]{1,40}",
        token in proptest::option::of("[!-~&&[^,|]]{1,40}"),
        nonce in any::<u128>(),
    ) {
        let secret = SecretString::from(secret);
        let key = AccessKey::try_new("id", secret.clone(), token.map(SecretString::from)).unwrap();
        let call = Call { action: "A", version: "V", params: pairs.into_iter().collect() };
        let sent = call.signed(&method, &key, at(), &Nonce::from_bits(nonce));
        let read = Params::parse(sent.encode().expose()).unwrap();
        prop_assert!(verify(&method, &read, |_| Some(secret.clone())).is_ok());

        let other = SecretString::new(format!("{}x", secret.expose()));
        prop_assert_eq!(verify(&method, &read, |_| Some(other)), Err(VerifyError::Mismatch));
        let names: Vec<String> = read.iter().map(|(name, _)| name.to_owned()).collect();
        for name in names.into_iter().filter(|n| !matches!(&**n, "AccessKeyId" | "SignatureMethod" | "SignatureVersion")) {
            let changed = read.clone().with(name.clone(), format!("{}x", read.get(&name).unwrap()));
            prop_assert_eq!(verify(&method, &changed, |_| Some(secret.clone())), Err(VerifyError::Mismatch));
        }
    }
}
