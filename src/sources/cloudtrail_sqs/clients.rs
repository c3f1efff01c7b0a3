//! AWS clients: one for the queue, one per way of reading a bucket.

use super::config::{BucketConfig, CloudTrailSqsConfig};
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::Mutex;

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the first byte may take: longer than the longest poll, 20 s.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a call is tried by the SDK itself; what comes back after that is ours to judge.
const ATTEMPTS: u32 = 3;
/// How many regions' clients are kept, in case messages name more than there are.
const CLIENTS_MAX: usize = 256;

/// The clients of one source.
pub(super) struct Clients {
    config: CloudTrailSqsConfig,
    base: SdkConfig,
    s3: Mutex<HashMap<(String, String), aws_sdk_s3::Client>>,
    /// Regions of buckets that were found to be elsewhere.
    regions: Mutex<HashMap<String, String>>,
}

impl Clients {
    /// Reads the environment's AWS configuration once.
    pub(super) async fn new(config: &CloudTrailSqsConfig) -> Self {
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(Duration::from_millis(200)))
            .timeout_config(timeouts);
        if let Some(region) = config.region.clone().or_else(|| region_of_queue(&config.queue_url)) {
            loader = loader.region(Region::new(region));
        }
        if let Some(profile) = &config.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(endpoint) = &config.endpoint_url {
            loader = loader.endpoint_url(endpoint);
        }
        Self { config: config.clone(), base: loader.load().await, s3: Mutex::default(), regions: Mutex::default() }
    }

    /// The queue's client.
    pub(super) async fn sqs(&self) -> aws_sdk_sqs::Client {
        let config = with_role(&self.base, self.config.role_arn.as_deref(), self.config.external_id.as_deref()).await;
        aws_sdk_sqs::Client::new(&config)
    }

    /// A client that reads this bucket where it is.
    pub(super) async fn s3(&self, bucket: &BucketConfig, hint: Option<&str>) -> aws_sdk_s3::Client {
        let found = self.regions.lock().await.get(&bucket.name).cloned();
        let region = found.or_else(|| bucket.region.clone()).or_else(|| hint.map(str::to_owned)).unwrap_or_default();
        let key = (bucket.name.clone(), region.clone());
        let mut clients = self.s3.lock().await;
        if let Some(client) = clients.get(&key) {
            return client.clone();
        }
        let role = bucket.role_arn.as_deref().or(self.config.role_arn.as_deref());
        let external_id = if bucket.role_arn.is_some() { bucket.external_id.as_deref() } else { self.config.external_id.as_deref() };
        let base = with_role(&self.base, role, external_id).await;
        let mut builder = aws_sdk_s3::config::Builder::from(&base);
        if !region.is_empty() {
            builder = builder.region(Region::new(region));
        }
        // Emulators and private endpoints have no host name per bucket.
        let client = aws_sdk_s3::Client::from_conf(builder.force_path_style(self.config.endpoint_url.is_some()).build());
        if clients.len() >= CLIENTS_MAX {
            clients.clear();
        }
        clients.insert(key, client.clone());
        client
    }

    /// Remembers where a bucket really is.
    pub(super) async fn moved(&self, bucket: &str, region: &str) {
        self.regions.lock().await.insert(bucket.to_owned(), region.to_owned());
    }
}

async fn with_role(base: &SdkConfig, role: Option<&str>, external_id: Option<&str>) -> SdkConfig {
    let Some(role) = role else { return base.clone() };
    let mut provider = AssumeRoleProvider::builder(role).session_name("planewatch").configure(base);
    if let Some(external_id) = external_id {
        provider = provider.external_id(external_id);
    }
    let provider = provider.build().await;
    base.to_builder().credentials_provider(aws_sdk_s3::config::SharedCredentialsProvider::new(provider)).build()
}

/// `https://sqs.REGION.amazonaws.com[.cn]/…`
fn region_of_queue(url: &str) -> Option<String> {
    let host = url.split("://").nth(1)?.split('/').next()?;
    let mut parts = host.split('.');
    let is_sqs = parts.next() == Some("sqs");
    let region = parts.next().filter(|it| it.contains('-'))?;
    (is_sqs && host.contains(".amazonaws.")).then(|| region.to_owned())
}
