//! Whatever is asked of the emulator's OpenAPI and STS: an answer, and no panic. The calls' form is that of `fuzz_calls`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|calls: &[u8]| sluice_emulator::fuzz_calls(calls));
