//! `cargo xtask chart`: what the Helm chart takes over from elsewhere. The definition of the custom resource becomes one of
//! its templates, and the comments of values.yaml become the table in its README.
//!
//! `--check` is for CI. It also holds values.yaml against its schema, and the chart's version against the workspace's.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{proto, workspace};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail if what is committed differs from what would be generated.
    #[arg(long)]
    check: bool,
}

/// Generates the files, or with `--check` compares them with what is there.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.check {
        return check();
    }
    for (path, text) in generate()? {
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Fails with what differs and what to do, if the chart is not up to date or contradicts itself.
pub(crate) fn check() -> Result<()> {
    let mut stale = Vec::new();
    for (path, expected) in generate()? {
        match fs::read_to_string(&path) {
            Ok(found) if found == expected => {}
            Ok(found) => {
                let difference = proto::first_difference(found.as_bytes(), expected.as_bytes());
                stale.push(format!("{}: {difference}", path.display()));
            }
            Err(error) => stale.push(format!("{}: {error}", path.display())),
        }
    }
    ensure!(
        stale.is_empty(),
        "the chart differs from what it is made from:\n  {}\nRun `cargo xtask chart` and commit the result.",
        stale.join("\n  ")
    );
    let chart = directory();
    let schema = serde_json::from_str(&read(&chart.join("values.schema.json"))?).context("values.schema.json")?;
    covers(&schema, &values(&read(&chart.join("values.yaml"))?)?)?;
    versions(&read(&chart.join("Chart.yaml"))?, env!("CARGO_PKG_VERSION"))
}

fn directory() -> PathBuf {
    workspace::root().join("charts/sluice")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// The generated files with their contents.
fn generate() -> Result<Vec<(PathBuf, String)>> {
    let chart = directory();
    let definition = read(&workspace::root().join("crds/yaml/consumergroups.sluice.dev.yaml"))?;
    let readme = chart.join("README.md");
    let table = table(&values(&read(&chart.join("values.yaml"))?)?);
    Ok(vec![
        (chart.join("templates/crd.yaml"), template(&definition)?),
        (readme.clone(), with_table(&read(&readme)?, &table)?),
    ])
}

/// The definition as a template: left out if it is not wanted, and kept when the chart goes.
fn template(definition: &str) -> Result<String> {
    const METADATA: &str = "\nmetadata:\n  name: ";
    ensure!(!definition.contains("{{"), "the definition contains {{{{, which Helm would take for its own");
    ensure!(definition.matches(METADATA).count() == 1, "the definition does not begin its metadata with a name");
    let body: String = definition
        .lines()
        .skip_while(|line| line.starts_with('#'))
        .fold(String::new(), |text, line| text + line + "\n");
    let kept = body.replacen(
        METADATA,
        "\nmetadata:\n  annotations:\n    # It goes on when the chart is uninstalled, and with it all ConsumerGroups.\n    \
         helm.sh/resource-policy: keep\n  name: ",
        1,
    );
    Ok(format!(
        "{{{{- /* Made from crds/yaml by `cargo xtask chart`. Do not edit. */ -}}}}\n{{{{- if .Values.crds.install }}}}\n\
         {kept}{{{{- end }}}}\n"
    ))
}

/// One value of the chart.
#[derive(Debug, PartialEq)]
struct Entry {
    path: String,
    default: String,
    meaning: String,
}

/// Reads values.yaml: keys with a value on the same line, each after a comment, and keys that hold others.
fn values(text: &str) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut parents: Vec<&str> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let content = line.trim_start();
        let depth = (line.len() - content.len()) / 2;
        if content.is_empty() {
            comment.clear();
        } else if let Some(text) = content.strip_prefix('#') {
            comment.push(text.trim());
        } else if let Some((key, value)) = content.split_once(':') {
            let number = number + 1;
            ensure!(depth <= parents.len(), "values.yaml, line {number}: {key} is indented too far");
            parents.truncate(depth);
            if value.trim().is_empty() {
                parents.push(key);
            } else {
                let path = parents.iter().chain([&key]).copied().collect::<Vec<_>>().join(".");
                ensure!(
                    !comment.is_empty(),
                    "values.yaml, line {number}: {path} has no comment that says what it means"
                );
                entries.push(Entry { path, default: value.trim().to_owned(), meaning: comment.join(" ") });
            }
            comment.clear();
        } else {
            bail!("values.yaml, line {}: a comment or KEY: VALUE is expected", number + 1);
        }
    }
    Ok(entries)
}

fn table(entries: &[Entry]) -> String {
    let mut table = "| value | default | meaning |\n|---|---|---|\n".to_owned();
    for Entry { path, default, meaning } in entries {
        let _ = writeln!(table, "| `{path}` | `{default}` | {} |", meaning.replace('|', "\\|"));
    }
    table
}

/// The README with the table between its marks.
fn with_table(readme: &str, table: &str) -> Result<String> {
    let (begin, end) = ("<!-- values: made from values.yaml by `cargo xtask chart` -->\n", "<!-- end of values -->\n");
    let (before, rest) =
        readme.split_once(begin).with_context(|| format!("README.md: the mark {begin:?} is missing"))?;
    let (_, after) = rest.split_once(end).with_context(|| format!("README.md: the mark {end:?} is missing"))?;
    Ok(format!("{before}{begin}{table}{end}{after}"))
}

/// Fails if there is a value that the schema does not know, or one of the schema that is in no values.yaml.
fn covers(schema: &Value, entries: &[Entry]) -> Result<()> {
    for Entry { path, .. } in entries {
        let mut node = schema;
        for key in path.split('.') {
            let Some(properties) = node.get("properties") else { break };
            node = properties.get(key).with_context(|| format!("values.schema.json does not know {path}"))?;
        }
    }
    let mut leaves = Vec::new();
    leaves_of(schema, "", &mut leaves);
    for leaf in leaves {
        let below = format!("{leaf}.");
        let known = entries.iter().any(|entry| entry.path == leaf || entry.path.starts_with(&below));
        // Helm's own.
        ensure!(known || leaf == "global", "values.schema.json has {leaf}, and values.yaml does not");
    }
    Ok(())
}

fn leaves_of(node: &Value, path: &str, leaves: &mut Vec<String>) {
    match node.get("properties").and_then(Value::as_object) {
        Some(properties) => {
            for (key, node) in properties {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves_of(node, &path, leaves);
            }
        }
        None => leaves.push(path.to_owned()),
    }
}

/// Fails if the chart has another version than the workspace.
fn versions(chart: &str, workspace: &str) -> Result<()> {
    for key in ["version", "appVersion"] {
        let found = chart.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim);
        ensure!(found == Some(workspace), "Chart.yaml: {key} is {found:?}, and the workspace's version is {workspace}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(path: &str, default: &str, meaning: &str) -> Entry {
        Entry { path: path.into(), default: default.into(), meaning: meaning.into() }
    }

    #[test]
    fn comments_become_a_table() {
        let text = "# About the file.\n\n# How many.\nreplicas: 2\nimage:\n  # Where: `a|b`\n  # and so on.\n  tag: \"\"\n\n\
                    a:\n  b:\n    # Deep.\n    c: {}\n  # Less deep.\n  d: [x]\n";
        let entries = values(text).unwrap();
        let expected = [
            entry("replicas", "2", "How many."),
            entry("image.tag", "\"\"", "Where: `a|b` and so on."),
            entry("a.b.c", "{}", "Deep."),
            entry("a.d", "[x]", "Less deep."),
        ];
        assert_eq!(entries, expected);
        assert!(table(&entries).contains("| `image.tag` | `\"\"` | Where: `a\\|b` and so on. |\n"));
        assert!(values("a: 1\n").unwrap_err().to_string().contains("line 1: a has no comment"));
        assert!(values("# x\n    a: 1\n").unwrap_err().to_string().contains("indented too far"));
        assert!(values("- x\n").unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn the_table_stands_between_its_marks() {
        let readme =
            "x\n<!-- values: made from values.yaml by `cargo xtask chart` -->\nold\n<!-- end of values -->\ny\n";
        let fresh = with_table(readme, "new\n").unwrap();
        assert_eq!(fresh, readme.replace("old", "new"));
        assert_eq!(with_table(&fresh, "new\n").unwrap(), fresh);
        assert!(with_table("x", "").unwrap_err().to_string().contains("missing"));
    }

    #[test]
    fn the_definition_becomes_a_template_that_keeps_it() {
        let template =
            template("# Generated.\napiVersion: x\nmetadata:\n  name: y\nspec:\n  metadata:\n    name: z\n").unwrap();
        assert!(template.starts_with("{{- /* Made from crds/yaml"), "{template}");
        assert!(template.contains("}}\n{{- if .Values.crds.install }}\napiVersion: x\nmetadata:\n  annotations:\n"));
        assert!(template.contains("    helm.sh/resource-policy: keep\n  name: y\nspec:\n"), "{template}");
        assert!(template.ends_with("name: z\n{{- end }}\n"), "{template}");
    }

    #[test]
    fn a_definition_that_cannot_be_a_template_is_refused() {
        assert!(template("a: '{{'\nmetadata:\n  name: y\n").unwrap_err().to_string().contains("contains {{"));
        assert!(template("a: b\n").is_err());
    }

    #[test]
    fn values_and_schema_know_each_other() {
        let schema = json!({"properties": {
            "global": {}, "a": {"properties": {"b": {}}}, "free": {"additionalProperties": {"type": "string"}},
        }});
        covers(&schema, &[entry("a.b", "", ""), entry("free.x", "", "")]).unwrap();
        let error = covers(&schema, &[entry("a.c", "", "")]).unwrap_err().to_string();
        assert!(error.contains("does not know a.c"), "{error}");
        let error = covers(&schema, &[entry("free", "", "")]).unwrap_err().to_string();
        assert!(error.contains("has a.b"), "{error}");
    }

    #[test]
    fn another_version_is_noticed() {
        versions("version: 1.2.3\nappVersion: 1.2.3\n", "1.2.3").unwrap();
        let error = versions("version: 1.2.3\nappVersion: 1.2.2\n", "1.2.3").unwrap_err().to_string();
        assert!(error.contains("appVersion"), "{error}");
    }
}
