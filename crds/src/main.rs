//! Prints the definition of the custom resource. `cargo xtask crd` puts it where it belongs.

use std::io::{self, Write as _};
use std::process::ExitCode;

use sluice_crds::{schema, yaml};

fn main() -> ExitCode {
    let written = schema::crd()
        .and_then(|crd| yaml::definition(&crd))
        .map_err(|error| error.to_string())
        .and_then(|text| io::stdout().write_all(text.as_bytes()).map_err(|error| error.to_string()));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nowhere else to say it.
            let _ = writeln!(io::stderr(), "error: the definition can't be written: {error}");
            ExitCode::FAILURE
        }
    }
}
