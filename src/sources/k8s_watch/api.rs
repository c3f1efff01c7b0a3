//! The API server: how it is reached, asked and understood.

use super::config::K8sWatchConfig;
use crate::sources::retry::chain;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::Deserialize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long an answer may take to begin, and what is read whole to go on.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to be read whole: 8 MiB over half a megabit a second.
const WHOLE_TIMEOUT: Duration = Duration::from_mins(2);
/// How long a credential plugin of the kubeconfig may take.
const PLUGIN_TIMEOUT: Duration = Duration::from_mins(1);
/// How much of what a library says is said again, characters: a plugin's whole output may be in it.
const SAID_CHARS_MAX: usize = 300;
/// How much of an error's body is read, bytes.
const STATUS_BYTES_MAX: usize = 64 << 10;

/// Why the API server did not give what it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum ApiError {
    /// The version that was asked for is not there any more: everything is to be listed anew.
    #[error("the API server has forgotten that version (410): {0}")]
    Gone(String),
    /// It is behind: another etcd than the one that the version is of, or one that was restored.
    #[error("the API server is behind the version that was stored; is it another cluster, or was its etcd restored? {0}")]
    Ahead(String),
    /// The Lease may not be read or written.
    #[error("{0} (403); bind the Role planewatch-leader of deploy/kubernetes/watch-rbac.yaml in the Lease's namespace")]
    LeaseDenied(String),
    /// A watch that is over before it said anything.
    #[error("the API server ends the watch at once, again and again")]
    Ended,
    /// Our own fault.
    #[error("a watch failed; this is a bug")]
    Bug,
    /// Not allowed.
    #[error("{0} (403); bind the ClusterRole of deploy/kubernetes/watch-rbac.yaml to the caller, or take the resource off `resources:`")]
    Denied(String),
    /// Nobody, to the API server.
    #[error("{0} (401); the kubeconfig's or the service account's credentials are not accepted")]
    Unauthorized(String),
    /// There is no such resource.
    #[error("the API server does not serve this resource (404); take it off `resources:`")]
    NotServed,
    /// Another answer that is none.
    #[error("the API server answered {code}: {message}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// What it said.
        message: String,
    },
    /// It could not be asked, or stopped in the middle.
    #[error("{0}")]
    Unreachable(String),
    /// It does not speak as it should.
    #[error("the API server's answer is not understood: {0}")]
    Garbled(String),
    /// Nothing came any more, not even a bookmark.
    #[error("silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// A page of a list is longer than is read at once.
    #[error("a page of the list has more than {0} bytes")]
    TooLong(usize),
    /// Our own state does not answer.
    #[error("the state did not answer: {0}")]
    State(String),
}

impl ApiError {
    /// Its kind, for metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Gone(_) => "gone",
            Self::Ahead(_) => "ahead",
            Self::LeaseDenied(_) | Self::Denied(_) => "denied",
            Self::Ended => "ended",
            Self::Bug => "bug",
            Self::Unauthorized(_) => "unauthorized",
            Self::NotServed => "not_served",
            Self::Refused { .. } => "refused",
            Self::Unreachable(_) => "unreachable",
            Self::Garbled(_) => "garbled",
            Self::Silent(_) => "silent",
            Self::TooLong(_) => "too_long",
            Self::State(_) => "state",
        }
    }

    /// What a `Status` object says.
    pub(super) fn of_status(code: u16, message: String) -> Self {
        match code {
            401 => Self::Unauthorized(message),
            403 => Self::Denied(message),
            404 => Self::NotServed,
            410 => Self::Gone(message),
            504 if message.contains("Too large resource version") => Self::Ahead(message),
            _ => Self::Refused { code, message },
        }
    }
}

/// An object of kind `Status` (meta/v1), as far as it is used.
#[derive(Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
}

/// A way to the API server.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) client: kube::Client,
    /// Its address, without a slash at the end.
    pub(super) server: String,
}

/// The way that is taken now. When the credentials are refused it is made anew: they may be others by now.
pub(super) struct Access {
    config: K8sWatchConfig,
    api: Mutex<Api>,
}

impl Access {
    pub(super) async fn new(config: &K8sWatchConfig) -> Result<Self, ApiError> {
        Ok(Self { config: config.clone(), api: Mutex::new(Api::new(config).await?) })
    }

    pub(super) fn api(&self) -> Api {
        self.api.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the credentials again, if that is what an error is about.
    pub(super) async fn renew_after(&self, error: &ApiError) {
        if let ApiError::Unauthorized(_) = error {
            match Api::new(&self.config).await {
                Ok(api) => *self.api.lock().unwrap_or_else(PoisonError::into_inner) = api,
                Err(error) => tracing::warn!(source = self.config.name, %error, "the credentials could not be read again"),
            }
        }
    }
}

impl Api {
    /// Reads the kubeconfig, or what a pod is given. Nothing is asked yet.
    async fn new(config: &K8sWatchConfig) -> Result<Self, ApiError> {
        let mut told = match &config.kubeconfig {
            Some(path) => {
                let options = KubeConfigOptions { context: config.context.clone(), ..KubeConfigOptions::default() };
                let wrong = |error: &dyn std::error::Error| ApiError::Unreachable(format!("{}: {}", path.display(), said(error)));
                let file = Kubeconfig::read_from(path).map_err(|it| wrong(&it))?;
                kube::Config::from_custom_kubeconfig(file, &options).await.map_err(|it| wrong(&it))?
            }
            None => kube::Config::incluster()
                .map_err(|error| ApiError::Unreachable(format!("{}; outside of a cluster give `kubeconfig:`", said(&error))))?,
        };
        // Our own pauses are longer, and a person hears of them.
        told.default_retry = false;
        let server = told.cluster_url.to_string().trim_end_matches('/').to_owned();
        // It may run a credential plugin, and waits for it.
        let runtime = tokio::runtime::Handle::current();
        let made = tokio::task::spawn_blocking(move || {
            let _inside = runtime.enter();
            kube::Client::try_from(told)
        });
        let made = tokio::time::timeout(PLUGIN_TIMEOUT, made).await.map_err(|_| ApiError::Silent(PLUGIN_TIMEOUT))?;
        let client = made.map_err(|it| ApiError::Unreachable(said(&it)))?.map_err(|it| ApiError::Unreachable(said(&it)))?;
        Ok(Self { client, server })
    }

    /// Asks for a path with its query; the answer's body.
    pub(super) async fn get(&self, path_and_query: &str) -> Result<Body, ApiError> {
        let request = Request::get(path_and_query)
            .header(header::ACCEPT, "application/json")
            .body(Body::empty())
            .map_err(|error| ApiError::Garbled(error.to_string()))?;
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.client.send(request));
        let answer = answer.await.map_err(|_| ApiError::Silent(ANSWER_TIMEOUT))?.map_err(|it| of_kube(&it))?;
        let status = answer.status();
        if status == StatusCode::OK {
            return Ok(answer.into_body());
        }
        let body = whole(answer.into_body(), STATUS_BYTES_MAX).await;
        let said: Status = body.ok().and_then(|it| serde_json::from_slice(&it).ok()).unwrap_or_default();
        Err(ApiError::of_status(status.as_u16(), said.message))
    }
}

/// Reads a body to its end.
pub(super) async fn whole(mut body: Body, bytes_max: usize) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    let end = Instant::now() + WHOLE_TIMEOUT;
    loop {
        let until = end.min(Instant::now() + ANSWER_TIMEOUT);
        let frame = tokio::time::timeout_at(until, body.frame()).await.map_err(|_| ApiError::Silent(ANSWER_TIMEOUT))?;
        let Some(frame) = frame else { return Ok(bytes) };
        let frame = frame.map_err(|it| of_kube(&it))?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > bytes_max {
            return Err(ApiError::TooLong(bytes_max));
        }
        bytes.extend_from_slice(data);
    }
}

/// What the client says went wrong.
pub(super) fn of_kube(error: &kube::Error) -> ApiError {
    match error {
        kube::Error::Api(status) if status.code == 404 => ApiError::Refused { code: 404, message: status.message.clone() },
        kube::Error::Api(status) => ApiError::of_status(status.code, status.message.clone()),
        _ => ApiError::Unreachable(said(error)),
    }
}

fn said(error: &dyn std::error::Error) -> String {
    chain(error).chars().take(SAID_CHARS_MAX).collect()
}
