//! What an attempt whose permit lapses does on the way to the platform, and what it leaves unsaid.

use rcgen::CertifiedKey;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncWriteExt as _, duplex};
use tokio::net::TcpListener;
use tokio::time::advance;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls::{self, Roots};

/// How long anything may take here.
const BOUND: Duration = Duration::from_secs(60);

const SASL_HEADER: &[u8; 8] = b"AMQP\x03\x01\x00\x00";

/// SASL mechanisms as a frame: an array of one, PLAIN.
const MECHANISMS: &[u8] = b"\x00\x00\x00\x18\x02\x01\x00\x00\x00\x53\x40\xc0\x0b\x01\xe0\x08\x01\xa3\x05PLAIN";

fn params(step_timeout: Duration) -> Params {
    Params {
        container_id: "sidecar-0".to_owned(),
        host: "localhost".to_owned(),
        link_name: "link-0".to_owned(),
        source_address: "default".to_owned(),
        idle_timeout: Duration::from_secs(60),
        max_frame_size: 64 * 1024,
        max_message_size: 256 * 1024,
        step_timeout,
        settle_singly: false,
    }
}

fn credentials() -> SaslCredentials {
    SaslCredentials { user_name: "user".into(), password: "open sesame".into() }
}

/// A platform's address, the way to it, and what it needs for TLS.
async fn platform(step_timeout: Duration) -> (TcpListener, AmqpConnector, TlsAcceptor) {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connector = AmqpConnector {
        host: "localhost".to_owned(),
        port: listener.local_addr().unwrap().port(),
        tls: tls::client_config(Roots::Pem(&cert.pem())).unwrap(),
        params: params(step_timeout),
    };
    (listener, connector, TlsAcceptor::from(Arc::new(server)))
}

/// Attempts to get through to this platform, and says why that failed.
async fn failure(listener: &TcpListener, connector: &AmqpConnector, until: Option<Instant>) -> ConnectError {
    let address = vec![listener.local_addr().unwrap()];
    let attempt = connector.connect_to(address, LinkEpoch(1), credentials(), until);
    timeout(BOUND, attempt).await.expect("an attempt ends").expect_err("nobody answers")
}

#[tokio::test]
async fn an_attempt_whose_permit_lapses_before_tls_stands_is_given_up() {
    let (listener, connector, _) = platform(BOUND).await;
    // The system takes the TCP connection; nobody speaks TLS on it.
    let error = failure(&listener, &connector, Some(clock::now() + Duration::from_millis(300))).await;
    let ConnectError::Lapsed { address, step } = &error else { panic!("{error:?}") };
    assert_eq!((address, *step), (&connector.address(), "the TLS handshake"));
    assert_eq!(error.renew(), Renew::Connection);
    assert!(error.to_string().contains("permit lapsed"), "{error}");
    let (mut raw, _) = listener.accept().await.unwrap();
    let mut heard = Vec::new();
    timeout(BOUND, raw.read_to_end(&mut heard)).await.expect("the connection is closed").unwrap();
}

#[tokio::test]
async fn no_user_name_follows_once_the_permit_has_lapsed() {
    let (listener, connector, acceptor) = platform(BOUND).await;
    // As long as this machine needs for TCP and TLS.
    for seconds in [1, 4, 16] {
        let until = clock::now() + Duration::from_secs(seconds);
        let platform = async {
            let (raw, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(raw).await?;
            let mut header = [0; 8];
            stream.read_exact(&mut header).await?;
            assert_eq!(&header, SASL_HEADER);
            sleep_until((until + Duration::from_millis(50)).into()).await;
            // It may find nobody to write to.
            let _: io::Result<()> = stream.write_all(&[SASL_HEADER, MECHANISMS].concat()).await;
            let mut heard = Vec::new();
            let _: io::Result<usize> = stream.read_to_end(&mut heard).await;
            Ok::<_, io::Error>(heard)
        };
        let (error, heard) = tokio::join!(failure(&listener, &connector, Some(until)), async {
            timeout(BOUND, platform).await.unwrap()
        });
        let ConnectError::Lapsed { step, .. } = &error else { panic!("{error:?}") };
        if *step == "the exchange of SASL mechanisms" {
            let heard = heard.unwrap();
            assert!(heard.is_empty(), "nothing comes after the header: {heard:?}");
            return;
        }
    }
    panic!("TCP and TLS take more than 16 s");
}

#[tokio::test]
async fn without_an_end_to_the_permit_only_the_steps_are_bounded() {
    let (listener, connector, _) = platform(Duration::from_millis(200)).await;
    for until in [None, Some(clock::now() + BOUND)] {
        let error = failure(&listener, &connector, until).await;
        assert!(matches!(error, ConnectError::Timeout { step: "the TLS handshake", .. }), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_says_nothing_after_the_lapse_whatever_it_finds() {
    for (stood_still, says) in [(Duration::from_millis(4_990), true), (Duration::from_secs(5), false)] {
        let (near, mut far) = duplex(64 * 1024);
        let until = clock::now() + Duration::from_secs(5);
        let engine = Engine::new(params(Duration::from_secs(15)), credentials(), clock::now());
        let mut source = AmqpSource::new(near, engine, LinkEpoch(1));
        source.until = Some(until);
        far.write_all(&[SASL_HEADER, MECHANISMS].concat()).await.unwrap();
        advance(stood_still).await;
        let introduced = timeout_at(until.into(), source.introduced()).await;
        assert_eq!(introduced.is_ok(), says);
        if says {
            // From here on the platform has it, and may take its time.
            assert_eq!((introduced.unwrap(), source.until), (Ok(()), None));
        }
        drop(source);
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard.windows(11).any(|part| part == b"open sesame"), says);
        assert_eq!(heard.is_empty(), !says, "{heard:?}");
    }
}
