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
use std::sync::Arc;
use std::time::Duration;
use term::{Positions, Term};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use vitals::Vitals;

/// The pause before a kubeconfig that does not work is read again.
const CONNECT_PAUSE: Duration = Duration::from_secs(5);
/// The pause before a watch that failed begins anew.
const BUG_PAUSE: Duration = Duration::from_secs(10);
/// What `/readyz` and the metrics call the way to the API server.
const API: &str = "api";

/// Watches until it is told to stop, or, when draining, until everything that is there now is stored.
pub async fn run(config: K8sWatchConfig, at: Surroundings) {
    let alert_after = Duration::from_secs(config.alert_after_secs);
    let vitals = Arc::new(Vitals::new(&config.name, &config.cluster, alert_after, at.clone()));
    tokio::select! {
        () = serve(&config, &at, &vitals) => {}
        () = vitals.watch() => {}
    }
}

async fn serve(config: &K8sWatchConfig, at: &Surroundings, vitals: &Arc<Vitals>) {
    let Some(access) = connect(config, at, vitals).await else { return };
    let Some(lease) = config.lease.clone() else {
        return follow(config, at, &access, vitals, Arc::new(Term::new(None, Positions::new(), None))).await;
    };
    let mut elector = Elector::new(Arc::clone(&access), lease, &config.name, at.clone(), Arc::clone(vitals));
    while let Some(term) = elector.acquire().await {
        let term = Arc::new(term);
        let is_done = tokio::select! {
            () = follow(config, at, &access, vitals, Arc::clone(&term)) => true,
            () = elector.keep(&term) => false,
        };
        if is_done {
            return elector.release(&term).await;
        }
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

/// Follows every kind, until the source is to stop. Whoever drops this ends them at once: the term is over.
async fn follow(config: &K8sWatchConfig, at: &Surroundings, access: &Arc<Access>, vitals: &Arc<Vitals>, term: Arc<Term>) {
    let shared = Arc::new(Shared {
        source: config.name.clone(),
        at: at.clone(),
        access: Arc::clone(access),
        vitals: Arc::clone(vitals),
        term,
        listing: Semaphore::new(1),
    });
    let mut followers: JoinSet<()> = config.kinds().map(|kind| follow_one(kind, Arc::clone(&shared))).collect();
    while followers.join_next().await.is_some() {}
}

/// Follows one kind; begins anew if that fails, which it should not.
async fn follow_one(kind: &'static Kind, shared: Arc<Shared>) {
    loop {
        let mut follower: JoinSet<()> = [Follower::new(kind, Arc::clone(&shared)).run()].into_iter().collect();
        match follower.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                tracing::error!(source = shared.source, resource = kind.resource, %error, "a watch failed; this is a bug");
                shared.vitals.down(kind.resource, &ApiError::Bug);
            }
            _ => return,
        }
        if !shared.at.wait(BUG_PAUSE).await {
            return;
        }
    }
}
