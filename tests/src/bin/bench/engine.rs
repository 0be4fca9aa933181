//! The AMQP source alone, settling whatever comes: what is left when ledger, streams and applications are taken away.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use sluice_cloud::sign::SaslCredentials;
use sluice_sidecar::amqp::engine::Incoming;
use sluice_sidecar::amqp::hot::Outcome;
use sluice_sidecar::amqp::params::Params;
use sluice_sidecar::ledger::LinkEpoch;
use sluice_sidecar::link::AmqpConnector;
use sluice_sidecar::source::{Connect as _, Source};
use sluice_sidecar::tls::{self, Roots};

/// Deliveries that may be on their way, as in the other cases.
const WINDOW: u32 = 2000;

/// Every link is the first of its connection.
const EPOCH: LinkEpoch = LinkEpoch(1);

/// Receives and accepts until the peer is gone.
pub(crate) fn run(port: u16, authority: &Path) -> Result<()> {
    let credentials = SaslCredentials { user_name: "bench".into(), password: "bench".into() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let source = connect(&connector(port, authority)?, credentials).await?;
        settle_all(source, WINDOW, |_| {}).await
    })
}

/// What connects to a port of this machine.
pub(crate) fn connector(port: u16, authority: &Path) -> Result<AmqpConnector> {
    Ok(AmqpConnector {
        host: "127.0.0.1".into(),
        port,
        tls: tls::client_config(Roots::File(authority))?,
        params: Params {
            container_id: "bench".into(),
            host: "127.0.0.1".into(),
            link_name: "bench".into(),
            source_address: "default".into(),
            idle_timeout: Duration::from_secs(60),
            max_frame_size: 64 * 1024,
            max_message_size: 1 << 20,
            step_timeout: Duration::from_secs(15),
            settle_singly: false,
        },
    })
}

/// A link, without credit yet.
pub(crate) async fn connect(connector: &AmqpConnector, credentials: SaslCredentials) -> Result<impl Source + use<>> {
    Ok(connector.connect(EPOCH, credentials).await?)
}

/// Receives and accepts, with so much credit, until the peer is gone. `settled` is told of the deliveries of each batch.
pub(crate) async fn settle_all(
    mut source: impl Source,
    window: u32,
    mut settled: impl FnMut(&[Incoming]),
) -> Result<()> {
    let mut deliveries = Vec::new();
    loop {
        if source.outstanding_credit() <= window * 3 / 4 {
            source.grant(window);
        }
        source.receive(&mut deliveries).await?;
        if let (Some(first), Some(last)) = (deliveries.first(), deliveries.last()) {
            source.settle(EPOCH, first.delivery_id, last.delivery_id, Outcome::Accepted)?;
            settled(&deliveries);
            deliveries.clear();
        }
    }
}
