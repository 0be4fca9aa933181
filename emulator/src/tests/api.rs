//! The OpenAPI and STS over real sockets: with Sluice's own client, with plain HTTP, and with rubbish. And what they have
//! to do with AMQP: temporary keys, groups that come and go, subscriptions.

use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp_types::performatives::Performative;
use fe2o3_amqp_types::sasl::SaslCode;
use serde_json::json;
use sluice_cloud::answer::ErrorClass;
use sluice_cloud::client::{CallError, Client as ApiClient, Roots, Timeouts};
use sluice_cloud::credentials::AccessKey;
use sluice_cloud::endpoint::{Endpoint, EndpointPolicy};
use sluice_cloud::iot::{
    CreateConsumerGroup, CreateSubscribeRelation, DeleteConsumerGroup, Flags, Instance, MessageType,
    QueryConsumerGroupStatus, QuerySubscribeRelation, Subscription,
};
use sluice_cloud::sign::ConnectIdentity;
use sluice_cloud::sts::{AssumeRole, AssumeRoleWithOidc, RoleArn, SessionDuration, SessionName};

use super::admin::{get, post};
use super::client::{Client, identity};
use super::{GROUP, draft, patient};
use crate::config::{OpenApi, ProviderEntry, RoleEntry, ServiceAccountEntry, Sts, TrustEntry};
use crate::openapi::oidc_tests::{RSA_PUBLIC_KEY, service_account_token};
use crate::{Config, Emulator, Pattern, Profile, StsKey, TokenExpiry};

const ROLE: &str = "acs:ram::1000000000000001:role/sluice";
const PROVIDER: &str = "acs:ram::1000000000000001:oidc-provider/cluster";
const ISSUER: &str = "https://kubernetes.default.svc";
const SUBJECT: &str = "system:serviceaccount:plant-a:telemetry";

/// One with figures of the moment, a role and an identity provider. No test is about its calls per second.
pub(super) fn config() -> Config {
    let trust = TrustEntry {
        accounts: vec!["1000000000000001".into()],
        service_accounts: vec![ServiceAccountEntry { provider: PROVIDER.into(), subject: Pattern::new(SUBJECT) }],
    };
    let role = RoleEntry {
        arn: ROLE.into(),
        permissions: vec![Pattern::new("iot:*")],
        max_session: Duration::from_hours(1),
        trust,
    };
    let provider = ProviderEntry {
        arn: PROVIDER.into(),
        issuer: ISSUER.into(),
        audiences: vec!["sts.aliyuncs.com".into()],
        keys_file: None,
        keys: Some(RSA_PUBLIC_KEY.into()),
    };
    let open_api = OpenApi { figures_every: Duration::ZERO, calls_per_second: 1_000, ..OpenApi::default() };
    Config { limits: patient(), roles: vec![role], oidc_providers: vec![provider], open_api, ..Config::on_free_ports() }
}

/// Sluice's client, and where to call.
pub(super) fn api(emulator: &Emulator) -> (ApiClient, Endpoint) {
    let address = emulator.api_addr().to_string();
    let policy = Arc::new(EndpointPolicy::with([address.as_str()]).unwrap());
    let client = ApiClient::new(Roots::Only(emulator.ca_pem()), policy, Timeouts::default()).unwrap();
    (client, Endpoint::parse(&address, 443).unwrap())
}

pub(super) fn key() -> AccessKey {
    AccessKey::try_new("testid", "testsecret".into(), None).unwrap()
}

fn instance() -> Instance {
    Instance { region: "cn-shanghai".into(), id: Some("iot-emulator".into()) }
}

pub(super) fn status(group_id: &str) -> QueryConsumerGroupStatus {
    QueryConsumerGroupStatus { instance: instance(), group_id: group_id.into() }
}

pub(super) fn assume() -> AssumeRole {
    AssumeRole {
        role: RoleArn::try_new(ROLE).unwrap(),
        session: SessionName::try_new("operator").unwrap(),
        duration: SessionDuration::default(),
        external_id: None,
    }
}

/// The identity of a client with a temporary key.
fn temporary(key: &AccessKey) -> ConnectIdentity {
    let security_token = key.security_token().cloned();
    ConnectIdentity { access_key_id: key.id().into(), security_token, ..identity("sts") }
}

#[tokio::test]
async fn sluices_own_client_reads_the_figures_of_a_real_connection() {
    let emulator = Emulator::start(config()).await.unwrap();
    let (api, endpoint) = api(&emulator);
    let _amqp = Client::attached(&emulator, "pod-1", 0).await;
    emulator.hub().publish(GROUP, &[draft(b"x")]).unwrap();
    let answered = api.ask(&endpoint, &key(), &status(GROUP)).await.unwrap();
    assert!(answered.date.is_some(), "answers are dated");
    let client = &answered.answer.clients[0];
    assert_eq!(client.id.as_ref().unwrap().as_str(), "pod-1");
    assert!(client.address.as_ref().unwrap().starts_with("127.0.0.1:"));
    let age = answered.date.unwrap().as_second() - client.online_since.unwrap().as_second();
    assert!((0..60).contains(&age), "{age}");
    assert_eq!(answered.answer.backlog, Some(0), "a message that waits for credit is not in the backlog yet");

    let CallError::Api(error) = api.ask(&endpoint, &key(), &status("none")).await.unwrap_err() else {
        panic!("the platform's own error");
    };
    assert_eq!((error.class, error.status), (ErrorClass::NotFound, 200));
    let wrong = AccessKey::try_new("testid", "wrong".into(), None).unwrap();
    let error = api.ask(&endpoint, &wrong, &status(GROUP)).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Credentials);
}

#[tokio::test]
async fn figures_lag_as_long_as_they_are_meant_to() {
    let open_api = OpenApi { figures_every: Duration::from_hours(1), ..config().open_api };
    let emulator = Emulator::start(Config { open_api, ..config() }).await.unwrap();
    let (api, endpoint) = api(&emulator);
    // Before the first figures there are those of the moment.
    let hub = emulator.hub();
    let mut asked = 0;
    while hub.with_world(|world| world.shown.is_empty()) {
        tokio::task::yield_now().await;
        asked += 1;
        assert!(asked < 1_000_000, "figures are made when the emulator starts");
    }
    hub.publish(GROUP, &[draft(b"x")]).unwrap();
    assert_eq!(hub.counts(GROUP).unwrap().backlog, 1);
    assert_eq!(api.ask(&endpoint, &key(), &status(GROUP)).await.unwrap().answer.backlog, Some(0));
}

#[tokio::test]
async fn a_role_opens_amqp_and_the_openapi() {
    let emulator = Emulator::start(config()).await.unwrap();
    let (api, endpoint) = api(&emulator);
    let session = api.ask(&endpoint, &key(), &assume()).await.unwrap().answer;
    assert!(api.ask(&endpoint, &session.key, &status(GROUP)).await.is_ok());
    let mut client = Client::dial(&emulator).await;
    let outcome = client.authenticate(&temporary(&session.key), session.key.secret().expose()).await;
    assert_eq!(outcome, SaslCode::Ok);
    let again = api.ask(&endpoint, &session.key, &assume()).await.unwrap_err();
    assert_eq!(again.class(), ErrorClass::PermissionDenied, "the role may not assume roles");
}

#[tokio::test]
async fn a_service_accounts_token_opens_them_too() {
    let emulator = Emulator::start(config()).await.unwrap();
    let (api, endpoint) = api(&emulator);
    let exchange = |subject: &str| AssumeRoleWithOidc {
        role: RoleArn::try_new(ROLE).unwrap(),
        session: SessionName::try_new("operator").unwrap(),
        duration: SessionDuration::default(),
        provider_arn: PROVIDER.into(),
        token: service_account_token(ISSUER, subject).into(),
    };
    let session = api.ask_unsigned(&endpoint, &exchange(SUBJECT)).await.unwrap().answer;
    assert!(api.ask(&endpoint, &session.key, &status(GROUP)).await.is_ok());
    let stranger = exchange("system:serviceaccount:plant-b:telemetry");
    let error = api.ask_unsigned(&endpoint, &stranger).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::PermissionDenied);
    let (_, counted) = get(&emulator, "/admin/api").await;
    let lines = counted["calls"].as_array().unwrap();
    let line = lines.iter().find(|line| line["action"] == "AssumeRoleWithOIDC").unwrap();
    assert_eq!((&line["succeeded"], &line["refused"]), (&json!(1), &json!(1)));
    assert_eq!((&line["account"], &line["product"]), (&json!("1000000000000001"), &json!("Sts")));
}

/// An emulator whose sessions last for a second and a half, and a session that has a client.
async fn with_short_session(token_expiry: TokenExpiry) -> (Emulator, AccessKey, Client) {
    let profile = Profile { token_expiry, ..Profile::default() };
    let sts = Sts { sessions_last: Some(Duration::from_millis(1_500)), ..Sts::default() };
    let emulator = Emulator::start(Config { sts, profile, ..config() }).await.unwrap();
    let (api, endpoint) = api(&emulator);
    loop {
        let session = api.ask(&endpoint, &key(), &assume()).await.unwrap().answer.key;
        let mut client = Client::dial(&emulator).await;
        // On a machine that is too busy the session may be over by now. Then another one.
        if client.authenticate(&temporary(&session), session.secret().expose()).await == SaslCode::Ok {
            return (emulator, session, client);
        }
    }
}

#[tokio::test]
async fn an_expired_token_opens_nothing_more_and_its_links_live_on() {
    let (emulator, session, mut client) = with_short_session(TokenExpiry::LivesOn).await;
    let (api, endpoint) = api(&emulator);
    client.exchange_amqp_headers().await;
    client.send(0, &super::client::open(60_000)).await;
    assert!(matches!(client.receive().await, Performative::Open(_)));
    client.begin(0).await;
    client.attach(0).await;
    let refused = async {
        loop {
            match api.ask(&endpoint, &session, &status(GROUP)).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => return error,
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(30), refused).await.expect("sessions expire");
    let CallError::Api(error) = refused else { panic!("{refused}") };
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Credentials, "InvalidSecurityToken.Expired"));
    let mut late = Client::dial(&emulator).await;
    assert_eq!(late.authenticate(&temporary(&session), session.secret().expose()).await, SaslCode::Auth);
    emulator.hub().publish(GROUP, &[draft(b"x")]).unwrap();
    client.grant(0, 1).await;
    client.transfer().await;
}

#[tokio::test]
async fn or_it_closes_them_where_that_is_asked_for() {
    let (_emulator, _, mut client) = with_short_session(TokenExpiry::Closes).await;
    client.exchange_amqp_headers().await;
    client.send(0, &super::client::open(60_000)).await;
    assert!(matches!(client.receive().await, Performative::Open(_)));
    assert_eq!(client.closed().await, "amqp:unauthorized-access");
}

#[tokio::test]
async fn a_client_may_have_to_sign_with_the_key_of_whoever_assumed_the_role() {
    for (sts_key, temporary_key, owners_key) in
        [(StsKey::Temporary, SaslCode::Ok, SaslCode::Auth), (StsKey::Owner, SaslCode::Auth, SaslCode::Ok)]
    {
        let profile = Profile { sts_key, ..Profile::default() };
        let emulator = Emulator::start(Config { profile, ..config() }).await.unwrap();
        let (api, endpoint) = api(&emulator);
        let session = api.ask(&endpoint, &key(), &assume()).await.unwrap().answer.key;
        assert!(api.ask(&endpoint, &session, &status(GROUP)).await.is_ok(), "the OpenAPI wants the temporary one");
        let with_temporary = (temporary(&session), session.secret().expose());
        let with_owners = (ConnectIdentity { access_key_id: "testid".into(), ..temporary(&session) }, "testsecret");
        for ((identity, secret), expected) in [(with_temporary, &temporary_key), (with_owners, &owners_key)] {
            let outcome = Client::dial(&emulator).await.authenticate(&identity, secret).await;
            assert_eq!(&outcome, expected, "{sts_key:?}");
        }
    }
}

#[tokio::test]
async fn a_groups_clients_are_closed_when_it_is_deleted() {
    let emulator = Emulator::start(config()).await.unwrap();
    let (api, endpoint) = api(&emulator);
    let create = CreateConsumerGroup { instance: instance(), name: "telemetry".into() };
    let group_id = api.ask(&endpoint, &key(), &create).await.unwrap().answer;
    let mut client = Client::dial(&emulator).await;
    let identity = ConnectIdentity { consumer_group_id: group_id.clone(), ..identity("c") };
    assert_eq!(client.authenticate(&identity, "testsecret").await, SaslCode::Ok, "a new group takes clients");
    client.exchange_amqp_headers().await;
    client.send(0, &super::client::open(60_000)).await;
    assert!(matches!(client.receive().await, Performative::Open(_)));
    api.ask(&endpoint, &key(), &DeleteConsumerGroup { instance: instance(), group_id }).await.unwrap();
    assert_eq!(client.closed().await, "amqp:resource-deleted");
    let mut late = Client::dial(&emulator).await;
    assert_eq!(late.authenticate(&identity, "testsecret").await, SaslCode::Auth);
}

#[tokio::test]
async fn a_subscription_decides_where_a_products_messages_go() {
    let groups = vec![GROUP.to_owned(), "orders".to_owned()];
    let emulator = Emulator::start(Config { groups, ..config() }).await.unwrap();
    let (api, endpoint) = api(&emulator);
    let subscription = Subscription {
        product_key: "pk".into(),
        flags: Flags::of([MessageType::DeviceStatusChange]),
        group_ids: vec![GROUP.into(), "orders".into()],
    };
    let create = CreateSubscribeRelation { instance: instance(), subscription: subscription.clone() };
    api.ask(&endpoint, &key(), &create).await.unwrap();
    let query = QuerySubscribeRelation { instance: instance(), product_key: "pk".into() };
    let found = api.ask(&endpoint, &key(), &query).await.unwrap().answer;
    assert_eq!(found.group_ids, subscription.group_ids);
    assert!(MessageType::ALL.into_iter().all(|it| found.flags.is_on(it) == subscription.flags.is_on(it)));
    let messages = json!({"messages": [
        {"topic": "/as/mqtt/status/pk/dn", "payload": "e30="},
        {"topic": "/pk/dn/user/get", "payload": ""},
        {"topic": "/other/dn/user/get", "payload": ""},
    ]});
    let (_, answer) = post(&emulator, "/admin/publish", &messages).await;
    let ids = answer["messageIds"].as_array().unwrap();
    assert!(ids[0].is_string() && ids[1].is_null() && ids[2].is_string(), "{answer}");
    let published = |group| emulator.hub().counts(group).unwrap().published;
    assert_eq!((published(GROUP), published("orders")), (2, 1));
    let (_, fate) = get(&emulator, &format!("/admin/messages/{}", ids[0].as_str().unwrap())).await;
    assert_eq!(fate.as_array().unwrap().iter().filter(|line| line["event"] == "published").count(), 2, "a copy each");
    let named = json!({"group": "orders", "messages": [{"topic": "/pk/dn/user/get", "payload": ""}]});
    post(&emulator, "/admin/publish", &named).await;
    assert_eq!(published("orders"), 2, "a group that is named gets it, whatever is subscribed");

    let (_, shown) = get(&emulator, "/admin/subscriptions").await;
    let expected = json!([{"instance": "iot-emulator", "productKey": "pk", "type": "AMQP",
        "flags": ["DeviceStatusChangeFlag"], "groups": [GROUP, "orders"]}]);
    assert_eq!(shown["subscriptions"], expected);
}

#[tokio::test]
async fn instances_have_groups_keys_and_clients_of_their_own() {
    let instances = serde_json::from_value(json!([{"id": "iot-two", "account": "2"}])).unwrap();
    let access_keys = serde_json::from_value(json!([
        {"id": "testid", "secret": "testsecret"}, {"id": "two", "secret": "s", "account": "2"},
        {"id": "blind", "secret": "s", "permissions": ["iot:Query*"]},
    ]));
    let config = Config { instances, access_keys: access_keys.unwrap(), ..config() };
    let emulator = Emulator::start(config).await.unwrap();
    let attempt = async |instance: &str, key: &str, secret: &str| {
        let iot_instance_id = Some(instance.to_owned());
        let identity = ConnectIdentity { iot_instance_id, access_key_id: key.into(), ..identity("c") };
        Client::dial(&emulator).await.authenticate(&identity, secret).await
    };
    assert_eq!(attempt("iot-two", "two", "s").await, SaslCode::Ok);
    assert_eq!(attempt("iot-two", "testid", "testsecret").await, SaslCode::Auth, "another account's key");
    assert_eq!(attempt("iot-emulator", "blind", "s").await, SaslCode::Auth, "a key that may not subscribe");
    let (status, counts) = get(&emulator, "/admin/groups/iot-two%2FDEFAULT_GROUP").await;
    assert_eq!((status, &counts["connectAttempts"]), (200, &json!(2)));
}

#[tokio::test]
async fn an_admin_rotates_keys_sets_limits_and_breaks_the_gateway() {
    let emulator = Emulator::start(config()).await.unwrap();
    let (api, endpoint) = api(&emulator);
    let (_, keys) = post(&emulator, "/admin/keys", &json!({"id": "testid", "secret": "second"})).await;
    let shown =
        json!([{"id": "testid", "account": "1000000000000001", "enabled": true, "root": false, "permissions": ["*"]}]);
    assert_eq!(keys["keys"], shown);
    let mut client = Client::dial(&emulator).await;
    assert_eq!(client.authenticate(&identity("c"), "testsecret").await, SaslCode::Auth);
    let mut client = Client::dial(&emulator).await;
    assert_eq!(client.authenticate(&identity("c"), "second").await, SaslCode::Ok);
    post(&emulator, "/admin/keys", &json!({"id": "testid", "enabled": false})).await;
    let mut client = Client::dial(&emulator).await;
    assert_eq!(client.authenticate(&identity("c"), "second").await, SaslCode::Auth);
    post(&emulator, "/admin/keys", &json!({"id": "testid", "enabled": true, "secret": "testsecret"})).await;

    let (_, limits) = post(&emulator, "/admin/groups/DEFAULT_GROUP", &json!({"clientsPerGroup": 1})).await;
    assert_eq!(limits, json!({"clientsPerGroup": 1, "connectAttemptsPerMinute": 100}));
    let _first = Client::begun(&emulator, "a").await;
    let mut second = Client::authenticated(&emulator, "b").await;
    second.send(0, &super::client::open(60_000)).await;
    assert!(matches!(second.receive().await, Performative::Open(_)));
    assert_eq!(second.closed().await, "amqp:resource-limit-exceeded");

    for (action, class) in [("throttle", ErrorClass::Throttled), ("unavailable", ErrorClass::Unavailable)] {
        post(&emulator, "/admin/api", &json!({"action": action, "product": "Iot", "seconds": 3_600})).await;
        let error = api.ask(&endpoint, &key(), &status(GROUP)).await.unwrap_err();
        assert_eq!(error.class(), class, "{action}");
        assert!(api.ask(&endpoint, &key(), &assume()).await.is_ok(), "the other API works");
    }
    post(&emulator, "/admin/api", &json!({"action": "throttle", "seconds": 0})).await;
    assert!(api.ask(&endpoint, &key(), &status(GROUP)).await.is_ok());
}

#[tokio::test]
async fn a_token_expires_when_an_admin_says_so() {
    let profile = Profile { token_expiry: TokenExpiry::LivesOn, ..Profile::default() };
    let emulator = Emulator::start(Config { profile, ..config() }).await.unwrap();
    let (api, endpoint) = api(&emulator);
    let session = api.ask(&endpoint, &key(), &assume()).await.unwrap().answer.key;
    let mut client = Client::dial(&emulator).await;
    assert_eq!(client.authenticate(&temporary(&session), session.secret().expose()).await, SaslCode::Ok);
    client.exchange_amqp_headers().await;
    client.send(0, &super::client::open(60_000)).await;
    assert!(matches!(client.receive().await, Performative::Open(_)));
    // By way of the connection that was made with it.
    let (_, answer) = post(&emulator, "/admin/faults", &json!({"action": "expireToken", "client": "sts"})).await;
    assert_eq!(answer["affected"], 1);
    let error = api.ask(&endpoint, &session, &status(GROUP)).await.unwrap_err();
    let CallError::Api(error) = error else { panic!("{error}") };
    assert_eq!(error.code, "InvalidSecurityToken.Expired");
    let mut late = Client::dial(&emulator).await;
    assert_eq!(late.authenticate(&temporary(&session), session.secret().expose()).await, SaslCode::Auth);
}
