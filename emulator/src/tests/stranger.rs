//! A client that others wrote: fe2o3-amqp's own connection, session and receiver.

use fe2o3_amqp::Connection;
use fe2o3_amqp::Receiver;
use fe2o3_amqp::Session;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::types::messaging::Body;
use fe2o3_amqp::types::primitives::{SimpleValue, Value};
use sluice_cloud::secret::SecretString;

use super::client::{dial, identity};
use super::{GROUP, draft, emulator, eventually, patient};

#[tokio::test]
async fn fe2o3s_receiver_receives_accepts_and_takes_its_leave() {
    let emulator = emulator(patient()).await;
    let credentials = identity("fe2o3").sign(&SecretString::from("testsecret")).unwrap();
    let (username, password) = (credentials.user_name.expose().to_owned(), credentials.password.expose().to_owned());
    let mut connection = Connection::builder()
        .container_id("fe2o3")
        .scheme("amqp")
        .sasl_profile(SaslProfile::Plain { username, password })
        // It halves what it sends.
        .idle_time_out(120_000_u32)
        .open_with_stream(dial(&emulator).await)
        .await
        .unwrap();
    let mut session = Session::begin(&mut connection).await.unwrap();
    let mut receiver = Receiver::attach(&mut session, "link", "default").await.unwrap();
    let ids = emulator.hub().publish(GROUP, &vec![draft(b"payload"); 500]).unwrap();
    for id in &ids {
        let delivery = receiver.recv::<Body<Value>>().await.unwrap();
        receiver.accept(&delivery).await.unwrap();
        let message = delivery.into_message();
        let properties = message.application_properties.unwrap();
        let Some(SimpleValue::String(found)) = properties.get("messageId") else { panic!("a messageId") };
        assert!(ids.contains(found), "{id}");
        let Body::Data(sections) = message.body else { panic!("a Data body") };
        assert_eq!(sections.iter().next().unwrap().0.as_slice(), b"payload");
    }
    let hub = emulator.hub();
    eventually("all are accepted", || hub.counts(GROUP).unwrap().accepted == 500).await;
    receiver.close().await.unwrap();
    session.end().await.unwrap();
    connection.close().await.unwrap();
    eventually("its slot is free", || hub.counts(GROUP).unwrap().clients == 0).await;
}
