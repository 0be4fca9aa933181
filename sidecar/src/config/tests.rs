//! What a user reads when the file is wrong.

use super::*;

const GOOD: &str = "\
apiVersion: sluice.dev/v1alpha1
kind: ConsumerGroup
metadata:
  name: telemetry
spec:
  groupId: DEFAULT_GROUP
  instance:
    amqpHost: localhost
    caBundle: {file: ca.pem}
  delivery:
    leaseDuration: 25s
";

/// Loads the text from a file, and gives the file's directory as well.
fn load_text(text: impl AsRef<[u8]>) -> (tempfile::TempDir, Result<Document, ConfigError>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("consumer-group.yaml");
    std::fs::write(&path, text).unwrap();
    let loaded = load(&path);
    (directory, loaded)
}

fn message(text: impl AsRef<[u8]>) -> String {
    load_text(text).1.unwrap_err().to_string()
}

fn replaced(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from:?} is not in the document");
    message(GOOD.replacen(from, to, 1))
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
}

#[test]
fn a_good_file_is_loaded_and_its_paths_count_from_its_directory() {
    let (directory, loaded) = load_text(GOOD);
    let group = loaded.unwrap();
    assert_eq!(group.metadata.name, "telemetry");
    assert_eq!(group.spec.instance.ca_bundle, Some(CaBundle::File(directory.path().join("ca.pem"))));

    let absolute = load_text(GOOD.replace("ca.pem", "/etc/ssl/ca.pem")).1.unwrap();
    assert_eq!(absolute.spec.instance.ca_bundle, Some(CaBundle::File("/etc/ssl/ca.pem".into())));
}

#[test]
fn json_is_loaded_as_well() {
    let json = r#"{"apiVersion": "sluice.dev/v1alpha1", "kind": "ConsumerGroup", "metadata": {"name": "a"},
        "spec": {"groupId": "g", "instance": {"amqpHost": "h", "amqpPort": 1}}}"#;
    assert_eq!(load_text(json).1.unwrap().spec.instance.amqp_port, 1);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let message = load(Path::new("/nowhere/consumer-group.yaml")).unwrap_err().to_string();
    says(&message, &["cannot read /nowhere/consumer-group.yaml", "No such file", "--config must name"]);
}

#[test]
fn a_file_that_is_no_text_is_named() {
    says(&message([0xff, 0xfe, 0x00, 0xd8]), &["cannot read ", "UTF-8"]);
}

#[test]
fn an_unknown_field_is_named_with_its_line_and_the_fields_there_are() {
    let message = replaced("leaseDuration", "leaseDurations");
    says(
        &message,
        &[
            "consumer-group.yaml, line 11, column 5: there is no field \"leaseDurations\" here",
            "correct or remove it",
            "leaseDuration, handBack",
        ],
    );
}

#[test]
fn an_error_shows_no_value_of_an_unknown_field() {
    let message = replaced("  delivery:", "  credentials: {accessKeySecret: testsecret}\n  delivery:");
    says(&message, &["line 10", "accessKeySecret", "signMethod"]);
    assert!(!message.contains("testsecret"), "{message}");
}

#[test]
fn a_missing_field_is_named() {
    says(&replaced("  groupId: DEFAULT_GROUP\n", ""), &["consumer-group.yaml, line ", "missing field", "groupId"]);
}

#[test]
fn another_kind_of_document_is_told_so() {
    let message = replaced("sluice.dev/v1alpha1", "apps/v1");
    says(&message, &["line 1, column ", "apps/v1", "a ConsumerGroup document of sluice.dev/v1alpha1 is expected"]);
    says(&replaced("kind: ConsumerGroup", "kind: Deployment"), &["line 2, column ", "Deployment", "ConsumerGroup"]);
}

#[test]
fn a_value_of_the_wrong_form_is_told_with_its_line_and_once() {
    let message = replaced("25s", "25");
    says(&message, &["line 11, column 20: ", "\"25\" has no unit; write 25s for seconds"]);
    assert_eq!(message.matches("line").count(), 1, "{message}");
    says(&replaced("25s", "[25s]"), &["line 11, column ", "a duration such as 25s"]);
}

#[test]
fn what_is_no_yaml_at_all_is_told_with_its_line() {
    says(&replaced("kind: ConsumerGroup", "kind: 'ConsumerGroup"), &["consumer-group.yaml, line ", "is expected"]);
    says(&replaced("  name: telemetry", "  name: a\n  name: b"), &["line 5, column 3: ", "duplicate"]);
    says(&message(""), &["a ConsumerGroup document of sluice.dev/v1alpha1 is expected"]);
    says(&message(format!("{GOOD}---\n{GOOD}")), &["multiple", "is expected"]);
}

#[test]
fn invalid_values_are_told_all_at_once() {
    let text = GOOD.replace("25s", "29s").replace("localhost", "amqps://localhost:5671");
    says(
        &message(text),
        &[
            "consumer-group.yaml is not a valid ConsumerGroup:\n",
            "\nspec.instance.amqpHost is \"amqps://localhost:5671\", but must be a host name",
            "\nspec.delivery.leaseDuration is 29s, but must be from 1s to 28s",
        ],
    );
}
