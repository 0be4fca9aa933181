//! The AMQP source alone, settling whatever comes: what is left when ledger, streams and applications are taken away.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use sluice_cloud::sign::SaslCredentials;
use sluice_sidecar::amqp::hot::Outcome;
use sluice_sidecar::amqp::params::Params;
use sluice_sidecar::ledger::LinkEpoch;
use sluice_sidecar::link::AmqpConnector;
use sluice_sidecar::source::{Connect as _, Source as _};
use sluice_sidecar::tls::{self, Roots};

/// Deliveries that may be on their way, as in the other cases.
const WINDOW: u32 = 2000;

/// Receives and accepts until the peer is gone.
pub(crate) fn run(port: u16, authority: &Path) -> Result<()> {
    let connector = AmqpConnector {
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
    };
    let credentials = SaslCredentials { user_name: "bench".into(), password: "bench".into() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let epoch = LinkEpoch(1);
        let mut source = connector.connect(epoch, credentials).await?;
        let mut deliveries = Vec::new();
        loop {
            if source.outstanding_credit() <= WINDOW * 3 / 4 {
                source.grant(WINDOW);
            }
            source.receive(&mut deliveries).await?;
            if let (Some(first), Some(last)) = (deliveries.first(), deliveries.last()) {
                source.settle(epoch, first.delivery_id, last.delivery_id, Outcome::Accepted)?;
                deliveries.clear();
            }
        }
    })
}
