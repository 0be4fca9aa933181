//! The table of fields against the types, the committed file, and the covering set.

use serde_json::Value;

use super::*;

/// Where `sluice-emulator profile` is committed, for people to start from.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/default.yaml");

#[test]
fn the_table_has_every_field_and_every_value_and_the_default_first() {
    let Value::Object(default) = serde_json::to_value(Profile::default()).unwrap() else { panic!("not an object") };
    assert_eq!(default.len(), FIELDS.len());
    for field in FIELDS {
        assert_eq!(default[field.name], field.values[0].0, "{}", field.name);
        for (value, _) in field.values {
            let profile = Profile::default().with(field.name, value).unwrap();
            assert_eq!(serde_json::to_value(profile).unwrap()[field.name], *value);
        }
        let error = Profile::default().with(field.name, "Nonsense").unwrap_err().to_string();
        // serde names the values that there are: the table must have all of them.
        let known = error.split('`').skip(3).step_by(2).collect::<Vec<_>>();
        let listed = field.values.iter().map(|(value, _)| *value).collect::<Vec<_>>();
        assert_eq!(known, listed, "{error}");
    }
    assert!(Profile::default().with("nonsense", "Open").is_err());
}

#[test]
fn the_committed_file_is_current_and_is_the_default() {
    let committed = std::fs::read_to_string(FILE).unwrap();
    assert_eq!(
        committed,
        Profile::commented(),
        "write it anew: sluice-emulator profile > emulator/profiles/default.yaml"
    );
    assert_eq!(Profile::read(Path::new(FILE)).unwrap(), Profile::default());
}

#[test]
fn every_two_values_meet_in_a_profile_and_there_are_few() {
    let alone = Profile::alone();
    assert_eq!(alone.len(), FIELDS.iter().map(|field| field.values.len() - 1).sum::<usize>());
    let pairs = Profile::pairs();
    assert!(pairs.len() < 40, "{}", pairs.len());
    let objects: Vec<Value> = pairs.iter().map(|it| serde_json::to_value(it.profile).unwrap()).collect();
    for (index, first) in FIELDS.iter().enumerate() {
        for second in &FIELDS[index + 1..] {
            for (one, _) in first.values {
                for (other, _) in second.values {
                    let met = objects.iter().any(|it| it[first.name] == *one && it[second.name] == *other);
                    assert!(met, "{}={one} and {}={other} never meet", first.name, second.name);
                }
            }
        }
    }
}

#[test]
fn a_file_that_names_nothing_known_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("profile.yaml");
    std::fs::write(&path, "released: Sometimes\n").unwrap();
    let error = Profile::read(&path).unwrap_err().to_string();
    assert!(error.contains("Sometimes") && error.contains("profile.yaml"), "{error}");
    std::fs::write(&path, "# nothing\n\n").unwrap();
    assert_eq!(Profile::read(&path).unwrap(), Profile::default());
    assert!(Profile::read(&directory.path().join("missing")).unwrap_err().to_string().contains("missing"));
}
