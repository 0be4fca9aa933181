//! Where credentials may go. A user names hosts in a ConsumerGroup, and the operator signs for them with keys that it holds:
//! so every host, of an API or of AMQP, is held against a list before its name is even looked up.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    host: String,
    port: u16,
}

/// Why something is not an endpoint, or not one to which credentials may go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not of the form of one.
    #[error("{text:?} is not a host: {reason}; it must look like iot.cn-shanghai.aliyuncs.com or 10.0.0.1:8443")]
    Form {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No entry of the list lets it through.
    #[error(
        "{endpoint} is not an allowed endpoint, so no credentials are sent to it; allowed are {allowed} \
         (the operator's --allow-endpoint adds more)"
    )]
    NotAllowed {
        /// Where something was to be sent.
        endpoint: Endpoint,
        /// The list.
        allowed: String,
    },
    /// An entry of the list that means nothing, or too much.
    #[error("{text:?} can't be an allowed endpoint: {reason}; give HOST:PORT, or *.DOMAIN with two labels or more")]
    Entry {
        /// The entry.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Endpoint {
    /// The port of HTTPS.
    pub const HTTPS: u16 = 443;

    /// Reads `HOST`, `HOST:PORT`, `[IPV6]:PORT`, with or without `https://` before and `/` after. Names are compared in
    /// lower case, and a dot at the end is cut off.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, EndpointError> {
        match host_and_port(text) {
            Ok((host, port)) => Ok(Self { host, port: port.unwrap_or(default_port) }),
            Err(reason) => Err(EndpointError::Form { text: text.to_owned(), reason }),
        }
    }

    /// The host: a name in lower case, or an address (an IPv6 one without brackets).
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn host_and_port(text: &str) -> Result<(String, Option<u16>), &'static str> {
    let rest = text.strip_prefix("https://").unwrap_or(text);
    if rest.contains("://") {
        return Err("only https is spoken");
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = if let Some(inner) = rest.strip_prefix('[') {
        let (address, after) = inner.split_once(']').ok_or("`[` without `]`")?;
        let address = address.parse::<Ipv6Addr>().map_err(|_| "what stands in `[]` is no IPv6 address")?;
        let port = if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or("after `]` comes `:`")?) };
        (address.to_string(), port)
    } else {
        let (name, port) = rest.split_once(':').map_or((rest, None), |(name, port)| (name, Some(port)));
        (host_name(name)?, port)
    };
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit());
    match port.map(|port| (digits(port), port.parse())) {
        None => Ok((host, None)),
        Some((true, Ok(port))) if port > 0 => Ok((host, Some(port))),
        Some(_) => Err("the port is not from 1 to 65535"),
    }
}

/// A name in the form in which names are compared.
fn host_name(text: &str) -> Result<String, &'static str> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.is_empty() || name.len() > 253 {
        return Err("a name has 1 to 253 characters");
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return Err("between the dots of a name there are 1 to 63 characters");
        }
        if !label.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_')) {
            return Err("a name has letters, digits, `-`, `_` and dots only");
        }
    }
    // Other spellings of an address (`127.1`, `0x7f.0.0.1`) are for resolvers to guess at.
    let last = name.rsplit('.').next().unwrap_or_default();
    if (last.bytes().all(|c| c.is_ascii_digit()) || last.starts_with("0x")) && name.parse::<IpAddr>().is_err() {
        return Err("it is neither a name nor an IPv4 address");
    }
    Ok(name)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One entry of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// `*.DOMAIN` or `*.DOMAIN:PORT`: every name below a domain. Kept with its leading dot.
    Below { suffix: String, port: Option<u16> },
    /// `HOST:PORT`.
    Exactly(Endpoint),
}

impl FromStr for Entry {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let refuse = |reason| EndpointError::Entry { text: text.to_owned(), reason };
        if let Some(domain) = text.strip_prefix("*.") {
            if domain.contains("://") || domain.contains('*') {
                return Err(refuse("`*` stands for the first labels of a name and for nothing else"));
            }
            let (host, port) = host_and_port(domain).map_err(|_| refuse("what follows `*.` is no domain"))?;
            if host.parse::<IpAddr>().is_ok() || !host.contains('.') {
                return Err(refuse("that would allow far too much"));
            }
            return Ok(Self::Below { suffix: format!(".{host}"), port });
        }
        match host_and_port(text).map_err(refuse)? {
            (_, None) => Err(refuse("it has no port")),
            (host, Some(port)) => Ok(Self::Exactly(Endpoint { host, port })),
        }
    }
}

impl Entry {
    fn allows(&self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Below { suffix, port } => below(endpoint, suffix) && port.is_none_or(|port| port == endpoint.port),
            Self::Exactly(exact) => exact == endpoint,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below { suffix, port: Some(port) } => write!(f, "*{suffix}:{port}"),
            Self::Below { suffix, port: None } => write!(f, "*{suffix}"),
            Self::Exactly(endpoint) => endpoint.fmt(f),
        }
    }
}

/// The domain of Alibaba Cloud, and of much that its customers put there: buckets, functions, gateways.
const DOMAIN: &str = ".aliyuncs.com";
/// What the IDs of regions begin with (`cn-shanghai`). A bucket's name has another label in the region's place
/// (`oss-cn-shanghai`), and may be `sts`.
const AREAS: [&str; 6] = ["ap", "cn", "eu", "me", "na", "us"];

/// The list of endpoints to which credentials may go: `*.aliyuncs.com` at any port, and what was added. What STS is sent
/// goes to STS alone, see [`EndpointPolicy::check_sts`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointPolicy {
    more: Vec<Entry>,
}

impl EndpointPolicy {
    /// The default list and `more`: entries of the form `*.DOMAIN`, `*.DOMAIN:PORT`, or `HOST:PORT`.
    pub fn with<'a>(more: impl IntoIterator<Item = &'a str>) -> Result<Self, EndpointError> {
        let mut policy = Self::default();
        for entry in more {
            policy.more.push(entry.parse()?);
        }
        Ok(policy)
    }

    /// Whether credentials may go there.
    pub fn check(&self, endpoint: &Endpoint) -> Result<(), EndpointError> {
        self.judge(below(endpoint, DOMAIN), endpoint, "*.aliyuncs.com")
    }

    /// Whether what STS gives keys for may go there. A token is good for whoever has it, so of the platform's names only
    /// those of STS itself will do, at the port of HTTPS: `sts.aliyuncs.com`, `sts.REGION.aliyuncs.com` and
    /// `sts-vpc.REGION.aliyuncs.com`.
    pub fn check_sts(&self, endpoint: &Endpoint) -> Result<(), EndpointError> {
        let listed = "sts.aliyuncs.com:443, sts.REGION.aliyuncs.com:443, sts-vpc.REGION.aliyuncs.com:443";
        self.judge(endpoint.port == Endpoint::HTTPS && is_sts(&endpoint.host), endpoint, listed)
    }

    /// `by_default`: whether it is allowed without being listed; `listed`: what is.
    fn judge(&self, by_default: bool, endpoint: &Endpoint, listed: &str) -> Result<(), EndpointError> {
        if by_default || self.more.iter().any(|entry| entry.allows(endpoint)) {
            return Ok(());
        }
        let mut allowed = vec![listed.to_owned()];
        allowed.extend(self.more.iter().map(Entry::to_string));
        Err(EndpointError::NotAllowed { endpoint: endpoint.clone(), allowed: allowed.join(", ") })
    }
}

/// Whether it is a name below a domain, which begins with its dot: `evil-aliyuncs.com` is not below `aliyuncs.com`.
fn below(endpoint: &Endpoint, suffix: &str) -> bool {
    endpoint.host.len() > suffix.len() && endpoint.host.ends_with(suffix)
}

fn is_sts(host: &str) -> bool {
    let region = |label: &str| {
        let (area, rest) = label.split_once('-').unwrap_or_default();
        AREAS.contains(&area) && !rest.is_empty()
    };
    let Some(name) = host.strip_suffix(DOMAIN) else { return false };
    match name.split_once('.') {
        None => name == "sts",
        Some(("sts" | "sts-vpc", rest)) => !rest.contains('.') && region(rest),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::parse(text, Endpoint::HTTPS).unwrap()
    }

    #[test]
    fn an_endpoint_is_read_in_its_forms() {
        for (text, shown) in [
            ("iot.cn-shanghai.aliyuncs.com", "iot.cn-shanghai.aliyuncs.com:443"),
            ("https://IOT.cn-shanghai.aliyuncs.com./", "iot.cn-shanghai.aliyuncs.com:443"),
            ("127.0.0.1:8443", "127.0.0.1:8443"),
            ("[::0001]:8443", "[::1]:8443"),
            ("https://[::1]", "[::1]:443"),
            ("localhost:1", "localhost:1"),
        ] {
            assert_eq!(endpoint(text).to_string(), shown);
            assert_eq!(endpoint(shown), endpoint(text));
        }
        assert_eq!((endpoint("[::1]:5").host(), endpoint("[::1]:5").port()), ("::1", 5));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for text in [
            "",
            ".",
            ":443",
            "a..b",
            ".aliyuncs.com",
            "http://iot.aliyuncs.com",
            "ftp://iot.aliyuncs.com",
            "https://https://iot.aliyuncs.com",
            "iot.aliyuncs.com@evil.example",
            "evil.example/iot.aliyuncs.com",
            "evil.example#.aliyuncs.com",
            "evil.example?.aliyuncs.com",
            "evil.example\\.aliyuncs.com",
            "evil.example%2f.aliyuncs.com",
            "iot.aliyuncs.com:0",
            "iot.aliyuncs.com:65536",
            "iot.aliyuncs.com:+1",
            "iot.aliyuncs.com:",
            "iot.aliyuncs.com:1:2",
            "iot.aliyuncs.com ",
            "iot\n.aliyuncs.com",
            "íot.aliyuncs.com",
            "[::1",
            "[::1]x:1",
            "[iot.aliyuncs.com]",
            "[127.0.0.1]",
            "127.1",
            "0x7f.0.0.0x1",
            "127.0.0.256",
            "2130706433",
        ] {
            assert!(Endpoint::parse(text, 443).is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_what_is_listed_is_allowed() {
        let policy =
            EndpointPolicy::with(["127.0.0.1:8443", "[::1]:1", "*.example.com:5671", "iot.local:443"]).unwrap();
        for text in [
            "iot.cn-shanghai.aliyuncs.com",
            "iot-06z00.amqp.iothub.aliyuncs.com:5671",
            "127.0.0.1:8443",
            "[::1]:1",
            "a.b.example.com:5671",
            "iot.local",
        ] {
            assert_eq!(policy.check(&endpoint(text)), Ok(()), "{text}");
        }
        for text in [
            "aliyuncs.com",
            "evil-aliyuncs.com",
            "iot.aliyuncs.com.evil.example",
            "aliyuncs.com.cn",
            "127.0.0.1",
            "127.0.0.2:8443",
            "[::1]:2",
            "a.example.com",
            "example.com:5671",
            "a.iot.local",
        ] {
            assert!(matches!(policy.check(&endpoint(text)), Err(EndpointError::NotAllowed { .. })), "{text}");
        }
        let error = policy.check(&endpoint("evil.example")).unwrap_err().to_string();
        assert!(error.contains("evil.example:443 is not an allowed endpoint"), "{error}");
        assert!(error.contains("*.aliyuncs.com, 127.0.0.1:8443, [::1]:1, *.example.com:5671"), "{error}");
    }

    #[test]
    fn what_sts_gives_keys_for_goes_to_sts_alone() {
        let policy = EndpointPolicy::with(["127.0.0.1:8443", "*.sts.example.com"]).unwrap();
        for text in [
            "sts.aliyuncs.com",
            "STS.cn-shanghai.aliyuncs.com.",
            "sts-vpc.cn-shanghai.aliyuncs.com",
            "sts.ap-southeast-1.aliyuncs.com",
            "sts.cn-shanghai-finance-1.aliyuncs.com:443",
            "127.0.0.1:8443",
            "a.sts.example.com",
        ] {
            assert_eq!(policy.check_sts(&endpoint(text)), Ok(()), "{text}");
        }
        for text in [
            // A bucket, a function, a gateway: whoever made it reads what is sent there.
            "sts.oss-cn-shanghai.aliyuncs.com",
            "1234567890123456.cn-shanghai.fc.aliyuncs.com",
            "sts.cn-shanghai.fc.aliyuncs.com",
            "bucket.cn-shanghai.aliyuncs.com",
            "sts-vpc.aliyuncs.com",
            "sts.cn-.aliyuncs.com",
            "sts.aliyuncs.com:8443",
            "sts.cn-shanghai.aliyuncs.com:8443",
            "aliyuncs.com",
            "sts.aliyuncs.com.evil.example",
            "127.0.0.1",
        ] {
            assert!(matches!(policy.check_sts(&endpoint(text)), Err(EndpointError::NotAllowed { .. })), "{text}");
        }
        let error = policy.check_sts(&endpoint("iot.aliyuncs.com")).unwrap_err().to_string();
        assert!(error.contains("sts.REGION.aliyuncs.com:443, ") && error.contains("127.0.0.1:8443"), "{error}");
    }

    #[test]
    fn an_entry_that_means_too_much_is_refused() {
        for text in
            ["", "*", "*.", "*.com", "*.com:443", "*.*.com", "a.*.com", "iot.local", "*.0.0.1", "*.a.com:0", "*.[::1]"]
        {
            assert!(matches!(EndpointPolicy::with([text]), Err(EndpointError::Entry { .. })), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_passes_the_default_that_does_not_end_on_a_label_border(text in "\\PC{0,40}", host in "[a-z.-]{0,20}(aliyuncs\\.com|aliyuncs\\.com\\.evil)") {
            for text in [text, host] {
                let Ok(endpoint) = Endpoint::parse(&text, 443) else { continue };
                let labels: Vec<&str> = endpoint.host().split('.').collect();
                let below = labels.len() > 2 && labels.ends_with(&["aliyuncs", "com"]);
                prop_assert_eq!(EndpointPolicy::default().check(&endpoint).is_ok(), below);
                prop_assert_eq!(Endpoint::parse(&endpoint.to_string(), 1), Ok(endpoint));
            }
        }
    }
}
