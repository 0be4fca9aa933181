//! What is taken from where, and what a user reads when it is not there.

use std::fs;

use super::*;

fn variables(set: &[(&'static str, &str)]) -> Result<AccessKey, CredentialsError> {
    from_variables(|name| set.iter().find(|(set, _)| *set == name).map(|(_, value)| OsString::from(value)))
}

/// A directory with these files, and the credentials that read it.
fn directory(files: &[(&str, &str)]) -> (tempfile::TempDir, Credentials) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let credentials = Credentials::Directory(directory.path().to_owned());
    (directory, credentials)
}

/// ID, secret and token of a key.
fn parts(key: &AccessKey) -> (&str, &str, Option<&str>) {
    (key.id(), key.secret().expose(), key.security_token().map(SecretString::expose))
}

#[track_caller]
fn says(error: &CredentialsError, expected: &[&str]) {
    let message = error.to_string();
    for part in expected {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
}

#[test]
fn the_environment_gives_a_permanent_or_a_temporary_key() {
    let permanent = [(ID_VARIABLE, "testid"), (SECRET_VARIABLE, "testsecret")];
    assert_eq!(parts(&variables(&permanent).unwrap()), ("testid", "testsecret", None));
    let empty_token = [permanent[0], permanent[1], (TOKEN_VARIABLE, "")];
    assert_eq!(parts(&variables(&empty_token).unwrap()), ("testid", "testsecret", None));
    let temporary = [permanent[0], permanent[1], (TOKEN_VARIABLE, "testtoken")];
    assert_eq!(parts(&variables(&temporary).unwrap()), ("testid", "testsecret", Some("testtoken")));
}

#[test]
fn a_variable_that_is_not_set_or_empty_is_named() {
    let error = variables(&[(SECRET_VARIABLE, "testsecret")]).unwrap_err();
    says(&error, &["ALIBABA_CLOUD_ACCESS_KEY_ID is not set or is empty", "--credentials-dir"]);
    let error = variables(&[(ID_VARIABLE, "testid"), (SECRET_VARIABLE, "")]).unwrap_err();
    says(&error, &["ALIBABA_CLOUD_ACCESS_KEY_SECRET is not set or is empty", "ALIBABA_CLOUD_SECURITY_TOKEN"]);
}

#[test]
fn a_variable_that_can_t_be_a_key_is_refused_without_showing_it() {
    let error = variables(&[(ID_VARIABLE, "testid"), (SECRET_VARIABLE, "test secret\n")]).unwrap_err();
    says(&error, &["the AccessKey from the environment", "AccessKey secret", "position 5", "copy it again"]);
    assert!(!format!("{error} {error:?}").contains("test secret"));
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_named_without_showing_it() {
    use std::os::unix::ffi::OsStringExt as _;
    let error = from_variables(|_| Some(OsString::from_vec(vec![b's', 0xff]))).unwrap_err();
    says(&error, &["ALIBABA_CLOUD_ACCESS_KEY_ID is not valid UTF-8"]);
}

#[test]
fn a_directory_gives_a_permanent_or_a_temporary_key_without_line_ends() {
    let (files, credentials) = directory(&[(ID_FILE, "testid\n"), (SECRET_FILE, "testsecret\r\n")]);
    assert_eq!(parts(&credentials.current().unwrap()), ("testid", "testsecret", None));
    fs::write(files.path().join(TOKEN_FILE), "testtoken").unwrap();
    assert_eq!(parts(&credentials.current().unwrap()), ("testid", "testsecret", Some("testtoken")));
    fs::write(files.path().join(TOKEN_FILE), "\n").unwrap();
    assert_eq!(parts(&credentials.current().unwrap()), ("testid", "testsecret", None));
}

#[test]
fn a_rotated_key_is_taken_up_at_the_next_call() {
    let (files, credentials) = directory(&[(ID_FILE, "old"), (SECRET_FILE, "oldsecret")]);
    assert_eq!(credentials.current().unwrap().id(), "old");
    fs::write(files.path().join(ID_FILE), "new").unwrap();
    fs::write(files.path().join(SECRET_FILE), "newsecret").unwrap();
    assert_eq!(parts(&credentials.current().unwrap()), ("new", "newsecret", None));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let (files, credentials) = directory(&[(ID_FILE, "testid")]);
    let missing = files.path().join(SECRET_FILE).display().to_string();
    says(&credentials.current().unwrap_err(), &[&missing, "No such file", "needs the files accessKeyId and"]);

    let nowhere = Credentials::Directory("/nowhere".into());
    says(&nowhere.current().unwrap_err(), &["cannot read /nowhere: ", "securityToken"]);
}

#[test]
fn a_file_that_can_t_be_a_key_is_named_without_showing_it() {
    let (files, credentials) = directory(&[(ID_FILE, "testid"), (SECRET_FILE, "\n")]);
    let place = files.path().display().to_string();
    says(&credentials.current().unwrap_err(), &[&place, "the AccessKey secret is empty"]);

    fs::write(files.path().join(SECRET_FILE), "testsecret\nmore").unwrap();
    let error = credentials.current().unwrap_err();
    says(&error, &[&place, "position 11"]);
    assert!(!format!("{error} {error:?}").contains("testsecret"));

    fs::write(files.path().join(SECRET_FILE), [0xff]).unwrap();
    says(&credentials.current().unwrap_err(), &[SECRET_FILE, "UTF-8"]);
}

#[cfg(unix)]
#[test]
fn id_and_secret_are_of_one_version_while_a_mounted_secret_is_replaced() {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    // As the kubelet does it: each version in a directory of its own, `..data` turned to it, the former one removed.
    let (root, credentials) = directory(&[]);
    let publish = |version: usize| {
        let name = format!("..version-{version}");
        let inner = root.path().join(&name);
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join(ID_FILE), format!("id-{version}")).unwrap();
        fs::write(inner.join(SECRET_FILE), format!("of-id-{version}")).unwrap();
        fs::write(inner.join(TOKEN_FILE), format!("token-of-id-{version}")).unwrap();
        symlink(&name, root.path().join("..data_tmp")).unwrap();
        fs::rename(root.path().join("..data_tmp"), root.path().join("..data")).unwrap();
        if let Some(former) = version.checked_sub(1) {
            fs::remove_dir_all(root.path().join(format!("..version-{former}"))).unwrap();
        }
    };
    publish(0);

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (1..300).for_each(publish);
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            match credentials.current() {
                Ok(key) => {
                    let id = key.id();
                    let expected = (id, format!("of-{id}"), Some(format!("token-of-{id}")));
                    let (_, secret, token) = parts(&key);
                    assert_eq!((id, secret.to_owned(), token.map(str::to_owned)), expected);
                }
                Err(CredentialsError::DirectoryChanging(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert_eq!(credentials.current().unwrap().id(), "id-299");
}

#[test]
fn every_sign_method_of_a_document_has_its_hmac() {
    use sluice_crds::SignMethod as Document;
    let named =
        [Document::HmacSha256, Document::HmacSha1, Document::HmacMd5].map(|method| sign_method(method).wire_name());
    assert_eq!(named, ["hmacsha256", "hmacsha1", "hmacmd5"]);
}
