//! What fuzzers call: bytes from anybody, on a path that must stand them. Behind the feature `fuzzing`, and in tests.

mod calls;

pub use self::calls::fuzz_call;
