//! What went wrong on a thread that nobody waits for.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Error, Result};

/// The first error of a thread, kept for whoever asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failure(Arc<Mutex<Option<Error>>>);

impl Failure {
    /// Keeps the error of work that has ended, unless there is one already.
    pub(crate) fn keep<T>(&self, ended: Result<T>) {
        if let Err(error) = ended {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    /// Fails with the error, once.
    pub(crate) fn check(&self) -> Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}
