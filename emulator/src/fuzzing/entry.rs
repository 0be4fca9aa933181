//! The way in: whatever a client sends from the first byte behind TLS on, up to where its Open is due.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, BytesMut};
use fe2o3_amqp_types::sasl::SaslInit;
use serde_amqp::primitives::{Binary, Symbol};
use sluice_cloud::secret::SecretString;
use sluice_cloud::sign::{self, ConnectIdentity};
use tokio_rustls::TlsAcceptor;

use super::script::Script;
use super::setting::{ACCOUNT, SECRET, hub, key, profile};
use crate::accounts::Accounts;
use crate::amqp::encode;
use crate::amqp::frame::{self, Kind};
use crate::amqp::sasl::{AMQP_HEADER, SASL_HEADER, begin_amqp};
use crate::amqp::{Server, enter};
use crate::profile::TlsVersions;
use crate::terms::Terms;
use crate::tls::Authority;

const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const LARGEST_ANSWER: usize = 1024;

/// TLS takes no part in it, but belongs to what every connection needs.
#[expect(clippy::expect_used, reason = "a key pair is made of nothing but randomness")]
static TLS: LazyLock<TlsAcceptor> = LazyLock::new(|| {
    let authority = Authority::open(None).expect("a certificate");
    authority.acceptor(TlsVersions::Both, &[]).expect("a TLS configuration")
});

/// Lets a client in that sends what the script says: its first byte chooses a profile; the second says whether the rest are
/// the client's bytes, or a user name, which is then signed and sent in good order. Returns whether it was let in.
///
/// # Panics
/// When the emulator waits for more than all there is, or answers with what is no frame: that is a bug.
pub fn fuzz_entry(script: &[u8]) -> bool {
    let mut script = Script::new(script);
    let profile = profile(script.byte());
    let client = if script.byte() & 1 == 0 { script.rest().to_vec() } else { signed(script.rest()) };
    let server = server(Terms { profile, ..Terms::default() });
    let mut stream = tokio::io::join(&client[..], Vec::new());
    let mut input = BytesMut::new();
    let entering = async {
        let admitted = enter(&mut stream, &mut input, ADDRESS, &server).await.ok()??;
        begin_amqp(&mut stream, &mut input).await.ok().map(|()| admitted)
    };
    let Poll::Ready(admitted) = pin!(entering).poll(&mut Context::from_waker(Waker::noop())) else {
        unreachable!("it waits, and nothing more comes");
    };
    look_at_the_answer(stream.writer());
    assert_eq!(server.hub.audit().violations, [""; 0]);
    admitted.is_some()
}

/// What a client sends that has this user name: SASL with the right password, and the AMQP header.
fn signed(user_name: &[u8]) -> Vec<u8> {
    let user_name = String::from_utf8_lossy(user_name);
    let Ok(identity) = ConnectIdentity::parse(&user_name) else { return Vec::new() };
    let token = identity.security_token.as_ref();
    let text = sign::string_to_sign(&identity.access_key_id, token, identity.timestamp_ms);
    let password = sign::password(identity.sign_method, &SecretString::new(SECRET), &text);
    let init = SaslInit {
        mechanism: Symbol::from("PLAIN"),
        initial_response: Some(Binary::from(format!("\0{user_name}\0{}", password.expose()))),
        hostname: None,
    };
    let mut out = BytesMut::from(&SASL_HEADER[..]);
    // What can't be encoded can't be said.
    let _ = encode::put(&mut out, Kind::Sasl, 0, &init);
    out.extend_from_slice(&AMQP_HEADER);
    out.into()
}

fn server(terms: Terms) -> Server {
    let terms = Arc::new(terms);
    let accounts = Accounts::new(ACCOUNT, &[key()], &[], Vec::new(), Vec::new());
    let hub = hub(&terms, 0);
    Server { tls: TLS.clone(), accounts: Arc::new(Mutex::new(accounts)), hub, terms }
}

/// The SASL header, frames, and at most the AMQP header.
fn look_at_the_answer(answer: &[u8]) {
    let mut answer = BytesMut::from(answer);
    if answer.is_empty() {
        return;
    }
    assert!(answer.starts_with(&SASL_HEADER), "{answer:02x?}");
    answer.advance(SASL_HEADER.len());
    while !answer.is_empty() && !answer.starts_with(&AMQP_HEADER) {
        let next = frame::next(&mut answer, Kind::Sasl, LARGEST_ANSWER);
        assert!(matches!(next, Ok(Some(_))), "the emulator writes what is not a frame: {next:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USER_NAME: &str = "c|authMode=aksign,signMethod=hmacsha1,timestamp=1,authId=testid,iotInstanceId=i,\
                             consumerGroupId=g|";

    #[test]
    fn a_fuzzer_gets_past_the_signature() {
        assert!(fuzz_entry(&[&[0, 1], USER_NAME.as_bytes()].concat()));
        assert!(fuzz_entry(&[&[0, 0], &signed(USER_NAME.as_bytes())[..]].concat()));
        let stranger = USER_NAME.replace("testid", "nobody");
        assert!(!fuzz_entry(&[&[0, 1], stranger.as_bytes()].concat()));
    }

    proptest! {
        #[test]
        fn rubbish_is_not_let_in(profile in any::<u8>(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for start in [&b""[..], &SASL_HEADER, b"AMQP\x03\x01\x00\x00\x00\x00\x00\x20\x02\x01\x00\x00\x00\x53\x41"] {
                prop_assert!(!fuzz_entry(&[&[profile, 0], start, &bytes].concat()));
            }
        }

        #[test]
        fn user_names_are_read_or_refused(profile in any::<u8>(), user_name in "[ -~]{0,20}[|][a-zA-Z=,]{0,60}[|]") {
            prop_assert!(!fuzz_entry(&[&[profile, 1], user_name.as_bytes()].concat()));
        }
    }
}
