//! The listener: binds, accepts up to its number of connections, keeps its credentials fresh, and says what does not work.

use super::access::Tokens;
use super::budget::Budget;
use super::credentials::{Credentials, Security};
use super::quiet::Quiet;
use super::{Limits, Listen, Route, connection};
use crate::metrics;
use crate::sources::Surroundings;
use crate::sources::own::OwnEvent;
use std::convert::Infallible;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

/// How often files are looked at, and binding is tried.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long accepting rests after it failed: no descriptors are left.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How connections begin now.
pub(super) type Server = watch::Receiver<Option<Security>>;

/// A path, and who may post there.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) route: Route,
    pub(super) tokens: Arc<Tokens>,
}

/// What all connections share.
pub(super) struct Inside {
    pub(super) limits: Limits,
    pub(super) doors: Vec<Door>,
    pub(super) budget: Budget,
    pub(super) server: Server,
    pub(super) at: Surroundings,
    /// Who is named where no path is known: the one source, or the address of several.
    label: String,
    quiet: Quiet,
    /// Dropped with the last of what is in hand.
    _busy: mpsc::Sender<Infallible>,
}

impl Inside {
    /// Counts and logs what was not taken. `detail` may hold what the client sent.
    pub(super) fn refused(&self, route: Option<&Route>, from: SocketAddr, reason: &'static str, message: &dyn Display, detail: &str) {
        let source = route.map_or(&self.label, |it| &it.source);
        self.at.metrics.add(&metrics::HTTP_REFUSED, source, reason, 1.0);
        let Some(more) = self.quiet.is_due(source, reason) else { return };
        match reason {
            "too_large" => {
                let message = format!("refused: {message}; {detail}");
                tracing::error!(source, %from, reason, more, "{message}");
                let event = OwnEvent { source, kind: "Warning", reason: "BodyTooLarge", message: &message, now_ms: self.at.clock.now_ms() };
                let (at, delivery) = (self.at.clone(), event.delivery());
                tokio::spawn(async move { at.deliver(delivery).await });
            }
            // Probes that open a port and close it are no news.
            "handshake" => tracing::info!(source, %from, reason, more, "refused: {message}"),
            _ => tracing::warn!(source, %from, reason, more, detail = ?detail, "refused: {message}"),
        }
    }
}

/// Listens until the source is to stop; then finishes what is in hand. While draining there is nothing to wait for.
pub async fn serve(listen: Listen, routes: Vec<Route>, at: Surroundings) {
    if at.is_drain {
        return;
    }
    let (sender, server) = watch::channel(None);
    let (busy, mut idle) = mpsc::channel(1);
    let mut credentials = Credentials::new(listen.tls, sender);
    let label = if let [only] = &routes[..] { only.source.clone() } else { listen.address.to_string() };
    let door = |route: Route| Door { tokens: credentials.tokens(&route.source, route.token_file.clone()), route };
    let inside = Inside {
        doors: routes.into_iter().map(door).collect(),
        budget: Budget::new(&listen.limits),
        limits: listen.limits,
        server,
        at,
        label,
        quiet: Quiet::default(),
        _busy: busy,
    };
    let inside = Arc::new(inside);
    for door in &inside.doors {
        // Not ready before it listens, though nothing is wrong.
        inside.at.health.down(&door.route.source, "does not listen yet");
    }
    let mut upkeep = Upkeep { credentials: Some(credentials), told: Vec::new(), inside: Arc::clone(&inside) };
    if let Some(listener) = upkeep.open(listen.address).await {
        tokio::join!(accept(listener, &inside), upkeep.run());
    }
    drop((upkeep, inside));
    // Nothing is ever sent: this waits for the last delivery that nobody waits for any more.
    let _ = idle.recv().await;
}

/// Looks after what may change: files, and the port until it is bound.
struct Upkeep {
    /// None while a thread reads.
    credentials: Option<Credentials>,
    /// What was last told of each door.
    told: Vec<Option<String>>,
    inside: Arc<Inside>,
}

impl Upkeep {
    /// Binds, as soon as there is a certificate. None: the source is to stop.
    async fn open(&mut self, address: SocketAddr) -> Option<TcpListener> {
        loop {
            self.refresh().await;
            let mut problem = None;
            if self.credentials.as_ref().is_some_and(Credentials::has_certificate) {
                match TcpListener::bind(address).await {
                    Ok(listener) => {
                        self.tell(None, true);
                        tracing::info!(%address, "listens");
                        return Some(listener);
                    }
                    Err(error) => problem = Some(format!("cannot listen on {address}: {error}; is another process using it?")),
                }
            }
            self.tell(problem.as_deref(), false);
            if !self.inside.at.wait(LOOK_EVERY).await {
                return None;
            }
        }
    }

    /// Until the source is to stop.
    async fn run(&mut self) {
        while self.inside.at.wait(LOOK_EVERY).await {
            self.refresh().await;
            self.tell(None, true);
        }
    }

    async fn refresh(&mut self) {
        let Some(mut credentials) = self.credentials.take() else { return };
        let read = tokio::task::spawn_blocking(move || {
            credentials.refresh();
            credentials
        });
        self.credentials = read.await.ok();
    }

    /// Says what does not work, where that is news.
    fn tell(&mut self, of_port: Option<&str>, is_open: bool) {
        let (inside, at) = (&self.inside, &self.inside.at);
        self.told.resize(inside.doors.len(), None);
        for (door, told) in inside.doors.iter().zip(&mut self.told) {
            let source = &door.route.source;
            let of_files = self.credentials.as_ref().and_then(|it| it.problem(source));
            let is_up = is_open && (door.route.token_file.is_none() || door.tokens.are_read());
            at.metrics.set(&metrics::UP, source, "", f64::from(u8::from(is_up)));
            let problem = of_port.map(str::to_owned).or(of_files);
            match &problem {
                Some(why) if problem != *told => {
                    at.metrics.add(&metrics::ERRORS, source, if of_port.is_some() { "listen" } else { "credentials" }, 1.0);
                    tracing::error!(source, "{why}");
                    at.health.down(source, why);
                }
                None if at.health.up(source) => tracing::info!(source, "ready"),
                _ => {}
            }
            *told = problem;
        }
    }
}

async fn accept(listener: TcpListener, inside: &Arc<Inside>) {
    let mut stop = inside.at.stop.clone();
    let room = Arc::new(Semaphore::new(inside.limits.connections_max));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|it| *it) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => match Arc::clone(&room).try_acquire_owned() {
                Ok(permit) => {
                    let (inside, open) = (Arc::clone(inside), Open::new(inside, permit));
                    connections.spawn(async move {
                        connection::run(stream, from, inside).await;
                        drop(open);
                    });
                }
                Err(_) => inside.refused(None, from, "connections", &"too many connections", ""),
            },
            Err(error) => {
                if inside.quiet.is_due(&inside.label, "accept").is_some() {
                    tracing::error!(source = inside.label, %error, "no connection can be accepted");
                }
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    // Who comes now is to be told at once that nobody listens.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// An open connection, counted.
struct Open {
    inside: Arc<Inside>,
    _permit: OwnedSemaphorePermit,
}

impl Open {
    fn new(inside: &Arc<Inside>, permit: OwnedSemaphorePermit) -> Self {
        inside.at.metrics.add(&metrics::HTTP_CONNECTIONS, &inside.label, "", 1.0);
        Self { inside: Arc::clone(inside), _permit: permit }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.inside.at.metrics.add(&metrics::HTTP_CONNECTIONS, &self.inside.label, "", -1.0);
    }
}
