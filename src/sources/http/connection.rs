//! One connection: handshake, requests one after the other, and each request's way to a durable 200 or a refusal.

use super::access;
use super::body::{self, Bounds, Taken};
use super::credentials::Security;
use super::listener::{Door, Inside, Server};
use super::pace::{Pace, Paced};
use super::peer::Peer;
use super::refusal::Refusal;
use crate::clock::Stopwatch;
use crate::metrics::{self, Metric};
use crate::sources::{Delivery, Outcome};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, EXPECT, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, Error as TlsError};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// The longest head of a request, bytes. An API server's has a few hundred.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// How much of a body is read at once, bytes.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// How long a commit may take before the client hears that it is to come again.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// A body adds a second for so many bytes: they are decoded before they are committed.
const BYTES_PER_SECOND: u64 = 16 << 20;
/// An API server gives up after 30 s, this much of which is left for the commit of a long body.
const ANSWER_WITHIN_MAX: Duration = Duration::from_secs(20);

/// Serves one connection to its end.
pub(super) async fn run(stream: TcpStream, from: SocketAddr, inside: Arc<Inside>) {
    let (mut server, mut stop) = (inside.server.clone(), inside.at.stop.clone());
    let Some(security) = server.borrow_and_update().clone() else { return };
    let _ = stream.set_nodelay(true);
    let config = match security {
        Security::Tls(config) => config,
        Security::Plain => return talk(stream, Peer { names: None }, from, (inside, server)).await,
    };
    let handshake = tokio::time::timeout(inside.limits.header_timeout, TlsAcceptor::from(config).accept(stream));
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        _ = stop.wait_for(|it| *it) => return,
    };
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return inside.refused(None, from, handshake_name(&error), &error, ""),
        Err(_) => return inside.refused(None, from, "slow_handshake", &"the handshake took too long", ""),
    };
    let peer = Peer::of(stream.get_ref().1.peer_certificates());
    talk(stream, peer, from, (inside, server)).await;
}

/// Answers requests until the connection ends, or others are to begin otherwise.
async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    from: SocketAddr,
    (inside, mut server): (Arc<Inside>, Server),
) {
    let mut stop = inside.at.stop.clone();
    let peer = Arc::new(peer);
    let pace = Pace::new(inside.limits.header_timeout);
    let service = {
        let (inside, pace) = (Arc::clone(&inside), pace.clone());
        hyper::service::service_fn(move |request| {
            let (inside, peer, pace) = (Arc::clone(&inside), Arc::clone(&peer), pace.clone());
            async move { Ok::<_, Infallible>(answer(&inside, &peer, &pace, from, request).await) }
        })
    };
    let io = TokioIo::new(Paced::new(stream, pace.clone()));
    let mut http = http1::Builder::new();
    http.max_buf_size(BUFFER_BYTES_MAX).max_header_size(HEAD_BYTES_MAX);
    let mut connection = std::pin::pin!(http.serve_connection(io, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = either(&mut server, &mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    match ended {
        _ if pace.is_late() => inside.refused(None, from, "slow_head", &"the head of a request took too long", ""),
        Err(error) if error.is_parse() => inside.refused(None, from, "bad_request", &error, ""),
        Err(error) => tracing::debug!(%from, %error, "a connection ended"),
        Ok(()) => {}
    }
}

/// Waits until there is another certificate, or the source is to stop.
async fn either(server: &mut Server, stop: &mut tokio::sync::watch::Receiver<bool>) {
    tokio::select! {
        _ = server.changed() => {}
        _ = stop.wait_for(|it| *it) => {}
    }
}

/// What to call a failed handshake.
fn handshake_name(error: &std::io::Error) -> &'static str {
    match error.get_ref().and_then(|it| it.downcast_ref::<TlsError>()) {
        Some(TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => "certificate_expired",
        Some(TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => "certificate_issuer",
        Some(TlsError::InvalidCertificate(_)) => "certificate",
        // It does not trust our certificate, mostly.
        Some(TlsError::AlertReceived(_)) => "alert",
        _ => "handshake",
    }
}

async fn answer(inside: &Arc<Inside>, peer: &Peer, pace: &Pace, from: SocketAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let turn = pace.busy();
    let watch = Stopwatch::start();
    let (head, mut body) = request.into_parts();
    let door = inside.doors.iter().find(|it| it.route.path.as_ref().is_none_or(|path| path == head.uri.path()));
    let taken = match door {
        None => Err(Refusal::NoSuchPath),
        Some(_) if head.method != Method::POST => Err(Refusal::Method),
        Some(door) => match access::check(&door.route, &door.tokens, peer, &head.headers) {
            Ok(()) => receive(inside, door, &mut body).await,
            Err(refusal) => Err(refusal),
        },
    };
    let refusal = match (taken, door) {
        (Ok(()), door) => {
            let source = door.map_or("", |it| &it.route.source);
            inside.at.metrics.observe(&metrics::HTTP_ANSWER, source, watch.elapsed());
            pace.rest(turn);
            return Response::new(Full::default());
        }
        (Err(refusal), _) => refusal,
    };
    let advice = door.filter(|_| matches!(refusal, Refusal::TooLarge(_))).map_or("", |it| it.route.too_large_advice);
    let detail = format!("{}{advice}", refusal.detail());
    inside.refused(door.map(|it| &it.route), from, refusal.name(), &refusal, &detail);
    let keeps = refusal.keeps_connection();
    if !keeps {
        pace.leave(body::LINGER);
    }
    // Who waits to be asked for the body sends none.
    if !head.headers.contains_key(EXPECT) {
        let pace = pace.clone();
        tokio::spawn(async move {
            body::linger(body).await;
            if keeps {
                pace.rest(turn);
            }
        });
    }
    refuse(&refusal)
}

fn refuse(refusal: &Refusal) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{refusal}\n")));
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if let Some(secs) = refusal.retry_after_secs() {
        headers.insert(RETRY_AFTER, secs.into());
    }
    if !refusal.keeps_connection() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    match refusal.status() {
        StatusCode::UNAUTHORIZED => headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        StatusCode::METHOD_NOT_ALLOWED => headers.insert(ALLOW, HeaderValue::from_static("POST")),
        _ => None,
    };
    response
}

/// Takes a body in, and returns when it is durable.
async fn receive(inside: &Arc<Inside>, door: &Door, body: &mut Incoming) -> Result<(), Refusal> {
    if let Some(why) = inside.at.handoff.paused() {
        return Err(Refusal::Paused(why));
    }
    let in_hand = Shown::new(inside, &metrics::IN_FLIGHT, &door.route.source, 1.0);
    let bounds = Bounds {
        budget: &inside.budget,
        spool: &inside.at.handoff.spool(),
        bytes_max: door.route.body_bytes_max,
        timeout: inside.limits.body_timeout,
    };
    let taken = body::take(body, bounds).await?;
    deliver(inside, door, taken, in_hand).await
}

/// Hands a body over. It goes on by itself when the client is not waited for any longer: then the repeat is known.
async fn deliver(inside: &Arc<Inside>, door: &Door, taken: Taken, in_hand: Shown) -> Result<(), Refusal> {
    let mut delivery = Delivery::new(&door.route.source, format!("https:{}", door.route.path.as_deref().unwrap_or("/")));
    delivery.bytes = taken.bytes;
    delivery.input = taken.input.clone();
    let within = (ANSWER_WITHIN + Duration::from_secs(taken.bytes / BYTES_PER_SECOND)).min(ANSWER_WITHIN_MAX);
    let work = {
        let held = Shown::new(inside, &metrics::HTTP_BYTES, &door.route.source, taken.bytes as f64);
        let inside = Arc::clone(inside);
        tokio::spawn(async move {
            let outcome = inside.at.handoff.deliver(delivery).await;
            drop((taken, held, in_hand));
            outcome
        })
    };
    let not_taken = |why: String| {
        inside.at.metrics.add(&metrics::ERRORS, &door.route.source, "deliver", 1.0);
        Refusal::NotTaken(why)
    };
    match tokio::time::timeout(within, work).await {
        Ok(Ok(Ok(Outcome::Done))) => Ok(()),
        Ok(Ok(Ok(Outcome::Suspect(why)))) => Err(not_taken(why)),
        Ok(Ok(Err(error))) => Err(not_taken(error.to_string())),
        Ok(Err(error)) => Err(not_taken(error.to_string())),
        Err(_) => Err(Refusal::NotInTime),
    }
}

/// Something that a gauge shows for as long as it is there.
struct Shown {
    inside: Arc<Inside>,
    metric: &'static Metric,
    source: String,
    value: f64,
}

impl Shown {
    fn new(inside: &Arc<Inside>, metric: &'static Metric, source: &str, value: f64) -> Self {
        inside.at.metrics.add(metric, source, "", value);
        Self { inside: Arc::clone(inside), metric, source: source.to_owned(), value }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.inside.at.metrics.add(self.metric, &self.source, "", -self.value);
    }
}
