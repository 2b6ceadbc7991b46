#![no_main]

#[path = "../checks/cron.rs"]
mod cron;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cron::check(data));
