//! Connections: HTTPS, within a time that covers all of it. (The library's own bound covers TCP alone, and a peer that is
//! silent in the middle of TLS would be waited for until the call's own end.)

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;
use tokio::time::timeout;
use tower_service::Service;

/// The HTTP client below everything.
pub(super) type Http = hyper_util::client::legacy::Client<Timed<HttpsConnector<HttpConnector>>, Full<Bytes>>;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What makes the connections. Plain HTTP is not spoken.
pub(super) fn connector(tls: ClientConfig, within: Duration) -> Timed<HttpsConnector<HttpConnector>> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(tcp);
    Timed { inner: https, within }
}

/// A connector whose connections are there in time, or fail.
#[derive(Clone)]
pub(super) struct Timed<C> {
    inner: C,
    within: Duration,
}

/// No connection came about in time.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:?}")]
struct NoConnection(Duration);

impl<C> Service<Uri> for Timed<C>
where
    C: Service<Uri, Error = BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, within) = (self.inner.call(uri), self.within);
        Box::pin(async move { timeout(within, connecting).await.unwrap_or_else(|_| Err(NoConnection(within).into())) })
    }
}
