//! The one way in which these APIs write a point in time.

use jiff::Timestamp;

/// UTC to the second, as `Timestamp` and `x-acs-date` have it (PLATFORM.md 4): `2017-10-02T09:39:41Z`.
pub fn format_timestamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Reads what [`format_timestamp`] writes, and the fractions of a second that responses have
/// (`2019-11-12T11:19:13.000Z`). Only UTC, marked by `Z`.
pub fn parse_timestamp(text: &str) -> Option<Timestamp> {
    // jiff reads more than this: offsets, lower case, spaces, missing seconds.
    let bytes = text.as_bytes();
    let form = (20..=30).contains(&bytes.len())
        && bytes.ends_with(b"Z")
        && [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')].iter().all(|(at, mark)| bytes[*at] == *mark);
    if form { text.parse().ok() } else { None }
}
