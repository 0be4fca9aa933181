//! Whatever a client sends the emulator, in whatever pieces and at whatever times: no panic. The script's form is that of
//! `fuzz_connection`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| sluice_emulator::fuzz_connection(script));
