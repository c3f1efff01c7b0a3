//! AWS on this machine: the emulator, and the proxy before it that makes faults.

use super::root;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub(crate) const BUCKET: &str = "trail-bucket";

/// The emulator, and the proxy. Both end with it.
pub(crate) struct Aws {
    emulator: Child,
    proxy: Option<Child>,
    port: u16,
    proxy_port: u16,
    pub(crate) s3: aws_sdk_s3::Client,
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) runtime: tokio::runtime::Runtime,
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn tool(name: &str) -> Command {
    let path = std::env::var("PLANEWATCH_TOOLS").map_or_else(|_| root().join("target/tools"), Into::into).join("aws/bin").join(name);
    assert!(path.exists(), "{} is not installed: run `make test`, which installs what the tests need", path.display());
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// One HTTP request to this machine, as simple as it gets.
pub(crate) fn http(port: u16, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    http_as(port, method, path, "application/json", body)
}

/// The same with a body of another type.
pub(crate) fn http_as(port: u16, method: &str, path: &str, kind: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}

impl Aws {
    pub(crate) fn start() -> Self {
        let port = free_port();
        let emulator = tool("ministack")
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("IOT_MTLS_ENABLED", "0")
            .env("SFTP_ENABLED", "0")
            .spawn()
            .unwrap();
        super::wait_for("the AWS emulator", || http(port, "GET", "/_ministack/health", "").is_some_and(|(status, _)| status == 200));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let endpoint = format!("http://127.0.0.1:{port}");
        let credentials = aws_sdk_s3::config::Credentials::new("test", "test", None, None, "test");
        let config = runtime.block_on(
            aws_config::defaults(aws_config::BehaviorVersion::latest())
                .region("us-east-1")
                .credentials_provider(credentials)
                .endpoint_url(&endpoint)
                .load(),
        );
        let s3 = aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build());
        let sqs = aws_sdk_sqs::Client::new(&config);
        runtime.block_on(s3.create_bucket().bucket(BUCKET).send()).unwrap();
        Self { emulator, proxy: None, port, proxy_port: 0, s3, sqs, runtime }
    }

    /// Starts the proxy with these rules; [`Aws::endpoint`] then leads through it.
    pub(crate) fn with_faults(mut self, rules: &Value) -> Self {
        let port = free_port();
        let upstream = format!("http://127.0.0.1:{}", self.port);
        let proxy = tool("microburst").args(["--upstream", &upstream, "--host", "127.0.0.1", "--port", &port.to_string()]).spawn().unwrap();
        self.proxy = Some(proxy);
        self.proxy_port = port;
        super::wait_for("the fault proxy", || http(port, "GET", "/_microburst/fired", "").is_some());
        let (status, answer) = http(port, "POST", "/_microburst/rules", &rules.to_string()).unwrap();
        assert!(status < 300, "{answer}");
        self
    }

    /// What the proxy did.
    pub(crate) fn fired(&self) -> usize {
        let (_, body) = http(self.proxy_port, "GET", "/_microburst/fired", "").unwrap();
        let fired: Value = serde_json::from_str(&body).unwrap();
        fired.as_array().map_or_else(|| fired["fired"].as_array().map_or(0, Vec::len), Vec::len)
    }

    pub(crate) fn endpoint(&self) -> String {
        let port = if self.proxy.is_some() { self.proxy_port } else { self.port };
        format!("http://127.0.0.1:{port}")
    }

    pub(crate) fn queue(&self, name: &str) -> String {
        self.runtime.block_on(self.sqs.create_queue().queue_name(name).send()).unwrap().queue_url.unwrap()
    }

    /// The bucket announces its objects to this queue.
    pub(crate) fn announce_to(&self, queue_url: &str) {
        let arn = self.runtime.block_on(async {
            let name = aws_sdk_sqs::types::QueueAttributeName::QueueArn;
            let answer = self.sqs.get_queue_attributes().queue_url(queue_url).attribute_names(name.clone()).send().await.unwrap();
            answer.attributes.unwrap()[&name].clone()
        });
        use aws_sdk_s3::types::{Event, NotificationConfiguration, QueueConfiguration};
        let queue = QueueConfiguration::builder().queue_arn(arn).events(Event::S3ObjectCreated).build().unwrap();
        let configuration = NotificationConfiguration::builder().queue_configurations(queue).build();
        let call = self.s3.put_bucket_notification_configuration().bucket(BUCKET).notification_configuration(configuration);
        self.runtime.block_on(call.send()).unwrap();
    }

    pub(crate) fn put(&self, key: &str, bytes: Vec<u8>) {
        self.runtime.block_on(self.s3.put_object().bucket(BUCKET).key(key).body(ByteStream::from(bytes)).send()).unwrap();
    }

    /// Puts every file below a folder under its path there; returns the keys.
    pub(crate) fn put_folder(&self, folder: &Path) -> Vec<String> {
        let mut keys = Vec::new();
        walk(folder, &mut |path| keys.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned()));
        keys.sort();
        self.runtime.block_on(async {
            for chunk in keys.chunks(16) {
                let puts = chunk.iter().map(|key| {
                    let body = std::fs::read(folder.join(key)).unwrap();
                    let call = self.s3.put_object().bucket(BUCKET).key(key).body(body.into()).send();
                    tokio::spawn(async move { call.await.unwrap() })
                });
                for put in puts.collect::<Vec<_>>() {
                    put.await.unwrap();
                }
            }
        });
        keys
    }

    pub(crate) fn send(&self, queue_url: &str, bodies: &[String]) {
        self.runtime.block_on(async {
            for chunk in bodies.chunks(10) {
                let entries = chunk
                    .iter()
                    .enumerate()
                    .map(|(n, body)| SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body(body).build().unwrap());
                self.sqs.send_message_batch().queue_url(queue_url).set_entries(Some(entries.collect())).send().await.unwrap();
            }
        });
    }

    /// Messages on the queue, hidden ones included.
    pub(crate) fn depth(&self, queue_url: &str) -> u64 {
        use aws_sdk_sqs::types::QueueAttributeName as Name;
        let names = [Name::ApproximateNumberOfMessages, Name::ApproximateNumberOfMessagesNotVisible];
        let call = self.sqs.get_queue_attributes().queue_url(queue_url).set_attribute_names(Some(names.to_vec()));
        let attributes = self.runtime.block_on(call.send()).unwrap().attributes.unwrap();
        names.iter().map(|name| attributes[name].parse::<u64>().unwrap()).sum()
    }

    /// A `cloudtrail_sqs` source on this queue.
    pub(crate) fn source(&self, queue_url: &str) -> Value {
        json!({
            "type": "cloudtrail_sqs", "name": "trail", "queue_url": queue_url, "buckets": [{"name": BUCKET}],
            "endpoint_url": self.endpoint(), "region": "us-east-1",
        })
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        for child in [Some(&mut self.emulator), self.proxy.as_mut()].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn walk(folder: &Path, each: &mut dyn FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, each) } else { each(&path) }
    }
}

/// S3's own message about one object.
pub(crate) fn s3_message(key: &str) -> String {
    let key = key.replace('%', "%25").replace('+', "%2B").replace(' ', "+");
    json!({"Records": [{
        "eventVersion": "2.6", "eventSource": "aws:s3", "awsRegion": "us-east-1", "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": BUCKET}, "object": {"key": key, "size": 1}},
    }]})
    .to_string()
}
