//! Entries for fuzzers, built with the feature `fuzzing`; the tests call them with a bounded number of random inputs.

mod calls;
mod entry;
mod frames;
mod performatives;
mod script;
mod setting;

pub use self::calls::fuzz_calls;
pub use self::entry::fuzz_entry;
pub use self::frames::fuzz_frames;
