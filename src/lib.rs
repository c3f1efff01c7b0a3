//! planewatch collects what happens on the control planes of AWS and Kubernetes, and says when it matters.
//!
//! ```text
//! sources → decode → normalize → (filter) → store → search
//!    ↑                                        │
//!    └────────── acknowledge, once durable ───┘
//! ```
//! The modules below stand in the order of the flow; `tests/tidy.rs` says who may import whom.

pub mod clock;
pub mod disposition;
pub mod json;
pub mod metrics;

pub mod decode;
pub mod event;
pub mod filter;
pub mod normalize;
pub mod pipeline;
pub mod rules;
pub mod sources;
pub mod store;

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod telemetry;
