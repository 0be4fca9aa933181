//! The body of a frame, and the sections of a message, mean the same to us and to fe2o3's codec, or both refuse them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_fuzz::oracle::{compare, compare_message};

fuzz_target!(|bytes: &[u8]| {
    for result in [compare(bytes), compare_message(bytes)] {
        if let Err(difference) = result {
            panic!("{difference}");
        }
    }
});
