//! Sending events on, as the API server's own webhook would: an `EventList` a request, again until the receiver says 200.
//!
//! Only its 200 says that they are durable there. So every other answer is tried again, for as long as it takes, but for a
//! request that is too large: that is halved.

use super::config::ForwardConfig;
use super::lines::PIECE_LINES_MAX;
use super::tls::Clients;
use crate::clock::Stopwatch;
use crate::metrics;
use crate::sources::Surroundings;
use crate::sources::retry::{chain, pause};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use std::time::Duration;

/// The longest body with more than one event, bytes.
const BODY_BYTES_MAX: usize = 8 << 20;
/// How long an answer may take: the receiver commits before it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of an answer is read: it is for people, and lets the connection be used again.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// The longest `Retry-After` that is obeyed; a longer one is taken for this.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(10);
/// The first pause after a failure without `Retry-After`; it doubles up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// So many failures in a row are said in `/readyz`; one passes by itself.
const FAILURES_QUIET_MAX: u32 = 3;

const LIST_START: &[u8] = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;
const LIST_END: &[u8] = b"]}";

/// What became of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// The receiver has so many of them.
    Taken(usize),
    /// The first one alone is too large for it.
    TooLarge,
}

/// What the receiver said.
enum Answer {
    Taken,
    TooLarge,
    /// Come again: after so long, if it says so. `is_pressure`: it works, and has too much to do.
    Again {
        after: Option<Duration>,
        is_pressure: bool,
        why: String,
    },
    /// It will not take them before a person has done something.
    Refused(String),
}

/// Sends to one receiver.
pub(super) struct Forwarder {
    config: ForwardConfig,
    name: String,
    at: Surroundings,
    clients: Clients,
    failures: u32,
    /// How many events go in a request: fewer after one was too large.
    events_max: usize,
}

impl Forwarder {
    pub(super) fn new(config: ForwardConfig, name: String, at: Surroundings) -> Self {
        Self { config, name, at, clients: Clients::default(), failures: 0, events_max: PIECE_LINES_MAX }
    }

    /// Sends the first of these events, as many as fit a request, until the receiver has them. None: the source is to stop.
    pub(super) async fn send(&mut self, events: &[&[u8]]) -> Option<Sent> {
        loop {
            let n = fitting(events, self.events_max);
            let watch = Stopwatch::start();
            let answer = self.ask(list_of(&events[..n])).await;
            self.at.metrics.observe(&metrics::FORWARD, &self.name, watch.elapsed());
            match answer {
                Answer::Taken => {
                    self.works();
                    self.events_max = (2 * self.events_max).min(PIECE_LINES_MAX);
                    return Some(Sent::Taken(n));
                }
                Answer::TooLarge if n == 1 => {
                    self.works();
                    return Some(Sent::TooLarge);
                }
                Answer::TooLarge => self.events_max = n / 2,
                Answer::Again { after, is_pressure, why } => {
                    self.fails(
                        if is_pressure { "throttled" } else { "forward" },
                        &why,
                        !is_pressure && self.failures >= FAILURES_QUIET_MAX,
                    );
                    let pause = after.unwrap_or_else(|| pause(self.failures, PAUSE_FIRST, PAUSE_MAX));
                    if !self.at.wait(pause).await {
                        return None;
                    }
                }
                Answer::Refused(why) => {
                    self.fails("forward", &why, true);
                    if !self.at.wait(pause(self.failures, PAUSE_FIRST, PAUSE_MAX)).await {
                        return None;
                    }
                }
            }
        }
    }

    fn works(&mut self) {
        self.failures = 0;
        if self.at.health.up(&self.name) {
            tracing::info!(source = self.name, "the receiver takes events again");
        }
        self.at.metrics.set(&metrics::UP, &self.name, "", 1.0);
    }

    fn fails(&mut self, error: &'static str, why: &str, is_down: bool) {
        self.failures = self.failures.saturating_add(1);
        self.at.metrics.add(&metrics::ERRORS, &self.name, error, 1.0);
        tracing::debug!(source = self.name, failures = self.failures, "{why}");
        if is_down {
            if self.at.health.down(&self.name, why) {
                tracing::error!(source = self.name, "{why}");
            }
            self.at.metrics.set(&metrics::UP, &self.name, "", 0.0);
        }
    }

    async fn ask(&mut self, body: Bytes) -> Answer {
        let url = self.config.url.clone();
        let again = |why: String| Answer::Again { after: None, is_pressure: false, why };
        let client = match self.clients.client(&self.config) {
            Ok(client) => client,
            Err(error) => return Answer::Refused(error.to_string()),
        };
        let mut request = Request::post(&url).header(header::CONTENT_TYPE, "application/json").header(header::USER_AGENT, "planewatch");
        if let Some(file) = &self.config.token_file {
            match std::fs::read_to_string(file) {
                Ok(token) => request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim())),
                Err(error) => return Answer::Refused(format!("forward.token_file {}: {error}", file.display())),
            }
        }
        let request = match request.body(Full::new(body)) {
            Ok(request) => request,
            Err(error) => return Answer::Refused(format!("{url}: {error}; is what token_file holds a token?")),
        };
        let response = match tokio::time::timeout(ANSWER_TIMEOUT, client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return again(format!("{url}: {}", chain(&error))),
            Err(_) => return again(format!("{url}: no answer within {} s", ANSWER_TIMEOUT.as_secs())),
        };
        let (parts, body) = response.into_parts();
        let text = Limited::new(body, ANSWER_BYTES_MAX).collect();
        let text = tokio::time::timeout(ANSWER_TIMEOUT, text).await.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes);
        let retry_after = parts.headers.get(header::RETRY_AFTER).and_then(|it| it.to_str().ok());
        let after = retry_after.and_then(|it| retry_after_of(it, self.at.clock.now_ms()));
        answer(&url, parts.status, after, &text.unwrap_or_default())
    }
}

fn answer(url: &str, status: StatusCode, after: Option<Duration>, text: &[u8]) -> Answer {
    let said = String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned();
    let why = |advice: &str| format!("{url}: the receiver answers {status}{advice} {}", said.trim().escape_debug());
    match status {
        StatusCode::OK => Answer::Taken,
        StatusCode::PAYLOAD_TOO_LARGE => Answer::TooLarge,
        StatusCode::TOO_MANY_REQUESTS => Answer::Again { after, is_pressure: true, why: why(":") },
        _ if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
            Answer::Again { after, is_pressure: after.is_some() && status == StatusCode::SERVICE_UNAVAILABLE, why: why(":") }
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Answer::Refused(why("; give it the token (forward.token_file) or certificate (forward.cert_file) that it expects:"))
        }
        StatusCode::NOT_FOUND => Answer::Refused(why("; correct the path in forward.url, it is the `path` of the receiver's source:")),
        _ => Answer::Refused(why("; forward.url should lead to a `k8s_webhook` source:")),
    }
}

/// How many of the events make a request; at least one.
fn fitting(events: &[&[u8]], events_max: usize) -> usize {
    let mut bytes = LIST_START.len() + LIST_END.len();
    let fit = events.iter().take(events_max).take_while(|it| {
        bytes += it.len() + 1;
        bytes <= BODY_BYTES_MAX
    });
    fit.count().max(1)
}

fn list_of(events: &[&[u8]]) -> Bytes {
    let mut body = Vec::with_capacity(LIST_START.len() + LIST_END.len() + events.iter().map(|it| it.len() + 1).sum::<usize>());
    body.extend_from_slice(LIST_START);
    for (n, event) in events.iter().enumerate() {
        if n > 0 {
            body.push(b',');
        }
        body.extend_from_slice(event);
    }
    body.extend_from_slice(LIST_END);
    body.into()
}

/// Seconds, or a date.
fn retry_after_of(text: &str, now_ms: i64) -> Option<Duration> {
    let pause = if let Ok(seconds) = text.trim().parse() {
        Duration::from_secs(seconds)
    } else {
        let at = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp().as_millisecond();
        Duration::from_millis(u64::try_from(at - now_ms).unwrap_or_default())
    };
    Some(pause.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_hold_so_many_events_and_bytes() {
        let small = vec![&b"{}"[..]; PIECE_LINES_MAX + 1];
        assert_eq!(fitting(&small, PIECE_LINES_MAX), PIECE_LINES_MAX);
        let frame = LIST_START.len() + LIST_END.len();
        let first = vec![b'x'; BODY_BYTES_MAX - frame - 1 - 3];
        assert_eq!(fitting(&[&first, b"{}"], 400), 2);
        assert_eq!(fitting(&[&first, b"{ }"], 400), 1);
        let alone = vec![b'x'; BODY_BYTES_MAX + 1];
        assert_eq!(fitting(&[&alone, b"{}"], 400), 1);
        assert_eq!(
            list_of(&[b"{\"a\":1}", b"{}"]),
            &b"{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"metadata\":{},\"items\":[{\"a\":1},{}]}"[..]
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = 1_764_000_000_000; // 2025-11-24T16:00:00Z
        assert_eq!(retry_after_of("5", now), Some(Duration::from_secs(5)));
        assert_eq!(retry_after_of("Mon, 24 Nov 2025 16:00:07 GMT", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after_of("Mon, 24 Nov 2025 15:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after_of("600", now), Some(RETRY_AFTER_MAX));
        assert_eq!(retry_after_of("601", now), Some(RETRY_AFTER_MAX));
        assert_eq!(retry_after_of("soon", now), None);
    }
}
