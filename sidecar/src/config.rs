//! The sidecar's file: a `ConsumerGroup` document in YAML, or in JSON, which is YAML as well. What is read here has been
//! checked; nothing later looks at the raw document again. Errors name the file, the place in it and what to do, and
//! show no line of it: somebody may have put a secret into a field that does not exist.

use std::io;
use std::path::{Path, PathBuf};

use serde_saphyr::{Error as YamlError, UserMessageFormatter};
use sluice_crds::{CaBundle, Document, Violations};

/// Why a file is not a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read at all.
    #[error("cannot read {path}: {cause}; --config must name a ConsumerGroup document that this process may read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// A field that there is not.
    #[error(
        "{path}, {place}: there is no field {field:?} here; correct or remove it (the fields are {})",
        .expected.join(", ")
    )]
    UnknownField {
        /// The file.
        path: PathBuf,
        /// Line and column.
        place: Place,
        /// The field's name, as found.
        field: String,
        /// The names of the fields that there are.
        expected: Vec<&'static str>,
    },
    /// It is no YAML, or not that of a `ConsumerGroup`.
    #[error("{path}, {place}: {message}; a ConsumerGroup document of sluice.dev/v1alpha1 is expected")]
    Document {
        /// The file.
        path: PathBuf,
        /// Line and column.
        place: Place,
        /// What is wrong there.
        message: String,
    },
    /// Values that can't be.
    #[error("{path} is not a valid ConsumerGroup:\n{violations}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All of them.
        violations: Violations,
    },
}

/// A place in a file, counted from 1; `None` if the parser can't tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub Option<(u64, u64)>);

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some((line, column)) => write!(f, "line {line}, column {column}"),
            None => f.write_str("in an unknown line"),
        }
    }
}

/// Reads the file and checks it. A relative path in it counts from the file's own directory, and is returned as one that
/// can be opened.
pub fn load(path: &Path) -> Result<Document, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
    let mut group = parse(path, &text)?;
    group.validate().map_err(|violations| ConfigError::Invalid { path: path.to_owned(), violations })?;
    if let (Some(CaBundle::File(file)), Some(directory)) = (&mut group.spec.instance.ca_bundle, path.parent()) {
        *file = directory.join(&*file);
    }
    Ok(group)
}

fn parse(path: &Path, text: &str) -> Result<Document, ConfigError> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let path = path.to_owned();
        let place = Place(error.location().map(|location| (location.line(), location.column())).filter(|at| at.0 > 0));
        match error {
            YamlError::SerdeUnknownField { field, expected, .. } => {
                ConfigError::UnknownField { path, place, field, expected }
            }
            other => ConfigError::Document { path, place, message: without_place(&other) },
        }
    })
}

/// What the parser says, without the place that it puts at the end: ours stands at the beginning.
fn without_place(error: &YamlError) -> String {
    let mut message = error.render_with_formatter(&UserMessageFormatter);
    if let Some(at) = error.location() {
        let end = format!(" at line {}, column {}", at.line(), at.column());
        message.truncate(message.strip_suffix(end.as_str()).unwrap_or(&message).len());
    }
    message
}

#[cfg(test)]
mod tests;
