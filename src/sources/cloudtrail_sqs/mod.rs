//! Source `cloudtrail_sqs`: log files in S3, announced through a queue (protocols.md §2, §3).

mod clients;
mod config;
mod envelope;
mod fetch;
mod key;
mod objects;
mod queue;

pub use config::{BucketConfig, CloudTrailSqsConfig};
pub use envelope::{Envelope, ObjectRef, read_envelope};
pub use key::{KeyKind, key_account, key_kind};
pub use queue::run;
