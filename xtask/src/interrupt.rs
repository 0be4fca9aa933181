//! Ctrl-C as a count: commands look at it between two steps, so that they always end in an orderly way. Whatever else ends
//! programs counts the same, a terminal that is closed among it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// How often Ctrl-C (or SIGTERM, SIGHUP, SIGQUIT) has come since [`Interrupts::watch`].
#[derive(Clone, Debug)]
pub(crate) struct Interrupts(Arc<AtomicU32>);

impl Interrupts {
    /// Counts from here on; these signals no longer end the process by themselves.
    pub(crate) fn watch() -> Result<Self> {
        let count = Arc::new(AtomicU32::new(0));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().build().context("a runtime for signals")?;
        let [mut interrupt, mut terminate, mut hangup, mut quit] = {
            let _context = runtime.enter();
            [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
                signal(SignalKind::quit())?,
            ]
        };
        let counter = Arc::clone(&count);
        thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        _ = hangup.recv() => {}
                        _ = quit.recv() => {}
                    }
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        Ok(Self(count))
    }

    /// The count so far.
    pub(crate) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}
