#![no_main]

#[path = "../checks/rules_file.rs"]
mod rules_file;

libfuzzer_sys::fuzz_target!(|data: &[u8]| rules_file::check(data));
