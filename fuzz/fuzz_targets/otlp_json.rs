#![no_main]

use libfuzzer_sys::fuzz_target;
use tracelake_fuzz::{Format, decoded};

fuzz_target!(|bytes: &[u8]| decoded(bytes, Format::OtlpJson));
