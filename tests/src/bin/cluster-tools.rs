//! Makes the programs that the cluster tests need, so that the time it takes is seen apart from that of the tests.

use std::io::Write as _;

use anyhow::Result;
use sluice_tests::tools;

fn main() -> Result<()> {
    let files = tools::ensure_kubernetes()?;
    let helm = tools::ensure_helm()?;
    let mut out = std::io::stdout().lock();
    for file in [&files.etcd, &files.api_server, &files.controller_manager, &files.scheduler, &files.kubectl] {
        writeln!(out, "{}", file.display())?;
    }
    writeln!(out, "{}", helm.display())?;
    Ok(())
}
