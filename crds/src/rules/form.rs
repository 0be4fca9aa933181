//! The forms of texts: what the API server is told in CEL, and the same by hand, since this process carries no engine for
//! regular expressions. The tests hold one against the other.

use std::net::IpAddr;

/// What a text must look like.
#[derive(Debug)]
#[cfg_attr(not(feature = "kube"), expect(dead_code, reason = "what the schema alone reads"))]
pub(crate) struct Form {
    /// In words that follow on "must be".
    pub(crate) expected: &'static str,
    /// The most characters.
    pub(crate) max: usize,
    /// Whether `self`, a text of not too many characters, is of the form.
    pub(crate) cel: &'static str,
    /// The same.
    looks_right: fn(&str) -> bool,
}

/// The most characters of a wrong text that are shown.
const SHOWN: usize = 100;

impl Form {
    /// Whether a text is of this form.
    pub(crate) fn fits(&self, text: &str) -> bool {
        // No character takes more than four bytes.
        text.len() <= 4 * self.max && text.chars().count() <= self.max && (self.looks_right)(text)
    }

    /// A text that is not of this form, as it is shown to a user.
    pub(crate) fn shown(&self, text: &str) -> String {
        // Somebody may have pasted a private key.
        if std::ptr::eq(self, &raw const PEM) { "a text without a certificate".to_owned() } else { quoted(text) }
    }
}

/// A text as it is shown to a user.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None if text.is_empty() => "empty".to_owned(),
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?} and so on, {} characters", &text[..end], text.chars().count()),
    }
}

/// What becomes an option of the user name (PLATFORM.md 1.4).
pub(crate) static OPTION_VALUE: Form = Form {
    expected: "an ID of at most 128 ASCII characters without white space, ',' and '|'",
    max: 128,
    cel: "self.matches('^[!-+.-{}~-]+$')",
    looks_right: |text| all(text, |b| b.is_ascii_graphic() && !matches!(b, b',' | b'|')),
};

/// RFC 1123, section 2.1, as Kubernetes takes it.
pub(crate) static DNS_LABEL: Form = Form {
    expected: "a DNS label of at most 63 characters",
    max: 63,
    cel: "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
    looks_right: |text| is_label(text, is_lower),
};

/// Labels with dots between them; Kubernetes bounds only the whole.
pub(crate) static DNS_SUBDOMAIN: Form = Form {
    expected: "a DNS subdomain of at most 253 characters",
    max: 253,
    cel: "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*$')",
    looks_right: |text| text.split('.').all(|label| is_label(label, is_lower)),
};

/// An address, or a name such as DNS, a hosts file or a container network knows; the last allow `_`.
pub(crate) static HOST: Form = Form {
    expected: "a host name or an IP address",
    max: 253,
    // What this lets through of IPv6 is not looked at closely.
    cel: "self.matches('^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\
          ([.][A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*$') || self.matches('^[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*$')",
    looks_right: |text| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        text.parse::<IpAddr>().is_ok() || text.split('.').all(|label| label.len() <= 63 && is_label(label, allowed))
    },
};

/// A host name, with a port or without.
pub(crate) static ENDPOINT: Form = Form {
    expected: "a host name, with ':' and a port if it is not 443",
    max: 259,
    cel: "self.matches('^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*\
          (:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?$')",
    looks_right: |text| {
        let (host, port) = text.split_once(':').unwrap_or((text, "443"));
        let digits = !port.starts_with('0') && all(port, |b| b.is_ascii_digit());
        digits
            && port.parse::<u16>().is_ok()
            && host.split('.').all(|label| is_label(label, |b| b.is_ascii_alphanumeric()))
    },
};

pub(crate) static SOURCE_ADDRESS: Form = Form {
    expected: "1 to 255 characters, none of them a control character",
    max: 255,
    cel: "self.matches('^[^[:cntrl:]]+$')",
    looks_right: |text| all(text, |b| !b.is_ascii_control()),
};

pub(crate) static ACCOUNT_ID: Form = Form {
    expected: "a number of at most 32 digits",
    max: 32,
    cel: "self.matches('^[0-9]+$')",
    looks_right: |text| all(text, |b| b.is_ascii_digit()),
};

pub(crate) static PATH: Form =
    Form { expected: "the path of a PEM file", max: 4096, cel: "self != ''", looks_right: |text| !text.is_empty() };

pub(crate) static PEM: Form = Form {
    expected: "one certificate or more in PEM, at most 64Ki characters",
    max: 1 << 16,
    cel: "self.contains('-----BEGIN CERTIFICATE-----')",
    looks_right: |text| text.contains("-----BEGIN CERTIFICATE-----"),
};

pub(crate) static CONFIG_KEY: Form = Form {
    expected: "a key of at most 253 letters, digits, '-', '_' and '.'",
    max: 253,
    cel: "self.matches('^[A-Za-z0-9._-]+$')",
    looks_right: |text| all(text, |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')),
};

pub(crate) static ROLE_ARN: Form = Form {
    expected: "the ARN of a role, such as acs:ram::1234567890123456:role/iot-consumer",
    max: 256,
    cel: "self.matches('^acs:ram::[!-9;-~]+:role/[!-~]+$')",
    looks_right: |text| is_arn(text, "role/"),
};

pub(crate) static OIDC_PROVIDER_ARN: Form = Form {
    expected: "the ARN of an OIDC provider, such as acs:ram::1234567890123456:oidc-provider/ack-rrsa-c1234",
    max: 256,
    cel: "self.matches('^acs:ram::[!-9;-~]+:oidc-provider/[!-~]+$')",
    looks_right: |text| is_arn(text, "oidc-provider/"),
};

pub(crate) static SESSION_NAME: Form = Form {
    expected: "2 to 64 letters, digits, '.', '@', '_' and '-'",
    max: 64,
    cel: "self.matches('^[A-Za-z0-9.@_-]{2,64}$')",
    looks_right: |text| {
        text.len() >= 2 && all(text, |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'@' | b'_' | b'-'))
    },
};

pub(crate) static EXTERNAL_ID: Form = Form {
    expected: "2 to 1224 ASCII characters without white space",
    max: 1224,
    cel: "self.matches('^[!-~][!-~]+$')",
    looks_right: |text| text.len() >= 2 && all(text, |b| b.is_ascii_graphic()),
};

pub(crate) static API_VERSION: Form = Form {
    expected: "an API group and version such as apps/v1",
    max: 300,
    cel: "self.matches('^([a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*/)?v[a-z0-9]+$')",
    looks_right: |text| {
        let (group, version) = text.rsplit_once('/').map_or((None, text), |(group, version)| (Some(group), version));
        group.is_none_or(DNS_SUBDOMAIN.looks_right) && version.strip_prefix('v').is_some_and(|rest| all(rest, is_lower))
    },
};

pub(crate) static KIND: Form = Form {
    expected: "a kind such as Deployment",
    max: 63,
    cel: "self.matches('^[A-Z][A-Za-z0-9]*$')",
    looks_right: |text| text.starts_with(|c: char| c.is_ascii_uppercase()) && all(text, |b| b.is_ascii_alphanumeric()),
};

pub(crate) static PRODUCT_KEY: Form = Form {
    expected: "a product's key of at most 64 letters, digits, '_' and '-'",
    max: 64,
    cel: "self.matches('^[A-Za-z0-9_-]+$')",
    looks_right: |text| all(text, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')),
};

/// Every form, for the tests that hold both sides against each other.
#[cfg(all(test, feature = "kube"))]
pub(crate) static ALL: [&Form; 17] = [
    &OPTION_VALUE,
    &DNS_LABEL,
    &DNS_SUBDOMAIN,
    &HOST,
    &ENDPOINT,
    &SOURCE_ADDRESS,
    &ACCOUNT_ID,
    &PATH,
    &PEM,
    &CONFIG_KEY,
    &ROLE_ARN,
    &OIDC_PROVIDER_ARN,
    &SESSION_NAME,
    &EXTERNAL_ID,
    &API_VERSION,
    &KIND,
    &PRODUCT_KEY,
];

/// One byte or more, all of them allowed.
fn all(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(allowed)
}

fn is_lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Bytes that are allowed, with `-` between them.
fn is_label(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    all(text, |b| allowed(b) || b == b'-') && !text.starts_with('-') && !text.ends_with('-')
}

/// `acs:ram::ACCOUNT:` and what is named by `kind`.
fn is_arn(text: &str, kind: &str) -> bool {
    let rest = text.strip_prefix("acs:ram::").and_then(|rest| rest.split_once(':'));
    rest.is_some_and(|(account, resource)| {
        all(account, |b| b.is_ascii_graphic())
            && resource.strip_prefix(kind).is_some_and(|name| all(name, |b| b.is_ascii_graphic()))
    })
}
