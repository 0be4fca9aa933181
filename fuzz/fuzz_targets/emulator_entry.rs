//! Whatever a client sends the emulator before its Open: let in or refused in frames, and no panic. The script's form is
//! that of `fuzz_entry`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| {
    sluice_emulator::fuzz_entry(script);
});
