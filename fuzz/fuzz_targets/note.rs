#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(strongroom_fuzz::tlog::note(input)));
