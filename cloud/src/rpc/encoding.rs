//! The one encoding that a signature is made over: RFC 3986, with `A-Za-z0-9-_.~` as they are and every other byte as `%XX`
//! in capitals (PLATFORM.md 4.1). Reading is more generous: what arrives may be any URL or form encoding.

/// Why a text is not URL-encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A `%` without two hexadecimal digits after it.
    #[error("the `%` at byte {0} is not followed by two hexadecimal digits")]
    Escape(usize),
    /// What the escapes spell is no text.
    #[error("the decoded bytes are not UTF-8")]
    NotUtf8,
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Encodes `text`.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 3);
    encode_into(&mut encoded, text);
    encoded
}

/// Appends the encoding of `text`, three bytes for one at most.
pub(super) fn encode_into(encoded: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// Decodes a name or value of a query or form; `+` is a space there.
pub fn percent_decode(text: &str) -> Result<String, DecodeError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes().enumerate();
    while let Some((position, byte)) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || bytes.next().and_then(|(_, digit)| char::from(digit).to_digit(16));
                let (Some(high), Some(low)) = (digit(), digit()) else {
                    return Err(DecodeError::Escape(position));
                };
                u8::try_from(high * 16 + low).unwrap_or(u8::MAX)
            }
            other => other,
        });
    }
    String::from_utf8(decoded).map_err(|_| DecodeError::NotUtf8)
}
