//! Source `k8s_watch`: the objects of a Kubernetes cluster that decide who may do what, and core Events, as they change.
//!
//! Each kind is listed once, compared with what is stored, and watched from there; how far that came is committed with
//! the changes. So a restart goes on where it was, a 410 (etcd was compacted) brings only what was missed, and of several
//! replicas one watches at a time. The lines of a watch go through the pipeline as they came.

mod api;
mod config;
mod follow;
mod kinds;
mod known;
mod lease;
mod list;
mod outlet;
mod stream;
mod term;
mod vitals;
mod watching;

pub use config::{K8sWatchConfig, LeaseConfig};

use super::Surroundings;
use api::{Access, ApiError};
use follow::{Follower, Shared};
use kinds::Kind;
use lease::Elector;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use term::{Positions, Term};
use tokio::sync::Semaphore;
use tokio::task::{Id, JoinSet};
use vitals::Vitals;

/// The pause before a kubeconfig that does not work is read again.
const CONNECT_PAUSE: Duration = Duration::from_secs(5);
/// So many pages of lists are in memory at a time: one may stall and holds nobody up.
const LISTS_MAX: usize = 2;
/// The pause before a watch that failed begins anew.
const BUG_PAUSE: Duration = Duration::from_secs(10);
/// What `/readyz` and the metrics call the way to the API server.
const API: &str = "api";

/// Watches until it is told to stop, or, when draining, until everything that is there now is stored.
pub async fn run(config: K8sWatchConfig, at: Surroundings) {
    let alert_after = Duration::from_secs(config.alert_after_secs);
    let vitals = Arc::new(Vitals::new(&config.name, alert_after, at.clone()));
    tokio::select! {
        () = serve(&config, &at, &vitals) => {}
        () = vitals.watch() => {}
    }
}

async fn serve(config: &K8sWatchConfig, at: &Surroundings, vitals: &Arc<Vitals>) {
    let Some(access) = connect(config, at, vitals).await else { return };
    let Some(lease) = config.lease.clone() else {
        let term = Arc::new(Term::new(None, Positions::new(), None));
        return Followers::start(config, at, &access, vitals, term).all().await;
    };
    let mut elector = Elector::new(Arc::clone(&access), lease, &config.name, at.clone(), Arc::clone(vitals));
    while let Some(term) = elector.acquire().await {
        let term = Arc::new(term);
        let mut followers = Followers::start(config, at, &access, vitals, Arc::clone(&term));
        let is_done = tokio::select! {
            () = followers.all() => true,
            () = elector.keep(&term) => false,
        };
        if is_done {
            return elector.release(&term).await;
        }
        // What they say of themselves ends before it is taken back.
        followers.tasks.shutdown().await;
        vitals.retire();
    }
}

async fn connect(config: &K8sWatchConfig, at: &Surroundings, vitals: &Vitals) -> Option<Arc<Access>> {
    loop {
        match Access::new(config).await {
            Ok(access) => {
                vitals.up(API);
                return Some(Arc::new(access));
            }
            Err(error) => vitals.down(API, &error),
        }
        if at.is_drain || !at.wait(CONNECT_PAUSE).await {
            return None;
        }
    }
}

/// A task for each kind.
struct Followers {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    kinds: HashMap<Id, &'static Kind>,
}

impl Followers {
    fn start(config: &K8sWatchConfig, at: &Surroundings, access: &Arc<Access>, vitals: &Arc<Vitals>, term: Arc<Term>) -> Self {
        let shared = Arc::new(Shared {
            source: config.name.clone(),
            at: at.clone(),
            access: Arc::clone(access),
            vitals: Arc::clone(vitals),
            term,
            listing: Semaphore::new(LISTS_MAX),
        });
        let mut it = Self { shared, tasks: JoinSet::new(), kinds: HashMap::new() };
        config.kinds().for_each(|kind| it.spawn(kind, Duration::ZERO));
        it
    }

    fn spawn(&mut self, kind: &'static Kind, pause: Duration) {
        let shared = Arc::clone(&self.shared);
        let task = self.tasks.spawn(async move {
            if pause.is_zero() || shared.at.wait(pause).await {
                Follower::new(kind, shared).run().await;
            }
        });
        self.kinds.insert(task.id(), kind);
    }

    /// Until all have ended, because the source is to stop. One that fails, which it should not, begins anew.
    async fn all(&mut self) {
        while let Some(ended) = self.tasks.join_next_with_id().await {
            let Err(error) = ended else { continue };
            if let Some(kind) = self.kinds.remove(&error.id()).filter(|_| error.is_panic()) {
                tracing::error!(source = self.shared.source, resource = kind.resource, %error, "a watch failed; this is a bug");
                self.shared.vitals.down(kind.resource, &ApiError::Bug);
                self.spawn(kind, BUG_PAUSE);
            }
        }
    }
}
