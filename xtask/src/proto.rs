//! `cargo xtask proto`: the code of sluice-proto, made from its .proto files.
//!
//! protox compiles the files in this process, so there is no `protoc` to install, and what is generated is committed,
//! so there is no build script. `--check` is for CI: it generates into a temporary directory and compares.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::workspace;

/// The .proto files, relative to `proto/proto`.
const FILES: [&str; 2] = [CONSUMER, "sluice/control/v1/control.proto"];

/// The API that applications see: the one that reflection serves.
const CONSUMER: &str = "sluice/v1/consumer.proto";

/// What is generated, in `proto/src/generated`.
const GENERATED: [&str; 3] = ["sluice.v1.rs", "sluice.v1.bin", "sluice.control.v1.rs"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail if what is committed differs from what would be generated.
    #[arg(long)]
    check: bool,
}

/// Generates the code, or with `--check` compares it with what is there.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.check {
        return check();
    }
    let committed = committed();
    let fresh = generate()?;
    fs::create_dir_all(&committed).with_context(|| format!("creating {}", committed.display()))?;
    for name in GENERATED {
        let target = committed.join(name);
        fs::copy(fresh.path().join(name), &target).with_context(|| format!("writing {}", target.display()))?;
    }
    Ok(())
}

/// Fails with the place of the first difference and what to do, if any generated file differs from the committed one.
pub(crate) fn check() -> Result<()> {
    let committed = committed();
    let fresh = generate()?;
    let mut stale = Vec::new();
    for name in GENERATED {
        let path = committed.join(name);
        let expected = fs::read(fresh.path().join(name)).with_context(|| format!("reading the fresh {name}"))?;
        match fs::read(&path) {
            Ok(found) if found == expected => {}
            Ok(found) => stale.push(format!("{}: {}", path.display(), first_difference(&found, &expected))),
            Err(error) => stale.push(format!("{}: {error}", path.display())),
        }
    }
    ensure!(
        stale.is_empty(),
        "generated code differs from the .proto files:\n  {}\nRun `cargo xtask proto` and commit the result.",
        stale.join("\n  ")
    );
    Ok(())
}

fn committed() -> PathBuf {
    workspace::root().join("proto/src/generated")
}

/// Generates everything from the .proto files into a temporary directory.
fn generate() -> Result<TempDir> {
    let out = tempfile::tempdir().context("a temporary directory for the generated code")?;
    let compiler = || protox::Compiler::new([workspace::root().join("proto/proto")]);

    // Reflection serves names and types, not comments: without them the set is a fraction of the size.
    let mut reflected = compiler()?;
    reflected.open_file(CONSUMER)?.include_imports(true).include_source_info(false);
    let set = reflected.encode_file_descriptor_set();
    fs::write(out.path().join("sluice.v1.bin"), set).context("writing the descriptor set")?;

    let mut all = compiler()?;
    all.open_files(FILES)?.include_imports(true).include_source_info(true);
    tonic_prost_build::configure()
        .bytes(".")
        .client_mod_attribute("sluice.v1", r#"#[cfg(feature = "client")]"#)
        .server_mod_attribute("sluice.v1", r#"#[cfg(feature = "server")]"#)
        .client_mod_attribute("sluice.control.v1", r#"#[cfg(feature = "control-client")]"#)
        .server_mod_attribute("sluice.control.v1", r#"#[cfg(feature = "control-server")]"#)
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .out_dir(out.path())
        .compile_fds(all.file_descriptor_set())
        .context("generating Rust code")?;
    Ok(out)
}

/// Says where two contents differ first: the line of both if they are text, else the offset.
pub(crate) fn first_difference(found: &[u8], expected: &[u8]) -> String {
    let (Ok(found_text), Ok(expected_text)) = (std::str::from_utf8(found), std::str::from_utf8(expected)) else {
        let offset = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
        return format!("differs from byte {offset} on");
    };
    let same = found_text.lines().zip(expected_text.lines()).take_while(|(a, b)| a == b).count();
    let line = |text: &str| text.lines().nth(same).unwrap_or("(end of file)").to_owned();
    format!("line {}\n    committed: {}\n    generated: {}", same + 1, line(found_text), line(expected_text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_differing_line_is_shown_from_both_sides() {
        let hint = first_difference(b"a\nb\nc\n", b"a\nx\nc\n");
        assert_eq!(hint, "line 2\n    committed: b\n    generated: x");
    }

    #[test]
    fn a_file_that_ends_early_differs_at_its_end() {
        assert!(first_difference(b"a\n", b"a\nb\n").starts_with("line 2\n    committed: (end of file)"));
    }

    #[test]
    fn binary_contents_are_compared_by_offset() {
        assert_eq!(first_difference(&[0xff, 1, 2], &[0xff, 1, 3]), "differs from byte 2 on");
    }
}
