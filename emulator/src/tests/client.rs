//! A client that does exactly what a test tells it, right or wrong: raw frames over TLS.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fe2o3_amqp_types::definitions::{Handle, ReceiverSettleMode, Role, SenderSettleMode};
use fe2o3_amqp_types::messaging::{Accepted, DeliveryState, Source, Target};
use fe2o3_amqp_types::performatives::{Attach, Begin, Close, Detach, Disposition, Flow, Open, Performative, Transfer};
use fe2o3_amqp_types::sasl::{SaslCode, SaslInit, SaslMechanisms, SaslOutcome};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde::Serialize;
use serde_amqp::from_slice;
use serde_amqp::primitives::{Binary, Symbol};
use sluice_cloud::secret::SecretString;
use sluice_cloud::sign::{ClientId, ConnectIdentity, SignMethod};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Emulator;
use crate::amqp::encode;
use crate::amqp::frame::{self, Kind};
use crate::amqp::sasl::{AMQP_HEADER, SASL_HEADER};

const PATIENCE: Duration = Duration::from_secs(30);

/// The identity of the default key and group.
pub(super) fn identity(client_id: &str) -> ConnectIdentity {
    ConnectIdentity {
        client_id: ClientId::try_new(client_id).unwrap(),
        iot_instance_id: Some("iot-emulator".into()),
        consumer_group_id: super::GROUP.into(),
        sign_method: SignMethod::HmacSha256,
        timestamp_ms: 1_573_489_088_171,
        access_key_id: "testid".into(),
        security_token: None,
    }
}

pub(super) struct Client {
    stream: TlsStream<TcpStream>,
    input: BytesMut,
}

/// A TLS connection that trusts the emulator's CA.
pub(super) async fn dial(emulator: &Emulator) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(emulator.ca_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(emulator.amqp_addr()).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap()
}

impl Client {
    /// Connected, and nothing said yet.
    pub(super) async fn dial(emulator: &Emulator) -> Self {
        Self { stream: dial(emulator).await, input: BytesMut::new() }
    }

    /// Authenticated and opened, with a session on channel 0.
    pub(super) async fn begun(emulator: &Emulator, client_id: &str) -> Self {
        let mut client = Self::authenticated(emulator, client_id).await;
        client.send(0, &open(60_000)).await;
        assert!(matches!(client.receive().await, Performative::Open(_)));
        client.begin(0).await;
        client
    }

    /// The same with a receiver link that has given `credit`, which the emulator has heard of.
    pub(super) async fn attached(emulator: &Emulator, client_id: &str, credit: u32) -> Self {
        let mut client = Self::begun(emulator, client_id).await;
        client.attach(0).await;
        let grant = Flow { echo: true, ..flow(0, credit) };
        client.send(0, &grant).await;
        assert!(matches!(client.receive().await, Performative::Flow(_)));
        client
    }

    pub(super) async fn authenticated(emulator: &Emulator, client_id: &str) -> Self {
        let mut client = Self::dial(emulator).await;
        assert_eq!(client.authenticate(&identity(client_id), "testsecret").await, SaslCode::Ok);
        client.exchange_amqp_headers().await;
        client
    }

    /// Goes through SASL, up to its outcome.
    pub(super) async fn authenticate(&mut self, identity: &ConnectIdentity, secret: &str) -> SaslCode {
        let credentials = identity.sign(&SecretString::from(secret)).unwrap();
        self.plain(credentials.user_name.expose(), credentials.password.expose()).await
    }

    pub(super) async fn offered_mechanisms(&mut self) -> Vec<Symbol> {
        self.write(&SASL_HEADER).await;
        assert_eq!(self.header().await, SASL_HEADER);
        from_slice::<SaslMechanisms>(&self.frame(Kind::Sasl).await.body).unwrap().sasl_server_mechanisms.0
    }

    pub(super) async fn plain(&mut self, user_name: &str, password: &str) -> SaslCode {
        assert_eq!(self.offered_mechanisms().await, [Symbol::from("PLAIN")]);
        let response = Binary::from(format!("\0{user_name}\0{password}").into_bytes());
        let mechanism = Symbol::from("PLAIN");
        self.send_sasl(&SaslInit { mechanism, initial_response: Some(response), hostname: None }).await;
        self.outcome().await
    }

    pub(super) async fn send_sasl(&mut self, body: &impl Serialize) {
        let mut out = BytesMut::new();
        encode::put(&mut out, Kind::Sasl, 0, body).unwrap();
        self.write(&out).await;
    }

    pub(super) async fn outcome(&mut self) -> SaslCode {
        from_slice::<SaslOutcome>(&self.frame(Kind::Sasl).await.body).unwrap().code
    }

    pub(super) async fn exchange_amqp_headers(&mut self) {
        self.write(&AMQP_HEADER).await;
        assert_eq!(self.header().await, AMQP_HEADER);
    }

    pub(super) async fn begin(&mut self, channel: u16) {
        self.begin_with_window(channel, 1_000_000).await;
    }

    pub(super) async fn begin_with_window(&mut self, channel: u16, incoming_window: u32) {
        self.send(channel, &begin(incoming_window)).await;
        let Performative::Begin(reply) = self.receive().await else { panic!("a begin") };
        assert_eq!(reply.remote_channel, Some(channel));
    }

    pub(super) async fn attach(&mut self, handle: u32) {
        self.send(0, &attach(handle, Role::Receiver)).await;
        let Performative::Attach(reply) = self.receive().await else { panic!("an attach") };
        assert_eq!((reply.handle.0, &reply.role), (handle, &Role::Sender));
        assert_eq!((reply.snd_settle_mode, reply.initial_delivery_count), (SenderSettleMode::Unsettled, Some(0)));
        assert!(reply.source.is_some());
    }

    pub(super) async fn grant(&mut self, delivery_count: u32, link_credit: u32) {
        self.send(0, &flow(delivery_count, link_credit)).await;
    }

    pub(super) async fn accept(&mut self, first: u32, last: u32) {
        self.send(0, &disposition(first, last, Some(DeliveryState::Accepted(Accepted {})))).await;
    }

    pub(super) async fn send(&mut self, channel: u16, body: &impl Serialize) {
        let mut out = BytesMut::new();
        encode::put(&mut out, Kind::Amqp, channel, body).unwrap();
        self.write(&out).await;
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn fill(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await;
        read.expect("the emulator says nothing").is_ok_and(|read| read > 0)
    }

    pub(super) async fn header(&mut self) -> [u8; 8] {
        while self.input.len() < 8 {
            assert!(self.fill().await, "the connection ended");
        }
        *self.input.split_to(8).first_chunk().unwrap()
    }

    async fn frame(&mut self, kind: Kind) -> frame::Frame {
        loop {
            if let Some(frame) = frame::next(&mut self.input, kind, 1 << 20).unwrap() {
                return frame;
            }
            assert!(self.fill().await, "the connection ended");
        }
    }

    /// The next frame, empty ones passed over.
    pub(super) async fn receive(&mut self) -> Performative {
        self.receive_with_payload().await.0
    }

    pub(super) async fn receive_with_payload(&mut self) -> (Performative, Bytes) {
        loop {
            let frame = self.frame(Kind::Amqp).await;
            if !frame.body.is_empty() {
                let performative: Performative = from_slice(&frame.body).unwrap();
                // Only transfers have a payload; theirs is a list8, whose size comes before it.
                let payload = match performative {
                    Performative::Transfer(_) => frame.body.slice(5 + usize::from(frame.body[4])..),
                    _ => Bytes::new(),
                };
                return (performative, payload);
            }
        }
    }

    /// The next delivery of one frame.
    pub(super) async fn transfer(&mut self) -> (Transfer, Bytes) {
        match self.receive_with_payload().await {
            (Performative::Transfer(transfer), payload) => (transfer, payload),
            (other, _) => panic!("a transfer, not {other:?}"),
        }
    }

    /// The condition of the close that comes next; answers it, and sees the connection end.
    pub(super) async fn closed(&mut self) -> String {
        let Performative::Close(close) = self.receive().await else { panic!("a close") };
        let mut answer = BytesMut::new();
        encode::put(&mut answer, Kind::Amqp, 0, &Close { error: None }).unwrap();
        // The emulator waits for it only so long.
        let _ = self.stream.write_all(&answer).await;
        self.ended().await;
        let error = close.error.expect("a close with an error");
        assert!(error.description.is_some());
        symbol(&error.condition)
    }

    /// The condition of the detach that comes next.
    pub(super) async fn detached(&mut self) -> String {
        let Performative::Detach(Detach { closed: true, error: Some(error), .. }) = self.receive().await else {
            panic!("a closing detach with an error")
        };
        symbol(&error.condition)
    }

    /// Sees the connection end, without another frame.
    pub(super) async fn ended(&mut self) {
        while self.fill().await {}
        assert!(self.input.is_empty(), "{:?}", self.input);
    }

    /// Checks that the emulator has nothing to say.
    pub(super) async fn hears_nothing(&mut self) {
        self.hears_nothing_within(1_000_000).await;
    }

    /// The same, while the session's window ends after its transfer number `window`. The first echo is answered before
    /// what else may be due is written; the second after that.
    pub(super) async fn hears_nothing_within(&mut self, window: u32) {
        for _ in 0..2 {
            let echo = Flow {
                incoming_window: window,
                handle: None,
                delivery_count: None,
                link_credit: None,
                echo: true,
                ..flow(0, 0)
            };
            self.send(0, &echo).await;
            let heard = self.receive().await;
            assert!(matches!(heard, Performative::Flow(Flow { handle: None, .. })), "{heard:?}");
        }
    }
}

pub(super) fn symbol(condition: &impl Serialize) -> String {
    from_slice::<Symbol>(&serde_amqp::to_vec(condition).unwrap()).unwrap().to_string()
}

pub(crate) fn open(idle_time_out: u32) -> Open {
    Open {
        container_id: "client".into(),
        hostname: Some("contoso.com".into()),
        max_frame_size: u32::MAX.into(),
        channel_max: u16::MAX.into(),
        idle_time_out: Some(idle_time_out),
        outgoing_locales: None,
        incoming_locales: None,
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    }
}

pub(crate) fn begin(incoming_window: u32) -> Begin {
    Begin {
        remote_channel: None,
        next_outgoing_id: 0,
        incoming_window,
        outgoing_window: 0,
        handle_max: Handle(7),
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    }
}

pub(crate) fn attach(handle: u32, role: Role) -> Attach {
    Attach {
        name: format!("link-{handle}"),
        handle: Handle(handle),
        role,
        snd_settle_mode: SenderSettleMode::Mixed,
        rcv_settle_mode: ReceiverSettleMode::First,
        source: Some(Box::new(Source::builder().address("default").build())),
        target: Some(Box::new(Target::default().into())),
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: None,
        max_message_size: None,
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    }
}

pub(crate) fn flow(delivery_count: u32, link_credit: u32) -> Flow {
    Flow {
        next_incoming_id: Some(delivery_count),
        incoming_window: 1_000_000,
        next_outgoing_id: 0,
        outgoing_window: 0,
        handle: Some(Handle(0)),
        delivery_count: Some(delivery_count),
        link_credit: Some(link_credit),
        available: None,
        drain: false,
        echo: false,
        properties: None,
    }
}

pub(crate) fn disposition(first: u32, last: u32, state: Option<DeliveryState>) -> Disposition {
    Disposition { role: Role::Receiver, first, last: Some(last), settled: true, state, batchable: false }
}
