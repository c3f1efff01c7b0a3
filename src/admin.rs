//! The admin port: probes and metrics.

use crate::metrics::{self, Metrics};
use crate::sources::Health;
use crate::store::Store;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::future::Future;
use std::sync::Arc;
use tokio::net::TcpListener;

/// What the port tells of.
#[derive(Clone)]
pub struct Admin {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What does not work.
    pub health: Arc<Health>,
    /// Where totals are kept.
    pub store: Store,
}

/// Answers until `stop`.
pub async fn serve(admin: Admin, listener: TcpListener, stop: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
    let app = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(admin);
    axum::serve(listener, app).with_graceful_shutdown(stop).await
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    let mut reasons = admin.health.reasons();
    reasons.extend(admin.store.paused().map(|why| format!("store: {why}")));
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if reasons.is_empty() {
        reasons.push("ok".to_owned());
    }
    // Events are taken all the same: what is only a note must not take the pod out of service.
    reasons.extend(admin.health.notes().into_iter().map(|it| format!("note: {it}")));
    (status, reasons.join("\n") + "\n")
}

async fn metrics_text(State(admin): State<Admin>) -> impl IntoResponse {
    fill(&admin).await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], admin.metrics.render())
}

/// Totals are kept in the state and come from there, so that they outlive the process.
async fn fill(admin: &Admin) {
    let plain = [
        ("received", metrics::RECEIVED),
        ("stored", metrics::STORED),
        ("duplicate", metrics::DUPLICATE),
        ("quarantined", metrics::QUARANTINED),
        ("filtered", metrics::FILTERED),
        ("conflict", metrics::CONFLICT),
        ("account_mismatch", metrics::ACCOUNT_MISMATCH),
        ("late", metrics::LATE),
        ("forwarded", metrics::FORWARDED),
        ("bytes", metrics::BYTES),
    ];
    for (source, name, value) in admin.store.totals() {
        if let Some((_, metric)) = plain.iter().find(|(it, _)| *it == name) {
            admin.metrics.set(metric, &source, "", value as f64);
        } else if let Some(reason) = name.strip_prefix("skipped/") {
            admin.metrics.set(&metrics::SKIPPED, &source, reason, value as f64);
        } else if let Some(reason) = name.strip_prefix("quarantined/") {
            admin.metrics.set(&metrics::QUARANTINED_BY, &source, reason, value as f64);
        }
    }
    for (rule, (matches, late)) in admin.store.rule_counts().await.unwrap_or_default() {
        admin.metrics.set(&metrics::RULE_MATCHES, metrics::RULES, &rule, matches as f64);
        admin.metrics.set(&metrics::RULE_LATE, metrics::RULES, &rule, late as f64);
    }
    admin.metrics.clear(&metrics::QUARANTINE);
    for (source, reason, n) in admin.store.quarantine_size().await.unwrap_or_default() {
        admin.metrics.set(&metrics::QUARANTINE, &source, &reason, n as f64);
    }
}
