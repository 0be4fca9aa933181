//! `cargo xtask crd`: the definition of the custom resource, made from the types of sluice-crds.
//!
//! The binary `sluice-crd` prints it, so that this program needs none of what makes it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{proto, workspace};

/// The binary that prints the definition.
pub(crate) const PRINTER: &str = "sluice-crd";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail if what is committed differs from what would be generated.
    #[arg(long)]
    check: bool,
}

/// Generates the definition, or with `--check` compares it with what is there.
pub(crate) fn run(args: &Args) -> Result<()> {
    // Of the whole workspace, so that what it needs is built as for everything else.
    let binaries = workspace::build(["--workspace", "--bin", PRINTER])?;
    let printer = binaries.get(PRINTER).with_context(|| format!("the build made no binary `{PRINTER}`"))?;
    if args.check {
        return check(printer);
    }
    let path = committed();
    fs::write(&path, print(printer)?).with_context(|| format!("writing {}", path.display()))
}

/// Fails with the place of the first difference and what to do, if the committed definition is not what `printer` prints.
pub(crate) fn check(printer: &Path) -> Result<()> {
    let path = committed();
    let expected = print(printer)?;
    let found = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    ensure!(
        found == expected,
        "the definition of the custom resource differs from its types:\n  {}: {}\nRun `cargo xtask crd` and commit the \
         result.",
        path.display(),
        proto::first_difference(&found, &expected)
    );
    Ok(())
}

fn committed() -> PathBuf {
    workspace::root().join("crds/yaml/consumergroups.sluice.dev.yaml")
}

fn print(printer: &Path) -> Result<Vec<u8>> {
    let output = Command::new(printer).output().with_context(|| format!("starting {}", printer.display()))?;
    ensure!(output.status.success(), "{PRINTER} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}
