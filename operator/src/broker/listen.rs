//! Where sidecars connect: gRPC over TLS, with the certificate that is current when they do.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use futures_util::stream;
use sluice_proto::control::v1::control_server::ControlServer;
use tonic::transport::Server;

use super::Broker;
use crate::certificates::Listener;

/// How often a silent connection is asked whether it still lives, and how long it has to answer.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// The largest message that is taken: a sidecar's are small.
const LARGEST: usize = 64 * 1024;

/// Serves sidecars until `stop` resolves.
pub async fn serve(
    broker: Broker,
    listener: Listener,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error> {
    let incoming = stream::unfold(listener, |mut listener| async {
        let (connection, _) = listener.next().await;
        Some((Ok::<_, Infallible>(connection), listener))
    });
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(8)
        .add_service(ControlServer::new(broker).max_decoding_message_size(LARGEST))
        .serve_with_incoming_shutdown(incoming, stop)
        .await
}
