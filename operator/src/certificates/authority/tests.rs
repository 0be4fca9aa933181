use proptest::prelude::*;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{CertificateError as Refused, RootCertStore};

use super::*;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

/// What a client that trusts `anchors` says of a server's certificate.
fn verdict(leaf: &Leaf, anchors: &[&Anchor], name: &str, at: Timestamp) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    for anchor in anchors {
        roots.add(der(anchor.pem()).unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at.as_second()).unwrap()));
    verifier.verify_server_cert(leaf.key.end_entity_cert().unwrap(), &[], &name, &[], at).map(|_| ())
}

#[test]
fn what_an_authority_signs_is_trusted_by_its_names_and_in_its_time() {
    let authority = Authority::generate(NOW).unwrap();
    let names = ["sluice-webhook.sluice-system.svc".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let leaf = authority.sign(&names, NOW).unwrap();
    let trusted = [authority.anchor()];
    for name in &names {
        verdict(&leaf, &trusted, name, NOW).unwrap();
    }
    // A client whose clock is behind by less than an hour.
    verdict(&leaf, &trusted, "127.0.0.1", NOW - SignedDuration::from_mins(59)).unwrap();
    verdict(&leaf, &trusted, "127.0.0.1", NOW + hours(30 * 24 - 1)).unwrap();
    let late = verdict(&leaf, &trusted, "127.0.0.1", NOW + hours(30 * 24 + 1)).unwrap_err();
    assert!(matches!(late, rustls::Error::InvalidCertificate(Refused::ExpiredContext { .. })), "{late}");
    let other = verdict(&leaf, &trusted, "elsewhere", NOW).unwrap_err();
    assert!(matches!(other, rustls::Error::InvalidCertificate(Refused::NotValidForNameContext { .. })), "{other}");
    let stranger = Authority::generate(NOW + hours(1)).unwrap();
    let unknown = verdict(&leaf, &[stranger.anchor()], "127.0.0.1", NOW).unwrap_err();
    assert!(matches!(unknown, rustls::Error::InvalidCertificate(Refused::UnknownIssuer)), "{unknown}");
    verdict(&leaf, &[stranger.anchor(), authority.anchor()], "127.0.0.1", NOW).unwrap();
}

#[test]
fn an_authority_can_be_kept_and_read_again() {
    let authority = Authority::generate(NOW).unwrap();
    let again = Authority::parse(authority.anchor().pem(), authority.key().clone()).unwrap();
    assert_eq!(again.anchor(), authority.anchor());
    let validity = again.anchor().validity();
    assert_eq!((validity.not_before, validity.not_after), (NOW - hours(1), NOW + AUTHORITY_LIFE));
    let leaf = again.sign(&["a".into()], NOW).unwrap();
    verdict(&leaf, &[authority.anchor()], "a", NOW).unwrap();
}

#[test]
fn no_leaf_outlives_its_authority() {
    let authority = Authority::generate(NOW).unwrap();
    let late = NOW + AUTHORITY_LIFE - hours(5);
    let leaf = authority.sign(&["a".into()], late).unwrap();
    assert_eq!(leaf.validity.not_after, authority.anchor().validity().not_after);
    verdict(&leaf, &[authority.anchor()], "a", late + hours(4)).unwrap();
}

#[test]
fn what_is_not_an_authority_is_refused() {
    let one = Authority::generate(NOW).unwrap();
    let other = Authority::generate(NOW).unwrap();
    let parse = |certificate: &str, key: &SecretString| Authority::parse(certificate, key.clone()).unwrap_err();
    assert!(matches!(parse(one.anchor().pem(), other.key()), CertificateError::Mismatch));
    assert!(matches!(parse("", one.key()), CertificateError::Certificate(_)));
    assert!(matches!(
        parse("-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----", one.key()),
        CertificateError::Certificate(_)
    ));
    assert!(matches!(parse(one.anchor().pem(), &SecretString::from("x")), CertificateError::Key(_)));
    let leaf = one.sign(&["a".into()], NOW).unwrap();
    let der = leaf.key.end_entity_cert().unwrap();
    let pem = pem(der);
    assert!(matches!(parse(&pem, one.key()), CertificateError::NotAnAuthority));
}

fn pem(der: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

#[test]
fn the_key_is_not_printed() {
    let authority = Authority::generate(NOW).unwrap();
    assert!(!format!("{authority:?}").contains("PRIVATE KEY"));
}

#[test]
fn a_name_that_cannot_be_is_named() {
    let error = Authority::generate(NOW).unwrap().sign(&["ä".into()], NOW).unwrap_err().to_string();
    assert!(error.contains("no certificate can be made for ä"), "{error}");
}

proptest! {
    #[test]
    fn a_leaf_is_renewed_between_half_and_two_thirds_of_its_life(dice in 0.0..1.0, life in 1_i64..10_000) {
        let validity = Validity { not_before: NOW, not_after: NOW + hours(life) };
        let age = validity.renew_at(dice).duration_since(NOW).as_secs_f64() / hours(life).as_secs_f64();
        prop_assert!((0.56..=0.67).contains(&age), "{age}");
    }

    #[test]
    fn garbage_is_an_error(text in ".{0,200}") {
        prop_assert!(Authority::parse(&text, SecretString::from(text.clone())).is_err());
        let framed = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----");
        prop_assert!(Anchor::parse(&framed).is_err());
    }
}
