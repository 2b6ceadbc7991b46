#![no_main]

#[path = "../checks/portal_reply.rs"]
mod portal_reply;

libfuzzer_sys::fuzz_target!(|data: &[u8]| portal_reply::check(data));
