//! What is done with a message. This is the file to replace by your own work.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Result, bail};
use sluice_proto::v1::Delivery;

/// Handles messages by printing them.
#[derive(Debug)]
pub(crate) struct Handler {
    /// How long handling a message takes.
    pub(crate) work: Duration,
    /// The first attempt of every Nth message fails; 0: none.
    pub(crate) fail_every: u64,
    /// Whether each message is printed.
    pub(crate) print: bool,
}

impl Handler {
    /// Does the work for one message. `Ok` says that it is done and safe: the message will be acknowledged. On `Err`
    /// it comes again. Messages can come more than once in any case; work that must not be done twice is kept apart by
    /// `delivery.message_id`.
    pub(crate) async fn handle(&self, delivery: &Delivery) -> Result<()> {
        static FIRST_ATTEMPTS: AtomicU64 = AtomicU64::new(0);

        if !self.work.is_zero() {
            tokio::time::sleep(self.work).await;
        }
        if delivery.attempt == 1 && self.fail_every > 0 {
            let nth = FIRST_ATTEMPTS.fetch_add(1, Ordering::Relaxed) + 1;
            if nth.is_multiple_of(self.fail_every) {
                bail!("asked to fail on every message number {}", self.fail_every);
            }
        }
        if self.print {
            let kind = delivery.kind().as_str_name().trim_start_matches("MESSAGE_KIND_");
            println!(
                "{kind} {}/{} {} ({} bytes, attempt {})",
                delivery.product_key,
                delivery.device_name,
                delivery.message_id,
                delivery.payload.len(),
                delivery.attempt
            );
        }
        Ok(())
    }
}
