//! RFC 1982 serial numbers, as AMQP 1.0 part 2.8.10 uses them for delivery-id, delivery-count and transfer-id.
//!
//! They wrap at 2³², so they are never compared with `<`. Nothing here knows what is being counted.

use std::cmp::Ordering;
use std::fmt;

/// A number on a circle of 2³². Two numbers are comparable while they are less than 2³¹ apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Serial(pub u32);

impl Serial {
    /// The number `n` steps further on.
    #[must_use]
    pub fn plus(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }

    /// How many steps lead from `earlier` to `self`, going forward.
    #[must_use]
    pub fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Whether `self` comes after `other` on the circle.
    #[must_use]
    pub fn is_after(self, other: Self) -> bool {
        self.partial_cmp(&other) == Some(Ordering::Greater)
    }
}

impl PartialOrd for Serial {
    /// `None` for two numbers that are exactly 2³¹ apart: RFC 1982 leaves their order undefined.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.since(*other) {
            0 => Some(Ordering::Equal),
            0x8000_0000 => None,
            ahead if ahead < 0x8000_0000 => Some(Ordering::Greater),
            _ => Some(Ordering::Less),
        }
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let last = Serial(u32::MAX);
        assert!(last.plus(1).is_after(last));
        assert!(!last.is_after(last.plus(1)));
        assert_eq!(last.plus(6), Serial(5));
        assert_eq!(Serial(5).since(last), 6);
    }

    #[test]
    fn numbers_half_a_circle_apart_have_no_order() {
        assert_eq!(Serial(0).partial_cmp(&Serial(0x8000_0000)), None);
        assert!(!Serial(0).is_after(Serial(0x8000_0000)));
    }
}
