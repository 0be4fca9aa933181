//! Fetches and builds the clients that know nothing of Sluice, so that the time it takes is seen apart from that of the tests.

use std::io::Write as _;

use anyhow::Result;
use sluice_tests::tools;

fn main() -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", tools::ensure_python_proton()?.interpreter.display())?;
    writeln!(out, "{}", tools::ensure_rhea()?.display())?;
    writeln!(out, "{}", tools::ensure_jms()?.display())?;
    writeln!(out, "{}", tools::ensure_go_amqp()?.display())?;
    Ok(())
}
