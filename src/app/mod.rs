//! The service put together: store, pipeline, sources, admin port; started in the order of the flow, and stopped in it.

mod reload;
mod troubles;

use crate::admin::{self, Admin};
use crate::clock::Clock;
use crate::config::{Config, RulesConfig, SourceConfig};
use crate::event::Label;
use crate::metrics::Metrics;
use crate::pipeline::{Pipeline, Settings, SourceSettings};
use crate::sources::{Health, Surroundings, cloudtrail_sqs, directory, ingest, k8s_log, k8s_watch, k8s_webhook};
use crate::store::{Counts, Lateness, Store, StoreError, StoreOptions};
use reload::{Reload, Told};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Why the service did not run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The store did not open, or broke.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The configuration does not work.
    #[error("{0}")]
    Config(String),
    /// The admin port could not be opened.
    #[error("admin.listen {address}: {source}; is another process using it?")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How the service runs.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// End when every source is idle.
    pub is_drain: bool,
    /// The time.
    pub clock: Clock,
}

/// Runs until a signal, or until all is read when draining; returns this run's sum.
pub async fn run(config: Config, options: RunOptions) -> Result<Counts, AppError> {
    let reload = Reload::begin(&config).map_err(AppError::Config)?;
    let store_options = StoreOptions {
        rules: reload.rules(),
        retention_hours: i64::from(config.retention_hours),
        lateness: config.rules.as_ref().map_or_else(Lateness::default, lateness),
        clock: options.clock.clone(),
        ..StoreOptions::new(&config.data_dir)
    };
    let store = Store::open(store_options)?;
    let result = run_on(&store, config, reload, options).await;
    // Also after an error: the threads end, and the lock is given back.
    let closing = store.clone();
    let _ = tokio::task::spawn_blocking(move || closing.close()).await;
    result
}

async fn run_on(store: &Store, config: Config, reload: Reload, options: RunOptions) -> Result<Counts, AppError> {
    let before = sum(store);
    let metrics = Arc::new(Metrics::default());
    let health = Arc::new(Health::default());
    let settings = Settings { rules: reload.rules(), drops: reload.drops(), ..settings(store, &config).await? };
    let pipeline = Pipeline::new(store.clone(), settings, options.clock.clone(), Arc::clone(&metrics));
    let (stop, stopped) = watch::channel(false);
    let at = Surroundings {
        handoff: Arc::new(pipeline),
        metrics: Arc::clone(&metrics),
        health: Arc::clone(&health),
        clock: options.clock,
        stop: stopped.clone(),
        is_drain: options.is_drain,
    };
    let told = || Told { store: store.clone(), metrics: Arc::clone(&metrics), health: Arc::clone(&health), clock: at.clock.clone() };
    // What ends with the service, and does not hold it up.
    let mut helpers = JoinSet::new();
    if !options.is_drain {
        helpers.spawn(reload.run(told(), stopped.clone()));
        let watches = watches(&config);
        let is_ours = move |who: &str| !watches.iter().any(|it| who.starts_with(it.as_str()));
        let after_ms = i64::try_from(config.source_down_after_secs.saturating_mul(1_000)).unwrap_or(i64::MAX);
        helpers.spawn(troubles::watch(told(), after_ms, is_ours, stopped.clone()));
    }
    let admin = open_admin(&config, Admin { metrics, health, store: store.clone() }, stopped).await?;
    let mut sources = JoinSet::new();
    let mut webhooks = Vec::new();
    for source in config.sources {
        tracing::info!(source = source.name(), "starts");
        match source {
            SourceConfig::CloudtrailSqs(config) => sources.spawn(cloudtrail_sqs::run(config, at.clone())),
            SourceConfig::Directory(config) => sources.spawn(directory::run(config, at.clone())),
            SourceConfig::K8sWebhook(config) => {
                webhooks.push(config);
                continue;
            }
            SourceConfig::K8sLog(config) => sources.spawn(k8s_log::run(config, at.clone())),
            SourceConfig::K8sWatch(config) => sources.spawn(k8s_watch::run(config, at.clone())),
            SourceConfig::Ingest(config) => sources.spawn(ingest::run(config, at.clone())),
        };
    }
    for listener in k8s_webhook::listeners(webhooks) {
        sources.spawn(k8s_webhook::run(listener, at.clone()));
    }
    drop(at);
    let is_stopped = tokio::select! {
        () = all(&mut sources) => false,
        () = signal() => true,
    };
    let _ = stop.send(true);
    if is_stopped {
        tracing::info!("stopping: what is in hand is finished");
        let deadline = Duration::from_secs(config.shutdown_timeout_secs);
        if tokio::time::timeout(deadline, all(&mut sources)).await.is_err() {
            tracing::warn!(?deadline, "not finished in time; what is left is not acknowledged and comes again");
            sources.abort_all();
        }
    }
    store.seal().await;
    if let Some(admin) = admin {
        let _ = admin.await;
    }
    Ok(difference(&sum(store), &before))
}

fn lateness(rules: &RulesConfig) -> Lateness {
    // `config` bounds both.
    let ms = |secs: u64| i64::try_from(secs.saturating_mul(1_000)).unwrap_or(i64::MAX);
    Lateness { max_ms: ms(rules.late_max_secs), first_seen_ms: ms(rules.first_seen_wait_secs) }
}

/// How those begin that raise alerts of their own when they are down: watches, each by the watch's name and what it is of.
fn watches(config: &Config) -> Vec<String> {
    let names = config.sources.iter().filter(|it| matches!(it, SourceConfig::K8sWatch(_))).map(|it| format!("{}/", it.name()));
    names.collect()
}

async fn all(sources: &mut JoinSet<()>) {
    while let Some(ended) = sources.join_next().await {
        if let Err(error) = ended {
            if error.is_panic() {
                tracing::error!(%error, "a source failed; this is a bug");
            }
        }
    }
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

async fn settings(store: &Store, config: &Config) -> Result<Settings, AppError> {
    let mut sources = HashMap::new();
    for source in &config.sources {
        let agent_id = store.agent_id(source.name()).await?;
        sources.insert(source.name().to_owned(), SourceSettings { agent_id, cluster: source.cluster().to_owned(), takes: source.takes() });
    }
    let label = |it: &crate::config::AccountConfig| Label {
        name: it.name.clone(),
        labels: it.labels.iter().map(|(key, value)| format!("{key}={value}")).collect(),
    };
    let accounts = config.accounts.iter().map(|(id, it)| (id.clone(), label(it))).collect();
    Ok(Settings { organization_id: config.organization_id.clone(), accounts: Arc::new(accounts), sources, ..Settings::default() })
}

async fn open_admin(config: &Config, admin: Admin, stop: watch::Receiver<bool>) -> Result<Option<tokio::task::JoinHandle<()>>, AppError> {
    let Some(settings) = &config.admin else { return Ok(None) };
    let listener = tokio::net::TcpListener::bind(&settings.listen)
        .await
        .map_err(|source| AppError::Listen { address: settings.listen.clone(), source })?;
    tracing::info!(address = ?listener.local_addr().ok(), "admin port");
    Ok(Some(tokio::spawn(async move {
        let mut stop = stop;
        let stopped = async move {
            let _ = stop.wait_for(|it| *it).await;
        };
        if let Err(error) = admin::serve(admin, listener, stopped).await {
            tracing::error!(%error, "the admin port ended");
        }
    })))
}

fn sum(store: &Store) -> Counts {
    let mut counts = Counts::default();
    for (_, name, value) in store.totals() {
        match name.as_str() {
            "received" => counts.received += value,
            "stored" => counts.stored += value,
            "duplicate" => counts.duplicate += value,
            "quarantined" => counts.quarantined += value,
            "filtered" => counts.filtered += value,
            "conflict" => counts.conflict += value,
            "account_mismatch" => counts.account_mismatch += value,
            "late" => counts.late += value,
            _ => {}
        }
    }
    counts
}

fn difference(after: &Counts, before: &Counts) -> Counts {
    Counts {
        received: after.received - before.received,
        stored: after.stored - before.stored,
        duplicate: after.duplicate - before.duplicate,
        quarantined: after.quarantined - before.quarantined,
        filtered: after.filtered - before.filtered,
        conflict: after.conflict - before.conflict,
        account_mismatch: after.account_mismatch - before.account_mismatch,
        late: after.late - before.late,
    }
}
