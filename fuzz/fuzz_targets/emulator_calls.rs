//! Whatever is asked of the emulator's OpenAPI and STS: an answer, and no panic. The request's form is that of `fuzz_call`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|request: &[u8]| sluice_emulator::fuzz_call(request));
