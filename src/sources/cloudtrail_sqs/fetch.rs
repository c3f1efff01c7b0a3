//! Fetching one object, and telling apart why it could not be fetched.

use super::clients::Clients;
use super::config::BucketConfig;
use super::envelope::ObjectRef;
use crate::sources::retry::chain;
use crate::sources::{Input, MEMORY_BYTES_MAX};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest object that is read: the disk's to bound, but not without a bound.
const OBJECT_BYTES_MAX: i64 = 64 << 30;

/// Why an object was not fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    /// No permission on the object; S3 says this of a missing key too, where listing is not permitted.
    #[error("access denied ({0}); grant s3:GetObject on the bucket to this role")]
    Denied(String),
    /// No permission on the key that the object is encrypted with.
    #[error("KMS denied ({0}); grant kms:Decrypt on the object's key to this role, in its policy and in the key's")]
    KmsDenied(String),
    /// There is no such object, or no such bucket.
    #[error("not found ({0})")]
    NotFound(String),
    /// It passes.
    #[error("{0}")]
    Passing(String),
}

/// A fetched object; a spooled file is removed when this is dropped.
pub(super) struct Fetched {
    pub(super) input: Input,
    pub(super) bytes: u64,
    spooled: Option<PathBuf>,
    /// Its share of the bytes that may be in memory.
    _held: Option<OwnedSemaphorePermit>,
}

impl Drop for Fetched {
    fn drop(&mut self) {
        if let Some(path) = &self.spooled {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Fetches an object whole: into memory, or, where it is large, into a file below `spool`.
pub(super) async fn fetch(clients: &Clients, bucket: &BucketConfig, object: &ObjectRef, room: &Room<'_>) -> Result<Fetched, FetchError> {
    match get(clients, bucket, object).await {
        Ok(output) => receive(output, room).await,
        Err(error) => match other_region(&error) {
            Some(region) => {
                clients.moved(&bucket.name, &region).await;
                let output = get(clients, bucket, object).await.map_err(|it| classify(&it))?;
                receive(output, room).await
            }
            None => Err(classify(&error)),
        },
    }
}

async fn get(clients: &Clients, bucket: &BucketConfig, object: &ObjectRef) -> Result<GetObjectOutput, SdkError<GetObjectError>> {
    let client = clients.s3(bucket, object.region.as_deref()).await;
    client
        .get_object()
        .bucket(&object.bucket)
        .key(&object.key)
        .set_version_id(object.version.clone())
        .set_expected_bucket_owner(bucket.expected_owner.clone())
        .send()
        .await
}

/// Where fetched bytes may be.
pub(super) struct Room<'r> {
    /// Bytes that may be in memory at once.
    pub(super) memory: &'r Arc<Semaphore>,
    /// The folder for what is larger.
    pub(super) spool: &'r Path,
}

async fn receive(mut output: GetObjectOutput, room: &Room<'_>) -> Result<Fetched, FetchError> {
    let length = output.content_length().unwrap_or(0);
    if length > OBJECT_BYTES_MAX {
        return Err(FetchError::NotFound(format!("{length} bytes, at most {OBJECT_BYTES_MAX}")));
    }
    let passing = |what: &str, error: &dyn std::error::Error| FetchError::Passing(format!("{what}: {}", chain(error)));
    if length as u64 <= MEMORY_BYTES_MAX {
        // Taken once the length is known and before the body is read: what waits here is on S3's side.
        let held = Arc::clone(room.memory).acquire_many_owned(length.max(1) as u32).await.ok();
        let mut bytes = Vec::with_capacity(length.max(0) as usize);
        while let Some(chunk) = output.body.try_next().await.map_err(|it| passing("the object broke off", &it))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > 2 * MEMORY_BYTES_MAX {
                return Err(FetchError::Passing("the object is longer than S3 said".to_owned()));
            }
        }
        let n = bytes.len() as u64;
        return Ok(Fetched { input: Input::Memory(bytes.into()), bytes: n, spooled: None, _held: held });
    }
    let path = room.spool.join(format!("spool-{:032x}", fastrand::u128(..)));
    let mut fetched = Fetched { input: Input::File(path.clone()), bytes: 0, spooled: Some(path.clone()), _held: None };
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&path).await.map_err(|it| passing("spooling", &it))?;
    while let Some(chunk) = output.body.try_next().await.map_err(|it| passing("the object broke off", &it))? {
        file.write_all(&chunk).await.map_err(|it| passing("spooling", &it))?;
        fetched.bytes += chunk.len() as u64;
    }
    file.flush().await.map_err(|it| passing("spooling", &it))?;
    Ok(fetched)
}

/// The region that S3 says the bucket is in.
fn other_region(error: &SdkError<GetObjectError>) -> Option<String> {
    let response = error.raw_response()?;
    let is_redirect = matches!(response.status().as_u16(), 301 | 307 | 400);
    let region = response.headers().get("x-amz-bucket-region")?;
    is_redirect.then(|| region.to_owned())
}

fn classify(error: &SdkError<GetObjectError>) -> FetchError {
    let code = error.code().unwrap_or_default();
    let message = error.message().unwrap_or_default();
    let status = error.raw_response().map_or(0, |it| it.status().as_u16());
    let said = if code.is_empty() { chain(error) } else { format!("{code}: {message}") };
    // What is wrong with our own credentials or clock passes when it is set right; no object is at fault.
    const OURS: [&str; 6] =
        ["ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "InvalidToken", "TokenRefreshRequired"];
    match (code, status) {
        (code, _) if OURS.contains(&code) => FetchError::Passing(said),
        (code, _) if code.starts_with("KMS") || code == "AccessDenied" && message.to_ascii_lowercase().contains("kms") => {
            FetchError::KmsDenied(said)
        }
        ("AccessDenied" | "AllAccessDisabled" | "InvalidObjectState", _) => FetchError::Denied(said),
        ("NoSuchKey" | "NoSuchBucket" | "NoSuchVersion" | "MethodNotAllowed", _) => FetchError::NotFound(said),
        ("", 404) => FetchError::NotFound(said),
        ("", 403) => FetchError::Denied(said),
        _ => FetchError::Passing(said),
    }
}
