//! Amounts of memory as Kubernetes users write them: `64Mi`, `1G`, `65536`.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A number of bytes. Written as a whole number, alone or with one of Kubernetes' suffixes: `k`, `M`, `G`, `T` (powers
/// of 1000), `Ki`, `Mi`, `Gi`, `Ti` (powers of 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteQuantity(u64);

/// Why a text is not a [`ByteQuantity`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ByteQuantityError {
    /// The text is not a number with a suffix.
    #[error(
        "{0:?} is not a number of bytes; write a whole number, alone or with a suffix (k, M, G, T, Ki, Mi, Gi, Ti), such as 64Mi"
    )]
    Syntax(String),
    /// More than can be counted.
    #[error("{0:?} is more bytes than can be counted")]
    TooMany(String),
}

/// The binary suffixes, from large to small: what [`ByteQuantity`] is printed with.
const BINARY: [(&str, u64); 4] = [("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
const DECIMAL: [(&str, u64); 4] = [("T", 1_000_000_000_000), ("G", 1_000_000_000), ("M", 1_000_000), ("k", 1_000)];

impl ByteQuantity {
    /// So many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many times 1024 bytes.
    pub const fn from_kib(kib: u64) -> Self {
        Self(kib.saturating_mul(1 << 10))
    }

    /// So many times 1024² bytes.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteQuantity {
    type Err = ByteQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let syntax = || ByteQuantityError::Syntax(text.to_owned());
        let too_many = || ByteQuantityError::TooMany(text.to_owned());
        let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        if number.is_empty() {
            return Err(syntax());
        }
        let factor = match suffix {
            "" => 1,
            _ => BINARY.iter().chain(&DECIMAL).find(|(name, _)| *name == suffix).ok_or_else(syntax)?.1,
        };
        let count: u64 = number.parse().map_err(|_| too_many())?;
        count.checked_mul(factor).map(Self).ok_or_else(too_many)
    }
}

impl fmt::Display for ByteQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match BINARY.iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor)) {
            Some((suffix, factor)) => write!(f, "{}{suffix}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for ByteQuantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ByteQuantityVisitor)
    }
}

#[cfg(feature = "kube")]
impl serde::Serialize for ByteQuantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "kube")]
impl schemars::JsonSchema for ByteQuantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteQuantity".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"x-kubernetes-int-or-string": true})
    }
}

struct ByteQuantityVisitor;

impl Visitor<'_> for ByteQuantityVisitor {
    type Value = ByteQuantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of bytes such as 64Mi, 1G or 65536")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ByteQuantity, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<ByteQuantity, E> {
        Ok(ByteQuantity(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<ByteQuantity, E> {
        self.visit_str(&number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_quantity_is_a_number_with_a_suffix() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65_536),
            ("1k", 1_000),
            ("1Ki", 1_024),
            ("2M", 2_000_000),
            ("64Mi", 67_108_864),
            ("1G", 1_000_000_000),
            ("1Gi", 1_073_741_824),
            ("3T", 3_000_000_000_000),
            ("3Ti", 3_298_534_883_328),
        ] {
            assert_eq!(text.parse(), Ok(ByteQuantity::from_bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", " ", "Mi", "-1", "+1", "1.5Gi", "64 Mi", "64MB", "64mi", "1K", "1m", "1e3", "64Mi "] {
            assert_eq!(text.parse::<ByteQuantity>(), Err(ByteQuantityError::Syntax(text.to_owned())), "{text}");
        }
        for text in ["18446744073709551616", "16777216Ti", "99999999999999999999Ki"] {
            assert_eq!(text.parse::<ByteQuantity>(), Err(ByteQuantityError::TooMany(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_document_may_write_the_number_alone() {
        for text in ["65536", "\"65536\"", "\"64Ki\""] {
            assert_eq!(serde_json::from_str::<ByteQuantity>(text).unwrap().bytes(), 65_536, "{text}");
            assert_eq!(serde_saphyr::from_str::<ByteQuantity>(text).unwrap().bytes(), 65_536, "{text}");
        }
        assert_eq!(serde_saphyr::from_str::<ByteQuantity>("64Ki").unwrap().bytes(), 65_536);
        for text in ["-1", "\"x\"", "1.5", "true"] {
            assert!(serde_json::from_str::<ByteQuantity>(text).is_err(), "{text}");
            let message = serde_saphyr::from_str::<ByteQuantity>(text).unwrap_err().to_string();
            assert!(message.contains("number of bytes"), "{message}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(bytes: u64, kib in 0u64..1 << 50) {
            for quantity in [ByteQuantity::from_bytes(bytes), ByteQuantity::from_kib(kib)] {
                prop_assert_eq!(quantity.to_string().parse(), Ok(quantity));
            }
        }

        #[test]
        fn reading_never_panics(text in "\\PC*", near in "[0-9KMGTki.]{0,30}") {
            let _ = text.parse::<ByteQuantity>();
            let _ = near.parse::<ByteQuantity>();
        }
    }
}
