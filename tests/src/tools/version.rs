//! What version a program says it is.

/// A minor version of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) minor: u32,
}

impl Version {
    /// The first version that stands in what a program says of itself: `Kubernetes v1.36.2`, `go version go1.26.8 …`.
    pub(super) fn of(said: &str) -> Option<Self> {
        let version = |word: &str| Self::parse(word.trim_start_matches("go").trim_start_matches('v'));
        said.split_whitespace().find_map(version)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.');
        let major = numbers.next()?.parse().ok()?;
        // `1.26rc1` is a 1.26, and `21` a 21.0.
        let minor = numbers.next().unwrap_or("0");
        let digits = minor.find(|character: char| !character.is_ascii_digit()).unwrap_or(minor.len());
        Some(Self { major, minor: minor[..digits].parse().ok()? })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: u32, minor: u32) -> Version {
        Version { major, minor }
    }

    #[test]
    fn versions_are_read_from_what_programs_say() {
        assert_eq!(Version::of("Kubernetes v1.36.2\n"), Some(version(1, 36)));
        assert_eq!(Version::of("Client Version: v1.33.0-rc.1\nKustomize Version: v5.7.1"), Some(version(1, 33)));
        assert_eq!(Version::of("go version go1.26.8 linux/amd64"), Some(version(1, 26)));
        assert_eq!(Version::of("go version go1.27rc1 linux/amd64"), Some(version(1, 27)));
        assert_eq!(Version::of("v18.20.4\n"), Some(version(18, 20)));
        assert_eq!(Version::of("javac 17.0.15"), Some(version(17, 0)));
        assert_eq!(Version::of("javac 21"), Some(version(21, 0)));
        assert_eq!(Version::of("Apache Maven 3.8.7\nMaven home: /usr/share/maven"), Some(version(3, 8)));
        assert_eq!(Version::of("no version"), None);
    }
}
