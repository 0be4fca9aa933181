//! The way in: the SASL layer up to its outcome, and what decides on that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use fe2o3_amqp_types::sasl::SaslCode;
use sluice_cloud::sign::ConnectIdentity;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tracing::info;

use super::admission::{self, Denied};
use super::sasl::{self, Plain, SaslError};
use super::seat::Seat as _;
use super::serve::Server;
use crate::clock::Micros;
use crate::hub::GroupSeat;
use crate::platform::Door;

/// A client that has come in.
pub(crate) struct Admitted {
    pub(crate) seat: GroupSeat,
    /// When its security token expires.
    pub(crate) until: Micros,
}

/// The SASL layer, up to its outcome. `None` when the client was refused.
pub(crate) async fn enter<S>(
    stream: &mut S,
    input: &mut BytesMut,
    peer: SocketAddr,
    server: &Server,
) -> Result<Option<Admitted>, SaslError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let plain = match sasl::negotiate(stream, input, server.terms.profile.sasl_frame).await {
        Ok(plain) => plain,
        Err(error @ (SaslError::Mechanism(_) | SaslError::Plain)) => {
            sasl::conclude(stream, SaslCode::Auth).await?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    match authenticate(&plain, peer, server) {
        Ok(admitted) => {
            sasl::conclude(stream, SaslCode::Ok).await?;
            Ok(Some(admitted))
        }
        Err(reason) => {
            let outcome = reason.outcome(&server.terms.profile);
            info!(%reason, ?outcome, "authentication refused");
            sasl::conclude(stream, outcome).await?;
            stream.shutdown().await?;
            Ok(None)
        }
    }
}

fn authenticate(plain: &Plain, peer: SocketAddr, server: &Server) -> Result<Admitted, Denied> {
    let identity = ConnectIdentity::parse(plain.user_name())?;
    let (group, account) = server.hub.find_group(identity.iot_instance_id.as_deref(), &identity.consumer_group_id)?;
    // A refused attempt is an attempt as well. At which door one too many is refused is the profile's to say.
    let refused = server.hub.attempt(&group).err();
    let now = server.hub.clock().now();
    let now_ms = now.unix_us / 1_000;
    let caller = admission::admit(&server.accounts, &identity, plain.password(), &account, &server.terms, now_ms)?;
    let left = caller.expires_at_ms.map(|at| Duration::from_millis(at.saturating_sub(now_ms)));
    let until = left.map_or(Micros::NEVER, |left| now.mono.after(left));
    let client_id = identity.client_id.as_str().to_owned();
    info!(group, client = client_id, "authenticated");
    let mut seat = GroupSeat::new(Arc::clone(&server.hub), group, client_id, peer, refused).with_key(caller.key_id);
    seat.pass(Door::Sasl)?;
    Ok(Admitted { seat, until })
}
