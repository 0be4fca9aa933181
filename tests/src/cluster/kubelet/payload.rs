//! A volume of files that change under their reader: all at once, as the kubelet's atomic writer does it.
//!
//! The files are in a directory `..N`, the link `..data` points there, and every visible name is a link into `..data`.
//! A change makes another directory and renames the link.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// The files of a volume by their relative paths.
pub(super) type Files = BTreeMap<PathBuf, File>;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) content: Vec<u8>,
    /// Permission bits.
    pub(super) mode: u32,
}

/// What a volume holds.
#[derive(Debug)]
pub(super) struct Payload {
    folder: PathBuf,
    version: u64,
    written: Option<Files>,
}

impl Payload {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, version: 0, written: None }
    }

    /// Makes the volume hold exactly `files`.
    pub(super) fn write(&mut self, files: Files) -> io::Result<()> {
        if self.written.as_ref() == Some(&files) {
            return Ok(());
        }
        self.version += 1;
        let version = format!("..{}", self.version);
        let directory = self.folder.join(&version);
        fs::create_dir_all(&directory)?;
        for (path, file) in &files {
            let path = directory.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&path, &file.content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
        }
        let (data, next) = (self.folder.join("..data"), self.folder.join("..next"));
        let before = fs::read_link(&data).ok();
        symlink(&version, &next)?;
        fs::rename(&next, &data)?;
        self.link(&files)?;
        if let Some(before) = before {
            fs::remove_dir_all(self.folder.join(before))?;
        }
        self.written = Some(files);
        Ok(())
    }

    /// Adds the links that are missing, and removes those that lead nowhere now.
    fn link(&self, files: &Files) -> io::Result<()> {
        let names = |files: &Files| -> BTreeSet<PathBuf> {
            files
                .keys()
                .filter_map(|path| path.components().next())
                .map(|name| PathBuf::from(name.as_os_str()))
                .collect()
        };
        let (old, new) = (self.written.as_ref().map(names).unwrap_or_default(), names(files));
        for name in old.difference(&new) {
            fs::remove_file(self.folder.join(name))?;
        }
        for name in new.difference(&old) {
            symlink(Path::new("..data").join(name), self.folder.join(name))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files<const N: usize>(files: [(&str, &str); N]) -> Files {
        let file = |content: &str| File { content: content.as_bytes().to_vec(), mode: 0o640 };
        files.into_iter().map(|(path, content)| (PathBuf::from(path), file(content))).collect()
    }

    #[test]
    fn files_come_change_and_go_all_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).ok();
        let mut payload = Payload::new(folder.path().to_owned());
        payload.write(files([("id", "a"), ("deep/er", "b")])).unwrap();
        assert_eq!((read("id"), read("deep/er")), (Some("a".to_owned()), Some("b".to_owned())));
        assert_eq!(fs::metadata(folder.path().join("id")).unwrap().permissions().mode() & 0o777, 0o640);
        let link = fs::read_link(folder.path().join("..data")).unwrap();

        payload.write(files([("id", "a"), ("deep/er", "b")])).unwrap();
        assert_eq!(fs::read_link(folder.path().join("..data")).unwrap(), link, "nothing changed");

        payload.write(files([("id", "c"), ("new", "d")])).unwrap();
        assert_eq!((read("id"), read("new"), read("deep/er")), (Some("c".to_owned()), Some("d".to_owned()), None));
        let visible = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(visible, 4, "two files, ..data and one version");
    }
}
