//! What stands for container images: programs of this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An image: what a container of it runs if the pod does not say otherwise, as `ENTRYPOINT`, `CMD` and `ENV` do.
#[derive(Debug, Clone, Default)]
pub struct Image {
    pub(super) entrypoint: Vec<String>,
    pub(super) arguments: Vec<String>,
    pub(super) programs: Vec<PathBuf>,
    pub(super) environment: Vec<(String, String)>,
}

impl Image {
    /// An image with one program of its own, which is its entry point. Wherever the pod names a program of that file
    /// name (`["/usr/bin/NAME", "drain"]` in a hook), this one is meant.
    pub fn program(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        Self { entrypoint: vec![path.display().to_string()], programs: vec![path.to_owned()], ..Self::default() }
    }

    /// An image without an entry point: the pod says what to run, a program of this machine's `PATH`.
    pub fn shell() -> Self {
        Self::default()
    }

    /// With one more program, found by its file name.
    #[must_use]
    pub fn with_program(mut self, path: impl AsRef<Path>) -> Self {
        self.programs.push(path.as_ref().to_owned());
        self
    }

    /// With these arguments, unless the pod has `args` or a `command`.
    #[must_use]
    pub fn with_arguments<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.arguments = arguments.into_iter().map(str::to_owned).collect();
        self
    }

    /// With one more variable, unless the pod sets it.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }
}

/// The images that a kubelet can "pull".
#[derive(Debug, Clone, Default)]
pub struct Images(BTreeMap<String, Image>);

impl Images {
    /// None. A container of an unknown image waits with `ErrImagePull`.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more. `name` is the last part of a reference's path: `sluice-sidecar` is also
    /// `ghcr.io/sluice-dev/sluice-sidecar:0.1.0`.
    #[must_use]
    pub fn with(mut self, name: &str, image: Image) -> Self {
        self.0.insert(name.to_owned(), image);
        self
    }

    /// The image that a reference means.
    pub(super) fn find(&self, reference: &str) -> Option<&Image> {
        let name = reference.split('@').next().unwrap_or_default();
        let name = name.rsplit('/').next().unwrap_or_default();
        let name = name.split(':').next().unwrap_or_default();
        self.0.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_found_by_the_last_part_of_its_path() {
        let images = Images::new().with("app", Image::shell());
        for reference in ["app", "app:1", "ghcr.io/a/app:1.2", "localhost:5000/app@sha256:0", "a/app:1@sha256:0"] {
            assert!(images.find(reference).is_some(), "{reference}");
        }
        for reference in ["", "apps", "app/other", "other:app"] {
            assert!(images.find(reference).is_none(), "{reference}");
        }
    }
}
