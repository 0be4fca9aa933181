//! Entries for fuzzers, built with the feature `fuzzing`; the tests call them with a bounded number of random inputs. What
//! they look for is a panic.

mod calls;
mod frames;

pub use self::calls::fuzz_call;
pub use self::frames::fuzz_connection;
