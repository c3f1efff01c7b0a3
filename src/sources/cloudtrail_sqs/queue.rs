//! The queue: receive, keep hidden while working, delete what is durable, leave the rest.

use super::config::CloudTrailSqsConfig;
use super::envelope::{Envelope, read_envelope};
use super::objects::Objects;
use crate::clock::Stopwatch;
use crate::metrics;
use crate::sources::retry::{chain, pause};
use crate::sources::{Delivery, NotTaken, SetAside, Surroundings};
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName, QueueAttributeName};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Messages per call: the most that SQS gives.
const BATCH: i32 = 10;
/// Seconds of a long poll; while draining, of a short one.
const WAIT_SECS: i32 = 20;
const DRAIN_WAIT_SECS: i32 = 1;
/// How long deletions are gathered.
const DELETE_GATHER: Duration = Duration::from_millis(100);
/// How often a deletion that failed is tried. After that the message comes back, and the ledger knows it.
const DELETE_TRIES: usize = 3;
/// While the queue is gone or denied: a few calls a minute.
const CIRCUIT_WAIT: Duration = Duration::from_secs(20);
/// The wait after passing errors, before it doubles with each, and the longest.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// How often parked objects are looked at.
const DUE_INTERVAL: Duration = Duration::from_secs(5);
/// A message that failed stays hidden this long at most, seconds.
const LEAVE_SECS_MAX: u32 = 600;
/// Empty receives after which a queue counts as empty where its attributes may not be read.
const EMPTY_RECEIVES: u32 = 3;

struct Queue {
    client: aws_sdk_sqs::Client,
    objects: Objects,
    config: CloudTrailSqsConfig,
    at: Surroundings,
    deletions: mpsc::Sender<String>,
}

/// Reads until it is told to stop, or, when draining, until the queue is empty.
pub async fn run(config: CloudTrailSqsConfig, at: Surroundings) {
    let objects = Objects::new(config.clone(), at.clone()).await;
    let client = objects.clients.sqs().await;
    let (deletions, handles) = mpsc::channel(1000);
    let deleter = tokio::spawn(delete_all(client.clone(), config.clone(), at.clone(), handles));
    let queue = Arc::new(Queue { client, objects, config, at, deletions });
    let due = tokio::spawn(retry_due(Arc::clone(&queue)));
    receive_all(&queue).await;
    if queue.at.is_drain {
        let _ = due.await;
    } else {
        due.abort();
        let _ = due.await;
    }
    // The last sender: the deleter ends when everything is deleted.
    drop(queue);
    let _ = deleter.await;
}

async fn receive_all(queue: &Arc<Queue>) {
    let mut working = JoinSet::new();
    let mut failures = 0;
    let mut empty = 0;
    while !queue.at.is_stopping() {
        while working.len() >= queue.config.in_flight_messages_max.max(1) {
            working.join_next().await;
        }
        while working.try_join_next().is_some() {}
        if let Some(why) = queue.at.handoff.paused() {
            tracing::debug!(why, "not receiving while the store is paused");
            queue.at.wait(Duration::from_secs(1)).await;
            continue;
        }
        match queue.receive().await {
            Ok(messages) => {
                failures = 0;
                queue.works();
                empty = if messages.is_empty() { empty + 1 } else { 0 };
                for message in messages {
                    let queue = Arc::clone(queue);
                    // Boxed: what a message needs is large, and many wait.
                    working.spawn(async move { Box::pin(queue.work(message)).await });
                }
                if empty > 0 && queue.at.is_drain {
                    while working.join_next().await.is_some() {}
                    if queue.is_empty(empty).await {
                        break;
                    }
                }
            }
            Err(Some(error)) => {
                failures += 1;
                let wait = queue.failed(&error, failures);
                queue.at.wait(wait).await;
            }
            Err(None) => {}
        }
    }
    // What is in hand is finished; the deadline is the caller's.
    while working.join_next().await.is_some() {}
}

impl Queue {
    /// Receives up to ten messages. `Err(None)`: told to stop meanwhile.
    async fn receive(&self) -> Result<Vec<Message>, Option<SdkError<aws_sdk_sqs::operation::receive_message::ReceiveMessageError>>> {
        let wait = if self.at.is_drain { DRAIN_WAIT_SECS } else { WAIT_SECS };
        let call = self
            .client
            .receive_message()
            .queue_url(&self.config.queue_url)
            .max_number_of_messages(BATCH)
            .wait_time_seconds(wait)
            .visibility_timeout(self.config.visibility_timeout_secs as i32)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .send();
        let mut stop = self.at.stop.clone();
        tokio::select! {
            // Messages of a poll that is given up come back when their visibility ends.
            _ = stop.wait_for(|it| *it) => Err(None),
            result = call => result.map(|it| it.messages.unwrap_or_default()).map_err(Some),
        }
    }

    fn works(&self) {
        if self.at.health.up(&self.config.name) {
            tracing::info!(source = self.config.name, "the queue works again");
        }
        self.at.metrics.set(&metrics::UP, &self.config.name, "", 1.0);
    }

    /// Counts a failed receive; says how long to wait.
    fn failed<E>(&self, error: &SdkError<E>, failures: u32) -> Duration
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let code = error.code().unwrap_or("unreachable");
        self.at.metrics.add(&metrics::ERRORS, &self.config.name, "receive", 1.0);
        let is_open =
            ["NonExistentQueue", "QueueDoesNotExist", "AccessDenied", "InvalidClientTokenId", "KMS"].iter().any(|it| code.contains(it));
        let what_to_do = if is_open { "check queue_url, and that this role has sqs:ReceiveMessage on it" } else { "tried again" };
        if is_open || failures >= 3 {
            let why = format!(
                "queue {}: {code}: {}; {what_to_do}",
                self.config.queue_url,
                error.message().map_or_else(|| chain(error), str::to_owned)
            );
            if self.at.health.down(&self.config.name, &why) {
                tracing::error!(source = self.config.name, "{why}");
            }
            self.at.metrics.set(&metrics::UP, &self.config.name, "", 0.0);
        }
        if is_open { CIRCUIT_WAIT.mul_f64(1.0 + fastrand::f64() / 2.0) } else { backoff(failures) }
    }

    /// Whether nothing is left, visible or hidden.
    async fn is_empty(&self, empty_receives: u32) -> bool {
        use QueueAttributeName as Name;
        let names =
            [Name::ApproximateNumberOfMessages, Name::ApproximateNumberOfMessagesNotVisible, Name::ApproximateNumberOfMessagesDelayed];
        let call =
            self.client.get_queue_attributes().queue_url(&self.config.queue_url).set_attribute_names(Some(names.to_vec())).send().await;
        match call.ok().and_then(|it| it.attributes) {
            Some(attributes) => names.iter().all(|name| attributes.get(name).is_none_or(|it| it == "0")),
            None => empty_receives >= EMPTY_RECEIVES,
        }
    }

    /// One message, from its receipt to its deletion or to being left.
    async fn work(&self, message: Message) {
        let metrics = &self.at.metrics;
        metrics.add(&metrics::IN_FLIGHT, &self.config.name, "", 1.0);
        let number = |name| message.attributes.as_ref().and_then(|it| it.get(&name)).and_then(|it| it.parse::<i64>().ok());
        let receives = number(MessageSystemAttributeName::ApproximateReceiveCount).unwrap_or(1);
        if let (1, Some(sent)) = (receives, number(MessageSystemAttributeName::SentTimestamp)) {
            let lag = (self.at.clock.now_ms() - sent).max(0) as u64;
            metrics.observe(&metrics::LAG, &self.config.name, Duration::from_millis(lag));
        }
        let receipt = message.receipt_handle.clone().unwrap_or_default();
        let result = tokio::select! {
            result = self.take(&message) => result,
            () = self.keep_hidden(&receipt) => Err(NotTaken("its visibility could not be extended".to_owned())),
        };
        match result {
            Ok(()) => {
                let _ = self.deletions.send(receipt).await;
            }
            Err(error) => {
                metrics.add(&metrics::ERRORS, &self.config.name, "message", 1.0);
                tracing::warn!(source = self.config.name, message = message.message_id, %error, "left on the queue");
                self.leave(&receipt, receives).await;
            }
        }
        metrics.add(&metrics::IN_FLIGHT, &self.config.name, "", -1.0);
    }

    /// Everything that a message says. `Ok`: all of it is durable.
    async fn take(&self, message: &Message) -> Result<(), NotTaken> {
        let body = message.body.as_deref().unwrap_or_default();
        let Envelope { objects, skipped, bad } = match read_envelope(body) {
            Ok(envelope) => envelope,
            Err(why) => return self.poison(message, body, why).await,
        };
        if !skipped.is_empty() {
            let mut delivery = Delivery::new(&self.config.name, self.config.queue_url.clone());
            delivery.skipped = skipped.into_iter().map(|reason| (reason, 1)).collect();
            self.at.handoff.deliver(delivery).await?;
        }
        for why in bad {
            self.poison(message, body, why).await?;
        }
        for object in &objects {
            self.objects.take(object).await?;
        }
        Ok(())
    }

    /// A body in no form that we know: set aside once, however often it is delivered.
    async fn poison(&self, message: &Message, body: &str, why: String) -> Result<(), NotTaken> {
        let id = message.message_id.as_deref().unwrap_or_default();
        let mut delivery = Delivery::new(&self.config.name, format!("{}#{id}", self.config.queue_url));
        delivery.object = (!id.is_empty()).then(|| format!("message\u{1f}{}\u{1f}{id}\u{1f}{why}", self.config.queue_url));
        delivery.bytes = body.len() as u64;
        let excerpt = body.as_bytes()[..body.len().min(64 << 10)].to_vec();
        delivery.set_aside =
            Some(SetAside { reason: "unknown_envelope", detail: why, bytes: body.len() as u64, excerpt, next_try_ms: None });
        self.at.handoff.deliver(delivery).await.map(|_| ())
    }

    /// Extends the message's visibility at half of it, for as long as this is polled. Ends when that is not possible.
    async fn keep_hidden(&self, receipt: &str) {
        let timeout = self.config.visibility_timeout_secs.max(1);
        loop {
            tokio::time::sleep(Duration::from_millis(u64::from(timeout) * 500)).await;
            let call = self
                .client
                .change_message_visibility()
                .queue_url(&self.config.queue_url)
                .receipt_handle(receipt)
                .visibility_timeout(timeout as i32);
            match call.send().await {
                Ok(_) => self.at.metrics.add(&metrics::EXTENSIONS, &self.config.name, "", 1.0),
                // Someone else has it by now, or will: working on does no harm, since the store takes it once.
                Err(error) => tracing::debug!(source = self.config.name, error = chain(&error), "visibility not extended"),
            }
        }
    }

    async fn leave(&self, receipt: &str, receives: i64) {
        let secs = (5_u32 << receives.clamp(0, 10)).min(LEAVE_SECS_MAX);
        let secs = if self.at.is_drain { 1 } else { (f64::from(secs) * (0.5 + fastrand::f64() / 2.0)) as u32 };
        let call = self
            .client
            .change_message_visibility()
            .queue_url(&self.config.queue_url)
            .receipt_handle(receipt)
            .visibility_timeout(secs as i32);
        if let Err(error) = call.send().await {
            tracing::debug!(source = self.config.name, error = chain(&error), "the message comes back when its visibility ends");
        }
    }
}

fn backoff(failures: u32) -> Duration {
    pause(failures.saturating_add(1), BACKOFF_FIRST, BACKOFF_MAX)
}

/// Fetches parked objects again when they are due; when draining, once.
async fn retry_due(queue: Arc<Queue>) {
    loop {
        match queue.at.handoff.due(&queue.config.name).await {
            Ok(due) => {
                for entry in due {
                    let watch = Stopwatch::start();
                    if let Err(error) = queue.objects.retry(&entry).await {
                        tracing::warn!(source = queue.config.name, id = entry.id, %error, elapsed = ?watch.elapsed(), "a parked object stays parked");
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "the quarantine does not answer"),
        }
        if queue.at.is_drain || !queue.at.wait(DUE_INTERVAL).await {
            return;
        }
    }
}

/// Deletes by tens. What the answer says of each entry is read: a batch succeeds in parts.
async fn delete_all(client: aws_sdk_sqs::Client, config: CloudTrailSqsConfig, at: Surroundings, mut handles: mpsc::Receiver<String>) {
    while let Some(first) = handles.recv().await {
        let mut batch = vec![first];
        let deadline = tokio::time::Instant::now() + DELETE_GATHER;
        while batch.len() < BATCH as usize {
            match tokio::time::timeout_at(deadline, handles.recv()).await {
                Ok(Some(handle)) => batch.push(handle),
                _ => break,
            }
        }
        for tries in 0..DELETE_TRIES {
            batch = delete(&client, &config, batch).await;
            if batch.is_empty() {
                break;
            }
            at.metrics.add(&metrics::ERRORS, &config.name, "delete", batch.len() as f64);
            tokio::time::sleep(backoff(tries as u32)).await;
        }
    }
}

/// Deletes a batch; returns what is left of it.
async fn delete(client: &aws_sdk_sqs::Client, config: &CloudTrailSqsConfig, batch: Vec<String>) -> Vec<String> {
    let entries = batch
        .iter()
        .enumerate()
        .filter_map(|(n, handle)| DeleteMessageBatchRequestEntry::builder().id(n.to_string()).receipt_handle(handle).build().ok())
        .collect();
    match client.delete_message_batch().queue_url(&config.queue_url).set_entries(Some(entries)).send().await {
        Ok(answer) => {
            let failed: Vec<usize> = answer.failed.iter().filter(|it| !it.sender_fault).filter_map(|it| it.id.parse().ok()).collect();
            batch.into_iter().enumerate().filter(|(n, _)| failed.contains(n)).map(|(_, handle)| handle).collect()
        }
        Err(error) => {
            tracing::debug!(source = config.name, error = chain(&error), "not deleted yet");
            batch
        }
    }
}
