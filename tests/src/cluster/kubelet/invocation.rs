//! From a container's specification to a process: pure.
//!
//! There is no mount namespace. Every mount has a folder of its own on this machine, and wherever the container's
//! specification says `mountPath` (in `command`, `args`, the values of variables, the commands of probes and hooks),
//! that folder's path is put in its place: `--listen=unix:///run/sluice/sluice.sock` becomes
//! `--listen=unix:///tmp/…/v/socket/sluice.sock` in a container that mounts `socket` at `/run/sluice`. What a program
//! has compiled in, or reads in a file, is not rewritten.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, EnvVar};

use super::images::Image;
use super::sources::{Facts, Missing, Sources};

/// Where a container's mounts really are: pairs of `mountPath` and folder.
#[derive(Debug, Clone, Default)]
pub(super) struct Mounts(Vec<(String, String)>);

impl Mounts {
    pub(super) fn new(mounts: impl IntoIterator<Item = (String, PathBuf)>) -> Self {
        let clean = |path: String| path.trim_end_matches('/').to_owned();
        let mut mounts: Vec<_> =
            mounts.into_iter().map(|(path, folder)| (clean(path), folder.display().to_string())).collect();
        // Of two that fit, the longer one is meant.
        mounts.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Self(mounts)
    }

    /// `text` with every mount path replaced. One counts only as a whole: `/run/sluice` is neither in `/run/sluiced`
    /// nor in `/var/run/sluice`.
    pub(super) fn rewrite(&self, text: &str) -> String {
        let is_name = |character: char| character.is_alphanumeric() || "-_.".contains(character);
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            let begins = !out.ends_with(is_name);
            let fits =
                |path: &str| rest.strip_prefix(path).filter(|after| !path.is_empty() && !after.starts_with(is_name));
            let found = self.0.iter().filter(|_| begins).find_map(|(path, folder)| Some((folder, fits(path)?)));
            if let Some((folder, after)) = found {
                out += folder;
                rest = after;
            } else {
                out.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
        out
    }
}

/// What to start, in which environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invocation {
    pub(super) program: String,
    pub(super) arguments: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
}

impl Invocation {
    /// The container's main process.
    pub(super) fn of(
        container: &Container,
        image: &Image,
        facts: &Facts<'_>,
        sources: &Sources,
        mounts: &Mounts,
    ) -> Result<Self, Missing> {
        let environment = environment(container, image, facts, sources, mounts)?;
        let expand = |words: &Vec<String>| words.iter().map(|word| expand(word, &environment)).collect::<Vec<_>>();
        let command = container.command.as_ref().filter(|command| !command.is_empty());
        let mut words = command.map_or_else(|| image.entrypoint.clone(), expand);
        match container.args.as_ref().filter(|arguments| !arguments.is_empty()) {
            Some(arguments) => words.extend(expand(arguments)),
            // A command replaces the image's arguments, too.
            None if command.is_none() => words.extend(image.arguments.iter().cloned()),
            None => {}
        }
        Self::from_words(words, image, environment, mounts).ok_or_else(|| {
            Missing(format!("image {} runs nothing by itself", container.image.as_deref().unwrap_or("")))
        })
    }

    /// A command that a probe or a hook runs in a container, whose process has `environment`.
    pub(super) fn within(
        command: &[String],
        image: &Image,
        environment: &BTreeMap<String, String>,
        mounts: &Mounts,
    ) -> Option<Self> {
        Self::from_words(command.to_vec(), image, environment.clone(), mounts)
    }

    fn from_words(
        words: Vec<String>,
        image: &Image,
        environment: BTreeMap<String, String>,
        mounts: &Mounts,
    ) -> Option<Self> {
        let mut words = words.into_iter().map(|word| mounts.rewrite(&word));
        let program = words.next()?;
        let name = program.rsplit('/').next().unwrap_or_default();
        let own = image.programs.iter().find(|path| path.file_name().is_some_and(|own| own == name));
        let program = own.map_or(program, |own| own.display().to_string());
        Some(Self { program, arguments: words.collect(), environment })
    }
}

/// The variables of a container.
fn environment(
    container: &Container,
    image: &Image,
    facts: &Facts<'_>,
    sources: &Sources,
    mounts: &Mounts,
) -> Result<BTreeMap<String, String>, Missing> {
    let mut environment: BTreeMap<String, String> = image.environment.iter().cloned().collect();
    environment.insert("HOSTNAME".to_owned(), facts.pod_name());
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let mut all = BTreeMap::new();
        if let Some(secret) = &from.secret_ref {
            all.extend(sources.secret(&secret.name, secret.optional)?.cloned().unwrap_or_default());
        }
        if let Some(map) = &from.config_map_ref {
            all.extend(sources.config_map(&map.name, map.optional)?.cloned().unwrap_or_default());
        }
        let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
        environment.extend(all.into_iter().map(|(name, value)| (format!("{prefix}{name}"), text(value))));
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(variable, &environment, facts, sources)? {
            environment.insert(variable.name.clone(), mounts.rewrite(&value));
        }
    }
    Ok(environment)
}

/// The value of a variable; none if it comes from something optional that is not there.
fn value(
    variable: &EnvVar,
    before: &BTreeMap<String, String>,
    facts: &Facts<'_>,
    sources: &Sources,
) -> Result<Option<String>, Missing> {
    let Some(from) = &variable.value_from else {
        return Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), before)));
    };
    let of_map = |map: Option<&BTreeMap<String, Vec<u8>>>, key: &str, optional: Option<bool>, what: &str| match map
        .and_then(|map| map.get(key))
    {
        Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        None if optional == Some(true) => Ok(None),
        None => Err(Missing(format!("key {key} in {what}"))),
    };
    if let Some(field) = &from.field_ref {
        return facts.field(&field.field_path).map(Some);
    }
    if let Some(secret) = &from.secret_key_ref {
        let map = sources.secret(&secret.name, secret.optional)?;
        return of_map(map, &secret.key, secret.optional, &format!("Secret {}", secret.name));
    }
    if let Some(map) = &from.config_map_key_ref {
        let found = sources.config_map(&map.name, map.optional)?;
        return of_map(found, &map.key, map.optional, &format!("ConfigMap {}", map.name));
    }
    Err(Missing(format!("variable {}: this kubelet knows fieldRef, secretKeyRef and configMapKeyRef", variable.name)))
}

/// Replaces `$(NAME)` by the variable's value; unknown ones stay, and `$$` is a `$`.
fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out += before;
        let reference = after.strip_prefix('(').and_then(|after| after.split_once(')'));
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = reference {
            match variables.get(name) {
                Some(value) => out += value,
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use k8s_openapi::api::core::v1::Pod;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn mounts() -> Mounts {
        Mounts::new([
            ("/run/sluice".to_owned(), PathBuf::from("/tmp/x/socket")),
            ("/run/sluice/deep/".to_owned(), PathBuf::from("/tmp/x/deep")),
            ("/data".to_owned(), PathBuf::from("/tmp/x/data")),
        ])
    }

    fn invocation(container: Value, image: &Image) -> Result<Invocation, Missing> {
        let container: Container = serde_json::from_value(container).unwrap();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "worker-0", "namespace": "plant", "uid": "u", "labels": {"app": "worker"}},
            "spec": {"containers": [], "nodeName": "node", "serviceAccountName": "robot"},
        }))
        .unwrap();
        let facts = Facts { pod: &pod, ip: Ipv4Addr::new(127, 20, 0, 1) };
        let sources = Sources::from_maps([("key", [("id", "abc")])], [("settings", [("colour", "green")])]);
        Invocation::of(&container, image, &facts, &sources, &mounts())
    }

    #[test]
    fn mount_paths_become_folders_but_only_whole_ones() {
        for (text, rewritten) in [
            ("--listen=unix:///run/sluice/sluice.sock", "--listen=unix:///tmp/x/socket/sluice.sock"),
            ("/run/sluice", "/tmp/x/socket"),
            ("/run/sluice/deep/file", "/tmp/x/deep/file"),
            ("/data:/data/a,/data", "/tmp/x/data:/tmp/x/data/a,/tmp/x/data"),
            ("/run/sluiced/data", "/run/sluiced/data"),
            ("/database a/data", "/database a/data"),
            ("", ""),
        ] {
            assert_eq!(mounts().rewrite(text), rewritten);
        }
    }

    #[test]
    fn commands_arguments_and_entry_points_follow_the_rules_of_kubernetes() {
        let image = Image::program("/target/debug/app").with_arguments(["serve"]);
        let words = |container: Value| {
            let invocation = invocation(container, &image).unwrap();
            [vec![invocation.program], invocation.arguments].concat().join(" ")
        };
        assert_eq!(words(json!({"name": "a"})), "/target/debug/app serve");
        assert_eq!(words(json!({"name": "a", "args": ["run"]})), "/target/debug/app run");
        assert_eq!(words(json!({"name": "a", "command": ["sh"]})), "sh");
        assert_eq!(words(json!({"name": "a", "command": ["/bin/app"], "args": ["x"]})), "/target/debug/app x");
        let error = invocation(json!({"name": "a", "image": "busybox"}), &Image::shell()).unwrap_err();
        assert!(error.to_string().contains("busybox"), "{error}");
    }

    #[test]
    fn variables_come_from_everywhere_and_are_expanded_in_order() {
        let image = Image::program("/app").with_variable("LEVEL", "info").with_variable("BASE", "image");
        let found = invocation(
            json!({
                "name": "a",
                "envFrom": [{"configMapRef": {"name": "settings"}, "prefix": "MY_"}],
                "env": [
                    {"name": "BASE", "value": "pod"},
                    {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "ADDRESS", "value": "$(POD_IP):80 $(LATER) $$(POD_IP)"},
                    {"name": "LATER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                    {"name": "ID", "valueFrom": {"secretKeyRef": {"name": "key", "key": "id"}}},
                    {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "no", "key": "id", "optional": true}}},
                    {"name": "SOCKET", "value": "unix:///run/sluice/s"},
                ],
                "args": ["--at=$(ADDRESS)", "$(UNKNOWN)", "5$"],
            }),
            &image,
        )
        .unwrap();
        let expected = json!({
            "ADDRESS": "127.20.0.1:80 $(LATER) $(POD_IP)",
            "BASE": "pod",
            "HOSTNAME": "worker-0",
            "ID": "abc",
            "LATER": "worker",
            "LEVEL": "info",
            "MY_colour": "green",
            "POD_IP": "127.20.0.1",
            "SOCKET": "unix:///tmp/x/socket/s",
        });
        assert_eq!(json!(found.environment), expected);
        assert_eq!(found.arguments, ["--at=127.20.0.1:80 $(LATER) $(POD_IP)", "$(UNKNOWN)", "5$"]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let missing = |variable: Value| {
            invocation(json!({"name": "a", "env": [variable]}), &Image::program("/app")).unwrap_err().to_string()
        };
        let of =
            |name: &str, key: &str| json!({"name": "A", "valueFrom": {"secretKeyRef": {"name": name, "key": key}}});
        assert!(missing(of("no", "id")).contains("Secret no"));
        assert!(missing(of("key", "other")).contains("key other in Secret key"));
        let field = json!({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.hostname"}}});
        assert!(missing(field).contains("spec.hostname"));
    }

    proptest! {
        #[test]
        fn text_without_references_and_mount_paths_stays(text in "[a-z0-9 =:,.()-]*") {
            prop_assert_eq!(mounts().rewrite(&text), text.clone());
            prop_assert_eq!(expand(&text, &BTreeMap::new()), text);
        }

        #[test]
        fn every_text_is_taken(text in ".*") {
            mounts().rewrite(&text);
            expand(&text, &BTreeMap::new());
        }
    }
}
