//! The buffer that payloads are put together in, from pieces and without an allocation for each.

use std::ops::Deref;

use bytes::{Bytes, BytesMut};

/// How much is allocated at a time.
const BUFFER: usize = 64 * 1024;

/// A number, written out without an allocation.
pub(super) struct Digits {
    bytes: [u8; 20],
    from: usize,
}

pub(super) fn digits(number: impl Into<u64>) -> Digits {
    let mut number = number.into();
    let mut digits = Digits { bytes: [b'0'; 20], from: 20 };
    loop {
        digits.from -= 1;
        digits.bytes[digits.from] += u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            return digits;
        }
    }
}

impl Deref for Digits {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(&self.bytes[self.from..]).unwrap_or_default()
    }
}

/// Writes one payload after the other.
#[derive(Debug, Default)]
pub(super) struct Pen {
    buffer: BytesMut,
}

impl Pen {
    pub(super) fn write(&mut self, parts: &[&str]) {
        for part in parts {
            self.buffer.extend_from_slice(part.as_bytes());
        }
    }

    pub(super) fn write_bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// How much of the payload is written.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Takes back what was written after the first `len` bytes.
    pub(super) fn cut(&mut self, len: usize) {
        self.buffer.truncate(len);
    }

    /// Puts so many spaces in between, at `at`.
    pub(super) fn pad(&mut self, at: usize, spaces: usize) {
        let end = self.buffer.len();
        self.buffer.resize(end + spaces, b' ');
        self.buffer.copy_within(at..end, at + spaces);
        let gap = at..end.min(at + spaces);
        self.buffer[gap].fill(b' ');
    }

    /// The payload that is ready.
    pub(super) fn take(&mut self) -> Bytes {
        let payload = self.buffer.split().freeze();
        if self.buffer.capacity() < BUFFER / 64 {
            self.buffer.reserve(BUFFER);
        }
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_everybody_writes_them() {
        for number in [0, 7, 10, 99, 100, 65_536, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(&*digits(number), number.to_string());
        }
    }

    #[test]
    fn spaces_are_put_in_between_and_nothing_is_lost() {
        for spaces in [0, 1, 3, 100] {
            let mut pen = Pen::default();
            pen.write(&["before", "after"]);
            pen.pad(6, spaces);
            assert_eq!(pen.take(), format!("before{}after", " ".repeat(spaces)));
        }
    }
}
