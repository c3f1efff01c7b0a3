//! Settings of the source.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A bucket that messages may point to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BucketConfig {
    /// The bucket's name.
    pub name: String,
    /// The account that must own it; S3 refuses otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_owner: Option<String>,
    /// A role to read it with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// The external id that the role asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Its region, where that is known; found by itself otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// Settings of a `cloudtrail_sqs` source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudTrailSqsConfig {
    /// The source's name: unique, in metrics and events.
    pub name: String,
    /// The queue.
    pub queue_url: String,
    /// What its messages may point to. Others are set aside, never fetched.
    pub buckets: Vec<BucketConfig>,
    /// The queue's region; by default the one in its URL, else the environment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Another endpoint for SQS and S3: an emulator, a private link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// A profile of the AWS configuration files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// A role to read the queue with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// The external id that the role asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// How long a message stays hidden without being extended, seconds. It is extended while it is worked on.
    #[serde(default = "visibility_timeout_secs")]
    pub visibility_timeout_secs: u32,
    /// How many messages are worked on at once.
    #[serde(default = "in_flight_messages_max")]
    pub in_flight_messages_max: usize,
    /// How many bytes of objects are held in memory at once.
    #[serde(default = "in_flight_bytes_max")]
    pub in_flight_bytes_max: u32,
    /// Filters; records that match one are not stored, and counted as filtered.
    #[serde(default)]
    pub drop: Vec<String>,
}

fn visibility_timeout_secs() -> u32 {
    60
}

fn in_flight_messages_max() -> usize {
    40
}

fn in_flight_bytes_max() -> u32 {
    12 << 20
}
