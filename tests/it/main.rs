//! Integration tests: the real program, against real parts. One binary, so that it links once.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::disallowed_methods, reason = "tests say what they expect by panicking")]

mod bad_input;
mod commands;
mod cut;
mod directory;
mod filter_property;
mod generated;
mod host;
mod hunt;
mod identity;
mod k8s_log;
mod k8s_log_forward;
mod k8s_watch;
mod k8s_watch_faults;
mod k8s_watch_lease;
mod k8s_webhook;
mod kills;
mod kube_audit;
mod kube_secrets;
mod kube_webhook;
mod lateness;
mod merge;
mod queue;
mod reload;
mod rule_files;
mod rules;
mod secrets;
mod sigma_naive;
mod sigma_property;
mod store_faults;
mod subscription;
mod support;
mod suppress;
mod webhook_pressure;
