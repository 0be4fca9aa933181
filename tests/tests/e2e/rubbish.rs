//! Rubbish from outside, by the thousand: each piece is answered as it deserves or cut off, and a client that consumes
//! meanwhile does not notice.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fe2o3_amqp_types::definitions::{Handle, ReceiverSettleMode, Role, SenderSettleMode};
use fe2o3_amqp_types::messaging::{Accepted, DeliveryState, Source, Target, TargetArchetype};
use fe2o3_amqp_types::performatives::{Attach, Begin, ChannelMax, Disposition, Flow, Open};
use sluice_cloud::secret::SecretString;
use sluice_cloud::sign::{ClientId, ConnectIdentity, SaslCredentials, SignMethod};
use sluice_tests::admin::NewMessage;
use sluice_tests::emulator::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator, GROUP, INSTANCE};
use sluice_tests::raw_client::{self, Dialer, frame_of, framed};
use sluice_tests::receiver::{Library, Receiver, ReceiverOptions};

const BOUND: Duration = Duration::from_mins(1);

/// What a message may take that is published amid all this, in a debug build on a busy machine. A single thread serves
/// everybody: were it held up by one of them, it would be for seconds.
const UNDISTURBED: Duration = Duration::from_secs(5);

/// A platform that is quickly tired of who does not authenticate, and otherwise lets as many try as want to.
const TERMS: &str = "groups: [DEFAULT_GROUP, vandals]\n\
                     limits: {authDeadline: 3s, connectAttemptsPerMinute: 100000}";

/// The header of a TLS record with rubbish behind it, and things that are no TLS at all.
const NO_TLS: [&[u8]; 4] = [
    b"\x16\x03\x01\xff\xff\x01\x02\x03",
    b"GET / HTTP/1.1\r\n\r\n",
    b"AMQP\x03\x01\x00\x00",
    b"\x00\x00\x00\x00\x00\x00\x00\x00",
];

/// What is no beginning of SASL.
const NO_SASL: [&[u8]; 4] = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"AMQP\x00\x00\x09\x01",
    b"AMQP\x00\x01\x00\x00",
    b"AMQP\x03\x01\x00\x00\x7f\xff\xff\xff\x02\x01\x00\x00",
];

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn credentials(secret: &str) -> SaslCredentials {
    let identity = ConnectIdentity {
        client_id: ClientId::try_new("vandal").unwrap(),
        iot_instance_id: Some(INSTANCE.to_owned()),
        consumer_group_id: "vandals".to_owned(),
        sign_method: SignMethod::HmacSha256,
        timestamp_ms: now_ms(),
        access_key_id: ACCESS_KEY_ID.to_owned(),
        security_token: None,
    };
    identity.sign(&SecretString::new(secret)).unwrap()
}

fn open() -> Vec<u8> {
    let open = Open {
        container_id: "vandal".into(),
        hostname: None,
        max_frame_size: 4096.into(),
        channel_max: ChannelMax(0),
        idle_time_out: Some(60_000),
        outgoing_locales: None,
        incoming_locales: None,
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    };
    frame_of(&open).unwrap()
}

fn begin() -> Vec<u8> {
    let begin = Begin {
        remote_channel: None,
        next_outgoing_id: 0,
        incoming_window: 1_000,
        outgoing_window: 1_000,
        handle_max: Handle(0),
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    };
    frame_of(&begin).unwrap()
}

fn attach() -> Vec<u8> {
    let attach = Attach {
        name: "vandal".into(),
        handle: Handle(0),
        role: Role::Receiver,
        snd_settle_mode: SenderSettleMode::Unsettled,
        rcv_settle_mode: ReceiverSettleMode::First,
        source: Some(Box::new(Source::default())),
        target: Some(Box::new(TargetArchetype::Target(Target::default()))),
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: None,
        max_message_size: None,
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    };
    frame_of(&attach).unwrap()
}

fn flow(handle: Option<u32>) -> Vec<u8> {
    let flow = Flow {
        next_incoming_id: Some(0),
        incoming_window: 1_000,
        next_outgoing_id: 0,
        outgoing_window: 1_000,
        handle: handle.map(Handle),
        delivery_count: handle.map(|_| 0),
        link_credit: handle.map(|_| u32::MAX),
        available: None,
        drain: false,
        echo: false,
        properties: None,
    };
    frame_of(&flow).unwrap()
}

fn disposition(first: u32, last: u32) -> Vec<u8> {
    let state = Some(DeliveryState::Accepted(Accepted {}));
    let range = Disposition { role: Role::Receiver, first, last: Some(last), settled: true, state, batchable: false };
    frame_of(&range).unwrap()
}

/// What a client says that has been let in, and the condition that it is closed with.
fn scripts() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let attached = [open(), begin(), attach()].concat();
    let after = |bytes: &[u8]| [&attached, bytes].concat();
    let (framing, decode) = ("amqp:connection:framing-error", "amqp:decode-error");
    vec![
        ("a frame of a gigabyte", after(&[0x40, 0, 0, 0, 2, 0, 0, 0]), framing),
        ("a frame of six bytes", after(&[0, 0, 0, 6, 2, 0, 0, 0]), framing),
        ("an unknown performative", after(&framed(&[0x00, 0x53, 0x7f, 0x45])), decode),
        ("a list that claims more than there is", after(&framed(&[0x00, 0x53, 0x13, 0xc0, 0xff, 9])), decode),
        ("a map of odd length", after(&framed(&[0x00, 0x53, 0x13, 0xc0, 5, 1, 0xc1, 2, 1, 0x40])), decode),
        ("lists in lists without end", after(&framed(&[&[0x00, 0x53, 0x10][..], &[0x00; 4_000]].concat())), decode),
        ("a flow before the open", flow(None), "amqp:illegal-state"),
        ("an attach without a session", [open(), attach()].concat(), framing),
        ("a second open", after(&open()), "amqp:illegal-state"),
        ("a flow of a link that is none", after(&flow(Some(7))), "amqp:session:unattached-handle"),
        ("a disposition of everything", after(&disposition(0, u32::MAX)), "amqp:invalid-field"),
    ]
}

/// Connections that say nothing, or a byte now and then: all are cut off when their time is up.
fn slow(dialer: &Dialer, rounds: usize, connections: usize) {
    for _ in 0..rounds {
        let mut held: Vec<TcpStream> = (0..connections).map(|_| dialer.tcp().unwrap()).collect();
        for byte in [b"\x16", b"\x03", b"\x01"] {
            for tcp in held.iter_mut().step_by(2) {
                // It may have been cut off by now.
                let _ = tcp.write_all(byte);
            }
            thread::sleep(Duration::from_millis(200));
        }
        for tcp in &held {
            raw_client::ended(tcp).unwrap();
        }
    }
}

/// What is no TLS is cut off.
fn without_tls(dialer: &Dialer, connections: usize) {
    for bytes in NO_TLS.iter().cycle().take(connections) {
        let mut tcp = dialer.tcp().unwrap();
        tcp.write_all(bytes).unwrap();
        // It may wait for more of what could be a TLS record; there is none.
        let _ = tcp.shutdown(Shutdown::Write);
        raw_client::ended(&tcp).unwrap();
    }
}

/// What is no SASL is shown the header of it, and left.
fn without_sasl(dialer: &Dialer, connections: usize) {
    for bytes in NO_SASL.iter().cycle().take(connections) {
        let mut client = dialer.tls().unwrap();
        client.send(bytes).unwrap();
        let heard = client.hear_out().unwrap();
        assert!(heard.starts_with(b"AMQP\x03\x01\x00\x00"), "{:?}", heard.escape_ascii());
    }
}

/// Clients that are let in and then misbehave are told why they are closed; wrong passwords are not let in.
fn let_in(dialer: &Dialer, rounds: usize) {
    for _ in 0..rounds {
        for (what, bytes, condition) in scripts() {
            let mut client = dialer.authenticated(&credentials(ACCESS_KEY_SECRET)).unwrap();
            client.send(&bytes).unwrap();
            let heard = client.hear_until(condition.as_bytes());
            assert!(heard.is_ok(), "{what}: {heard:?}");
        }
        dialer.authenticated(&credentials("wrong")).unwrap_err();
    }
}

/// Calls that mean nothing, or that nobody may make: all are refused with a 4xx.
fn calls(api: &str, calls: usize) {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(BOUND)).build();
    let agent = ureq::Agent::from(config);
    let signed = "AccessKeyId=testid&SignatureMethod=HMAC-SHA1&SignatureVersion=1.0&Timestamp=2026-11-20T00%3A00%3A00Z";
    for n in 0..calls {
        let query = match n % 6 {
            0 => String::new(),
            1 => "Action=&Version=&Format=JSON".to_owned(),
            2 => format!("Action=Nothing{n}&Version=2018-01-20"),
            3 => "Action=CreateConsumerGroup&Version=2018-01-20&GroupName=g&Format=JSON".to_owned(),
            4 => format!("Action=CreateConsumerGroup&Version=2018-01-20&{signed}&SignatureNonce={n}&Signature=AAAA"),
            _ => format!("%zz=%ff&{}", "a=b&".repeat(n % 500)),
        };
        let url = format!("http://{api}/?{query}");
        let answer = if n % 2 == 0 { agent.get(&url).call() } else { agent.post(&url).send("a=%&&&=\0") };
        let status = answer.unwrap().status();
        assert!(status.is_client_error(), "{status} for {query}");
    }
}

#[test]
fn a_client_consumes_undisturbed_while_thousands_send_rubbish() {
    let mut emulator = Emulator::start_with(TERMS).unwrap();
    let dialer = Dialer::new(emulator.port().unwrap(), emulator.authority()).unwrap();
    let api = emulator.api().to_owned();
    let admin = emulator.admin().clone();
    let options = ReceiverOptions {
        library: Library::Proton,
        port: emulator.port().unwrap(),
        authority: emulator.authority(),
        group: GROUP,
        instance: INSTANCE,
        client_id: "undisturbed",
        access_key_id: ACCESS_KEY_ID,
        access_key_secret: ACCESS_KEY_SECRET,
        count: usize::MAX,
        reconnect_after: None,
        acknowledge_every: None,
    };
    let _client = Receiver::start(&options).unwrap();
    admin.wait_for(GROUP, BOUND, |counts| counts.clients == 1).unwrap();

    let longest = thread::scope(|scope| {
        let senders: [ScopedJoinHandle<'_, ()>; 5] = [
            scope.spawn(|| slow(&dialer, 2, 250)),
            scope.spawn(|| without_tls(&dialer, 1_000)),
            scope.spawn(|| without_sasl(&dialer, 200)),
            scope.spawn(|| let_in(&dialer, 5)),
            scope.spawn(|| calls(&api, 1_000)),
        ];
        let mut longest = Duration::ZERO;
        while !senders.iter().all(ScopedJoinHandle::is_finished) {
            let message = NewMessage::new("/a1TestProdct/meter/user/readings", b"undisturbed");
            let published = Instant::now();
            admin.publish(GROUP, &[message]).unwrap();
            admin.wait_for(GROUP, BOUND, |counts| counts.accepted == counts.published).unwrap();
            longest = longest.max(published.elapsed());
        }
        for sender in senders {
            sender.join().unwrap();
        }
        longest
    });

    assert!(longest < UNDISTURBED, "a message took {longest:?}");
    let counts = admin.group(GROUP).unwrap();
    assert_eq!((counts.pushed, counts.expired, counts.connect_attempts), (counts.published, 0, 1), "{counts:?}");
    // Of those who came in nobody is left, nor what they had.
    admin.wait_for("vandals", BOUND, |counts| counts.clients == 0 && counts.unsettled == 0).unwrap();
    emulator.check_alive().unwrap();
}
