//! What a process of the sidecar remembers for the next one in the same pod, in a small file: the number of the process,
//! and the attempts to connect that it made on its own. A volume that outlives the container, and not the pod, is its
//! place.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tracing::warn;

/// The file's name in its folder.
const FILE: &str = ".sluice-sidecar.json";

/// The form of the file that is written here.
const VERSION: u32 = 1;

/// More attempts than any sidecar may have made in a minute: a file that names more is none of ours.
const MOST: usize = 1 << 10;

/// Why something can't be remembered.
#[derive(Debug, thiserror::Error)]
#[error("{path} can't be written: {cause}; --state-dir must name a folder that this process may write to")]
pub struct MemoryError {
    path: PathBuf,
    cause: io::Error,
}

/// The file, and the number that this process has by it.
#[derive(Debug, Clone)]
pub struct Memory {
    path: PathBuf,
    process: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Remembered {
    version: u32,
    process: u64,
    /// The slots of attempts that were made on its own, one entry for each attempt.
    attempts: Vec<u32>,
}

impl Memory {
    /// Reads what the last process wrote, and writes down that this one has begun. Returns the slots of the attempts that
    /// it remembers. Without a file, this process is the first; one that can't be read counts for one attempt.
    pub fn open(directory: &Path) -> Result<(Self, Vec<u32>), MemoryError> {
        let path = directory.join(FILE);
        let (last, attempts) = match read(&path) {
            Ok(before) => (before.process, before.attempts),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => (0, Vec::new()),
            Err(cause) => {
                warn!(path = %path.display(), %cause, "what the last process remembered can't be read");
                // Better one too many than one too few.
                (0, vec![0])
            }
        };
        let memory = Self { path, process: unix_ms().max(last.saturating_add(1)) };
        memory.save(&attempts)?;
        Ok((memory, attempts))
    }

    /// Tells this process apart from its predecessors in the pod: it is greater than the number of any of them.
    pub fn process(&self) -> u64 {
        self.process
    }

    /// Writes down the attempts that a successor must know of, as a whole or not at all.
    pub fn save(&self, attempts: &[u32]) -> Result<(), MemoryError> {
        let remembered = Remembered { version: VERSION, process: self.process, attempts: attempts.to_vec() };
        let failed = |cause| MemoryError { path: self.path.clone(), cause };
        let bytes = serde_json::to_vec(&remembered).map_err(|error| failed(error.into()))?;
        let fresh = self.path.with_extension("new");
        std::fs::write(&fresh, bytes).and_then(|()| std::fs::rename(&fresh, &self.path)).map_err(failed)
    }
}

fn read(path: &Path) -> io::Result<Remembered> {
    let remembered: Remembered = serde_json::from_slice(&std::fs::read(path)?)?;
    if remembered.version != VERSION || remembered.attempts.len() > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is of another version, or not of a sidecar"));
    }
    Ok(remembered)
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_the_attempts_of_the_one_before_and_has_a_greater_number() {
        let dir = tempfile::tempdir().unwrap();
        let (first, none) = Memory::open(dir.path()).unwrap();
        assert!(none.is_empty());
        first.save(&[3, 3, 4]).unwrap();
        let (second, attempts) = Memory::open(dir.path()).unwrap();
        assert_eq!(attempts, [3, 3, 4]);
        assert!(second.process() > first.process());
        // The clock was set back.
        let ahead = Memory { process: u64::MAX / 2, ..second };
        ahead.save(&[]).unwrap();
        assert_eq!(Memory::open(dir.path()).unwrap().0.process(), u64::MAX / 2 + 1);
    }

    #[test]
    fn what_cannot_be_read_counts_for_an_attempt_and_what_cannot_be_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), b"{\"version\": 1, \"process\": -").unwrap();
        assert_eq!(Memory::open(dir.path()).unwrap().1, [0]);
        let error = Memory::open(&dir.path().join("nowhere")).unwrap_err().to_string();
        assert!(error.contains("nowhere") && error.contains("--state-dir"), "{error}");
    }
}
