//! Clients in Python: the scripts of `tests/clients/`, with qpid-proton underneath.

use std::process::Command;

use anyhow::Result;

use crate::tools;

/// A command that runs a script of `tests/clients/`, without its arguments.
pub fn script(name: &str) -> Result<Command> {
    let python = tools::ensure_python_proton()?;
    let mut command = Command::new(&python.interpreter);
    command.envs(python.environment.iter().map(|(name, value)| (name, value)));
    // Leaves no compiled files in the source tree.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(tools::client(name));
    Ok(command)
}
