#![no_main]

#[path = "../checks/event_body.rs"]
mod event_body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| event_body::check(data));
