//! Why a request was not taken: its status, its name in metrics, and what the client and the log are told.

use hyper::StatusCode;

/// After how many seconds a client may come again when there was no room. An API server comes ten times.
pub(super) const RETRY_AFTER_SECS: u32 = 3;
/// The same while the store takes nothing.
pub(super) const RETRY_AFTER_PAUSE_SECS: u32 = 5;

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Nothing is at that path.
    #[error("no source has this path")]
    NoSuchPath,
    /// Not a POST.
    #[error("only POST is taken here")]
    Method,
    /// No certificate was shown.
    #[error("a client certificate is needed")]
    NoCertificate,
    /// The certificate is good and its names are not allowed: coming again with it does not help, so not 401.
    #[error("no name of the client certificate is among `client_names`")]
    NameNotAllowed(Vec<String>),
    /// No token was sent.
    #[error("a bearer token is needed")]
    NoToken,
    /// The token is none of ours.
    #[error("the credential is not accepted")]
    WrongToken,
    /// The tokens could not be read yet.
    #[error("not ready to tell who may post; come again")]
    NotReady,
    /// The body is longer than it may be.
    #[error("the body is longer than {0} bytes")]
    TooLarge(u64),
    /// The store takes nothing now.
    #[error("nothing is taken now; come again")]
    Paused(String),
    /// Other bodies take all the room.
    #[error("no room now; come again")]
    NoRoom,
    /// The commit takes too long. It may still come; the repeat is then known.
    #[error("not durable in time; come again")]
    NotInTime,
    /// It was not committed.
    #[error("not taken; come again")]
    NotTaken(String),
    /// The body could not be put into a file.
    #[error("no place for the body now; come again")]
    Spool(String),
    /// The body came too slowly.
    #[error("the body took too long")]
    SlowBody,
    /// The body ended too early.
    #[error("the body ended too early")]
    Cut(String),
}

impl Refusal {
    /// The name in metrics and logs.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::NoSuchPath => "path",
            Self::Method => "method",
            Self::NoCertificate => "no_certificate",
            Self::NameNotAllowed(_) => "name_not_allowed",
            Self::NoToken => "no_token",
            Self::WrongToken => "wrong_token",
            Self::NotReady => "not_ready",
            Self::TooLarge(_) => "too_large",
            Self::Paused(_) => "paused",
            Self::NoRoom => "no_room",
            Self::NotInTime => "not_in_time",
            Self::NotTaken(_) => "not_taken",
            Self::Spool(_) => "spool",
            Self::SlowBody => "slow_body",
            Self::Cut(_) => "cut_body",
        }
    }

    /// The answer's status.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchPath => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoCertificate | Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::NameNotAllowed(_) => StatusCode::FORBIDDEN,
            Self::NotReady => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Paused(_) | Self::NoRoom | Self::NotInTime | Self::NotTaken(_) | Self::Spool(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::Cut(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// When to come again, seconds, where that helps.
    pub(super) fn retry_after_secs(&self) -> Option<u32> {
        match self.status() {
            StatusCode::SERVICE_UNAVAILABLE => Some(RETRY_AFTER_PAUSE_SECS),
            StatusCode::TOO_MANY_REQUESTS => {
                Some(if matches!(self, Self::Paused(_) | Self::NotTaken(_)) { RETRY_AFTER_PAUSE_SECS } else { RETRY_AFTER_SECS })
            }
            _ => None,
        }
    }

    /// Whether the client may keep its connection: it has shown who it is, and what it sent was read to its end.
    pub(super) fn keeps_connection(&self) -> bool {
        self.status() == StatusCode::TOO_MANY_REQUESTS
    }

    /// What the log is told beside the message: it may hold what clients sent, so it is written escaped.
    pub(super) fn detail(&self) -> String {
        match self {
            Self::NameNotAllowed(names) => names.join(", "),
            Self::Paused(why) | Self::NotTaken(why) | Self::Spool(why) | Self::Cut(why) => why.clone(),
            _ => String::new(),
        }
    }
}
