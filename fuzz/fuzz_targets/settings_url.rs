#![no_main]

#[path = "../checks/settings_url.rs"]
mod settings_url;

libfuzzer_sys::fuzz_target!(|data: &[u8]| settings_url::check(data));
