use std::net::SocketAddr;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::certificates::Listener;
use crate::certificates::authority::LEAF_LIFE;

pub(crate) const NAME: &str = "broker.test";

/// A client that is never used: these tests drive what does not need the API server.
fn no_cluster() -> Client {
    let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    Client::try_from(config).unwrap()
}

pub(crate) fn keeper(now: Timestamp) -> Keeper {
    let store = Store { secrets: Api::namespaced(no_cluster(), "sluice-system"), namespace: "sluice-system".into() };
    let stored = Stored::after(None, Action::Create, now).unwrap().unwrap();
    Keeper::with(store, vec![NAME.into()], stored, now).unwrap()
}

/// Connects, trusting `bundle`.
pub(crate) async fn connect(address: SocketAddr, bundle: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(NAME).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Connects, trusting `bundle`, and returns the certificate that was shown.
async fn shown(address: SocketAddr, bundle: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = connect(address, bundle).await?;
    stream.read_u8().await?;
    Ok(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec())
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart_and_trusted_by_old_and_new() {
    let now = Timestamp::now();
    let started = now - LEAF_LIFE * 3 / 4;
    let mut keeper = keeper(started);
    let certificates = keeper.certificates();
    let mut watching = certificates.clone();
    let config = certificates.server_config(&[]).unwrap();
    let mut listener = Listener::new(TcpListener::bind("127.0.0.1:0").await.unwrap(), config).unwrap();
    let address = listener.address();
    tokio::spawn(async move {
        loop {
            let _ = listener.next().await.0.write_all(b".").await;
        }
    });
    let old_bundle = certificates.served().bundle.clone();
    let first = shown(address, &old_bundle).await.unwrap();

    // Too early: nothing changes.
    keeper.renew(started + LEAF_LIFE / 2, 0.0).unwrap();
    assert_eq!(shown(address, &old_bundle).await.unwrap(), first);

    // The certificate's own time has come.
    keeper.renew(now, 0.0).unwrap();
    watching.changed().await;
    let second = shown(address, &old_bundle).await.unwrap();
    assert_ne!(second, first);
    let stranger = Stored::after(None, Action::Create, now).unwrap().unwrap();
    shown(address, &stranger.bundle()).await.unwrap_err();

    // A successor is made, which is trusted and does not sign.
    keeper.renew(now, 0.0).unwrap();
    keeper.stored = Stored::after(Some(&keeper.stored), Action::Prepare, now).unwrap().unwrap();
    keeper.renew(now, 0.0).unwrap();
    let bundle = certificates.served().bundle.clone();
    assert!(bundle.starts_with(&old_bundle) && bundle.len() > old_bundle.len());
    assert_eq!(shown(address, &old_bundle).await.unwrap(), second);

    // It takes over: who has the bundle of before that still trusts, who has the first does not.
    keeper.stored = Stored::after(Some(&keeper.stored), Action::Promote, now).unwrap().unwrap();
    keeper.renew(now, 0.0).unwrap();
    assert_ne!(shown(address, &bundle).await.unwrap(), second);
    shown(address, &old_bundle).await.unwrap_err();
    shown(address, &certificates.served().bundle).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_says_nothing_does_not_hold_up_the_others() {
    let keeper = keeper(Timestamp::now());
    let certificates = keeper.certificates();
    let config = certificates.server_config(&[]).unwrap();
    let mut listener = Listener::new(TcpListener::bind("127.0.0.1:0").await.unwrap(), config).unwrap();
    let address = listener.address();
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let mut garbage = TcpStream::connect(address).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let served = certificates.served();
    let client = tokio::spawn(async move { shown(address, &served.bundle).await });
    listener.next().await.0.write_all(b".").await.unwrap();
    client.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_certificate_from_the_time_before_the_clock_was_put_right_is_replaced() {
    let now = Timestamp::now();
    let mut keeper = keeper(now);
    keeper.leaf = keeper.stored.signing.sign(&keeper.names, now + LEAF_LIFE).unwrap();
    keeper.renew(now, 0.0).unwrap();
    assert!(keeper.leaf.validity.not_before < now);
}
