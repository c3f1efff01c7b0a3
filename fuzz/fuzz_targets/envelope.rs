//! A message body of any bytes is read or refused, and never more than that.
#![no_main]

use planewatch::sources::cloudtrail_sqs::{key_account, key_kind, read_envelope};

libfuzzer_sys::fuzz_target!(|data: &str| {
    if let Ok(envelope) = read_envelope(data) {
        for object in envelope.objects {
            let _ = (key_kind(&object.key), key_account(&object.key));
        }
    }
});
