//! Whatever clients send the emulator, in whatever pieces and at whatever times: frames in answer, books in order, no panic.
//! The script's form is that of `fuzz_frames`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| sluice_emulator::fuzz_frames(script));
