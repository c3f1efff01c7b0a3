//! Of several replicas one watches: leader election by a Lease (coordination.k8s.io/v1), as Kubernetes' own components do.
//!
//! The leader writes into the Lease how far each watch was stored, so that its successor, whose store is another, goes on
//! from there: what was stored is not stored again, and what happened while nobody watched is not missed.

use super::api::{Access, ApiError, of_kube};
use super::config::LeaseConfig;
use super::term::{Positions, Term};
use super::vitals::Vitals;
use crate::metrics;
use crate::sources::Surroundings;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// The Lease's annotation with [`Positions`], as JSON.
const POSITIONS: &str = "planewatch/positions";
/// The Lease's annotation with the time at which they last changed, RFC 3339.
const POSITIONS_TIME: &str = "planewatch/positions-time";
/// Positions are written at most this often. What a leader stored after its last word, its successor stores again.
const WORD_INTERVAL: Duration = Duration::from_secs(1);
/// How long one request about the Lease may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a write is tried when others write at the same time.
const WRITES_MAX: usize = 3;
/// What `/readyz` and the metrics call the Lease.
const LEASE: &str = "lease";

/// A candidate.
pub(super) struct Elector {
    access: Arc<Access>,
    config: LeaseConfig,
    identity: String,
    source: String,
    at: Surroundings,
    vitals: Arc<Vitals>,
    /// The Lease as this replica wrote it.
    held: Option<Lease>,
    /// What was last read in the Lease or written into it, and when that changed: a Lease that is made anew has it again.
    word: (Positions, Timestamp),
    /// Another's Lease, by its version, and since when it has not changed.
    seen: Option<(String, Instant)>,
}

impl Elector {
    pub(super) fn new(access: Arc<Access>, config: LeaseConfig, source: &str, at: Surroundings, vitals: Arc<Vitals>) -> Self {
        let identity = config.identity.clone().unwrap_or_else(|| identity(source, &at));
        let word = (Positions::new(), Timestamp::UNIX_EPOCH);
        Self { access, config, identity, source: source.to_owned(), at, vitals, held: None, word, seen: None }
    }

    fn api(&self) -> kube::Api<Lease> {
        kube::Api::namespaced(self.access.api().client, &self.config.namespace)
    }

    /// How long one request may take: a third of the lease leaves room for another.
    async fn within<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
        let longest = REQUEST_TIMEOUT.min(self.duration() / 3);
        match timeout(longest, request).await {
            Ok(answer) => answer.map_err(|it| match of_kube(&it) {
                ApiError::Denied(message) => ApiError::LeaseDenied(message),
                other => other,
            }),
            Err(_) => Err(ApiError::Silent(longest)),
        }
    }

    fn duration(&self) -> Duration {
        Duration::from_secs(self.config.duration_secs)
    }

    /// Waits until this replica is the leader. None: the source is to stop; or it drains, and another replica watches.
    pub(super) async fn acquire(&mut self) -> Option<Term> {
        loop {
            self.set_leader(false);
            match self.try_acquire().await {
                Ok(Some(term)) => {
                    self.vitals.up(LEASE);
                    self.set_leader(true);
                    tracing::info!(source = self.source, identity = self.identity, "is the leader");
                    return Some(term);
                }
                Ok(None) => self.vitals.up(LEASE),
                Err(error) => {
                    self.access.renew_after(&error).await;
                    self.vitals.down(LEASE, &error);
                }
            }
            let pause = self.duration().mul_f64(0.1 + fastrand::f64() / 20.0);
            if self.at.is_drain || !self.at.wait(pause).await {
                return None;
            }
        }
    }

    async fn try_acquire(&mut self) -> Result<Option<Term>, ApiError> {
        let asked = Instant::now();
        let (api, name) = (self.api(), self.config.name.clone());
        let Some(mut lease) = self.within(api.get_opt(&name)).await? else {
            let mut fresh = Lease { metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() }, spec: Some(self.spec(0)) };
            let (positions, time) = self.word.clone();
            note(&mut fresh, &positions, time);
            let made = self.within(api.create(&PostParams::default(), &fresh)).await;
            return self.written(made, asked, positions, Some(time.as_millisecond()));
        };
        self.word = word_in(&lease);
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        if !holder.is_empty() && holder != self.identity {
            let since = match &self.seen {
                Some((seen, since)) if *seen == version => *since,
                _ => asked,
            };
            self.seen = Some((version, since));
            let lasts = spec.lease_duration_seconds.map_or(self.duration(), |it| Duration::from_secs(it.max(1) as u64));
            if asked.duration_since(since) < lasts {
                return Ok(None);
            }
            tracing::warn!(source = self.source, holder, "the leader does not renew; this replica takes over");
        }
        let transitions = spec.lease_transitions.unwrap_or(0) + i32::from(holder != self.identity);
        let (positions, time) = self.word.clone();
        lease.spec = Some(self.spec(transitions));
        let result = self.within(api.replace(&name, &PostParams::default(), &lease)).await;
        self.written(result, asked, positions, Some(time.as_millisecond()))
    }

    /// What became of an attempt to write this replica's name into the Lease.
    fn written(
        &mut self,
        result: Result<Lease, ApiError>,
        asked: Instant,
        positions: Positions,
        since_ms: Option<i64>,
    ) -> Result<Option<Term>, ApiError> {
        match result {
            Ok(lease) => {
                self.held = Some(lease);
                self.seen = None;
                Ok(Some(Term::new(Some(asked + self.duration()), positions, since_ms)))
            }
            // Another was faster.
            Err(ApiError::Refused { code: 409, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.at.clock.now_ms()).unwrap_or_default()
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(self.config.duration_secs as i32),
            acquire_time: Some(MicroTime(self.now())),
            renew_time: Some(MicroTime(self.now())),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Renews, and says how far the watches are, for as long as this replica is the leader.
    pub(super) async fn keep(&mut self, term: &Term) {
        let mut positions = term.positions();
        let mut held_until = Instant::now() + self.duration();
        let mut renewal = Instant::now() + self.duration() / 3;
        loop {
            let word = Instant::now() + WORD_INTERVAL;
            tokio::select! {
                () = sleep_until(renewal.min(held_until)) => {}
                _ = async { sleep_until(word).await; positions.changed().await } => {}
            }
            let asked = Instant::now();
            let said = positions.borrow_and_update().clone();
            match self.renew(said).await {
                Ok(true) => {
                    self.vitals.up(LEASE);
                    held_until = asked + self.duration();
                    renewal = asked + self.duration() / 3;
                    term.extend(held_until);
                }
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(source = self.source, %error, "the Lease is not renewed");
                    self.access.renew_after(&error).await;
                    self.vitals.down(LEASE, &error);
                    renewal = Instant::now() + self.duration() / 10;
                }
            }
            if Instant::now() >= held_until {
                break;
            }
        }
        self.held = None;
        self.set_leader(false);
        tracing::warn!(source = self.source, identity = self.identity, "is not the leader any more");
    }

    /// False: another is the leader.
    async fn renew(&mut self, positions: Positions) -> Result<bool, ApiError> {
        self.say(positions);
        let (now, (positions, time)) = (self.now(), self.word.clone());
        self.write(|lease| {
            note(lease, &positions, time);
            lease.spec.get_or_insert_default().renew_time = Some(MicroTime(now));
        })
        .await
    }

    fn say(&mut self, positions: Positions) {
        if positions != self.word.0 {
            self.word = (positions, self.now());
        }
    }

    /// Gives the office up, so that another need not wait.
    pub(super) async fn release(&mut self, term: &Term) {
        self.say(term.positions().borrow().clone());
        let (now, (positions, time)) = (self.now(), self.word.clone());
        let given = self.write(|lease| {
            note(lease, &positions, time);
            let spec = lease.spec.get_or_insert_default();
            (spec.holder_identity, spec.lease_duration_seconds) = (Some(String::new()), Some(1));
            spec.renew_time = Some(MicroTime(now));
        });
        if let Err(error) = given.await {
            tracing::warn!(source = self.source, %error, "the Lease is not given back; it runs out");
        }
        self.set_leader(false);
    }

    /// Changes the Lease that this replica holds. False: it does not hold it any more.
    async fn write(&mut self, change: impl Fn(&mut Lease)) -> Result<bool, ApiError> {
        for _ in 0..WRITES_MAX {
            let Some(mut lease) = self.held.clone() else { return Ok(false) };
            change(&mut lease);
            let api = self.api();
            match self.within(api.replace(&self.config.name, &PostParams::default(), &lease)).await {
                Ok(written) => {
                    self.held = Some(written);
                    return Ok(true);
                }
                // Somebody wrote to it, or deleted it: a person, the next leader, or this replica, which did not hear the
                // answer any more.
                Err(ApiError::Refused { code: 404 | 409, .. }) => {
                    let found = self.within(api.get_opt(&self.config.name)).await?;
                    let holder = |it: &Lease| it.spec.as_ref().and_then(|it| it.holder_identity.clone());
                    self.held = found.filter(|it| holder(it).as_ref() == Some(&self.identity));
                }
                Err(error) => return Err(error),
            }
        }
        Err(ApiError::Refused { code: 409, message: "others keep writing to the Lease".to_owned() })
    }

    fn set_leader(&self, is_leader: bool) {
        self.at.metrics.set(&metrics::LEADER, &self.source, "", f64::from(u8::from(is_leader)));
    }
}

fn word_in(lease: &Lease) -> (Positions, Timestamp) {
    let said = |name| lease.metadata.annotations.as_ref().and_then(|it| it.get(name));
    let positions = said(POSITIONS).and_then(|it| serde_json::from_str(it).ok()).unwrap_or_default();
    (positions, said(POSITIONS_TIME).and_then(|it| it.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH))
}

fn note(lease: &mut Lease, positions: &Positions, time: Timestamp) {
    let annotations = lease.metadata.annotations.get_or_insert_default();
    annotations.insert(POSITIONS.to_owned(), serde_json::to_string(positions).unwrap_or_default());
    annotations.insert(POSITIONS_TIME.to_owned(), time.to_string());
}

/// The host's name, which in a pod is the pod's, and which source in which data folder of it: the same after a restart.
fn identity(source: &str, at: &Surroundings) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let folder = at.handoff.spool();
    let folder = xxhash_rust::xxh3::xxh3_64(folder.as_os_str().as_encoded_bytes());
    format!("{}-{source}-{:08x}", host.trim(), folder as u32)
}
