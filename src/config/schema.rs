//! The keys of the configuration file.

use crate::event::EventType;
use crate::sources::cloudtrail_sqs::CloudTrailSqsConfig;
use crate::sources::directory::DirectoryConfig;
use crate::sources::ingest::IngestConfig;
use crate::sources::k8s_log::K8sLogConfig;
use crate::sources::k8s_watch::K8sWatchConfig;
use crate::sources::k8s_webhook::K8sWebhookConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where events and state are kept.
    pub data_dir: PathBuf,
    /// Written into every event.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub organization_id: String,
    /// Where events come from.
    pub sources: Vec<SourceConfig>,
    /// Names and labels of AWS accounts, by account id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accounts: BTreeMap<String, AccountConfig>,
    /// Lookup lists that filters name as `@name`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lists: BTreeMap<String, ListConfig>,
    /// What events are looked at for. Without it no rule runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<RulesConfig>,
    /// What is known to be harmless: folders with suppressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressions: Option<SuppressionsConfig>,
    /// Probes and metrics. Off where it is not configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<AdminConfig>,
    /// How long events are kept from their collection, hours.
    #[serde(default = "retention_hours")]
    pub retention_hours: u32,
    /// How long a source may be down before that is an alert, seconds.
    #[serde(default = "source_down_after_secs")]
    pub source_down_after_secs: u64,
    /// How long a stop may take to finish what is in hand, seconds.
    #[serde(default = "shutdown_timeout_secs")]
    pub shutdown_timeout_secs: u64,
}

fn retention_hours() -> u32 {
    72
}

fn source_down_after_secs() -> u64 {
    60
}

fn shutdown_timeout_secs() -> u64 {
    25
}

/// Where rules are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RulesConfig {
    /// Folders with rule files, ours or Sigma's.
    #[serde(default)]
    pub directories: Vec<PathBuf>,
    /// Whether the rules that come with the program run.
    #[serde(default = "yes")]
    pub builtin: bool,
    /// How late an event may come and be sure to count in a rule with a state, seconds, 60 to 2,592,000 (30 days): state
    /// is kept for the rule's window and this long. What comes later is counted as late.
    #[serde(default = "late_max_secs")]
    pub late_max_secs: u64,
    /// How long what is seen for the first time waits for earlier events that come late, seconds; 0 tells it at once, and
    /// then tells it again should an earlier one come.
    #[serde(default = "first_seen_wait_secs")]
    pub first_seen_wait_secs: u64,
}

/// The shortest and the longest lateness, seconds.
pub(super) const LATE_SECS: std::ops::RangeInclusive<u64> = 60..=2_592_000;

fn late_max_secs() -> u64 {
    6 * 3_600
}

fn first_seen_wait_secs() -> u64 {
    20 * 60
}

/// Where suppressions are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SuppressionsConfig {
    /// Folders with suppression files.
    pub directories: Vec<PathBuf>,
}

fn yes() -> bool {
    true
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SourceConfig {
    /// `CloudTrail` log files in S3, announced through SQS.
    CloudtrailSqs(CloudTrailSqsConfig),
    /// Files in a folder.
    Directory(DirectoryConfig),
    /// Audit events that a Kubernetes API server posts.
    K8sWebhook(K8sWebhookConfig),
    /// The audit log file of a Kubernetes API server, followed through rotation.
    K8sLog(K8sLogConfig),
    /// A watch on the objects of a Kubernetes cluster that decide who may do what.
    K8sWatch(K8sWatchConfig),
    /// Events of host sensors, posted as NDJSON.
    Ingest(IngestConfig),
}

impl SourceConfig {
    /// The source's name.
    pub fn name(&self) -> &str {
        match self {
            Self::CloudtrailSqs(it) => &it.name,
            Self::Directory(it) => &it.name,
            Self::K8sWebhook(it) => &it.name,
            Self::K8sLog(it) => &it.name,
            Self::K8sWatch(it) => &it.name,
            Self::Ingest(it) => &it.name,
        }
    }

    /// The Kubernetes cluster whose audit events it brings; empty where none is named.
    pub fn cluster(&self) -> &str {
        match self {
            Self::CloudtrailSqs(_) | Self::Ingest(_) => "",
            Self::Directory(it) => it.cluster.as_deref().unwrap_or(""),
            Self::K8sWebhook(it) => &it.cluster,
            Self::K8sLog(it) => &it.cluster,
            Self::K8sWatch(it) => &it.cluster,
        }
    }

    /// The events that it may bring: who posts for a cluster says nothing about AWS. Empty: all.
    pub fn takes(&self) -> &'static [EventType] {
        match self {
            Self::CloudtrailSqs(_) | Self::Directory(_) => &[],
            Self::K8sWebhook(_) | Self::K8sLog(_) => &[EventType::KubernetesAudit],
            Self::K8sWatch(_) => &[EventType::KubernetesConfig, EventType::KubernetesEvent],
            Self::Ingest(_) => &[EventType::Host],
        }
    }

    /// Its `drop` filters.
    pub fn drop(&self) -> &[String] {
        match self {
            Self::CloudtrailSqs(it) => &it.drop,
            Self::Directory(it) => &it.drop,
            Self::K8sWebhook(it) => &it.drop,
            Self::K8sLog(it) => &it.drop,
            Self::K8sWatch(it) => &it.drop,
            Self::Ingest(it) => &it.drop,
        }
    }
}

/// What is known of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountConfig {
    /// Its display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels, written into its events as `key=value`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A lookup list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ListConfig {
    /// A file with one value a line; `#` starts a comment.
    File(PathBuf),
    /// The values.
    Values(Vec<String>),
}

/// The admin port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Address and port. Without a login it may only be a loopback address, unless `allow_public` is set.
    pub listen: String,
    /// Listen on an address that others reach, without a login: for a pod's probes behind a network policy.
    #[serde(default)]
    pub allow_public: bool,
}
