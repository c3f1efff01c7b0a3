//! Lists: what there is now, compared with what is stored.

use super::api::{ApiError, whole};
use super::follow::{Follower, Trouble};
use super::known::version;
use super::outlet::Batch;
use super::stream::{Meta, Verb};
use crate::sources::LINE_BYTES_MAX;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// Objects of one page, at first.
const PAGE_OBJECTS: usize = 500;
/// The longest page, bytes: a longer one is asked for again, in smaller pages. A page of one object may be longer: it has at
/// most 1.5 MiB in etcd, and six times that where JSON escapes it.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// Which of the listed objects are news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// All that are not stored in this version.
    All,
    /// Of those, the ones that changed after this version: what came before, the predecessor stored.
    After(u64),
    /// None: the predecessor stored everything that there was at this version, which is the one listed.
    None(u64),
}

#[derive(Deserialize)]
struct Page<'p> {
    metadata: PageMeta,
    #[serde(borrow)]
    items: Option<Vec<&'p RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    r#continue: String,
}

#[derive(Deserialize)]
struct Item {
    metadata: Meta,
}

impl Follower {
    /// Lists all objects, and stores what is news. The watch goes on from the version that this returns.
    pub(super) async fn list(&mut self, news: News) -> Result<String, Trouble> {
        self.known.begin_list();
        let (mut limit, mut next) = (PAGE_OBJECTS, String::new());
        loop {
            // Few pages of all kinds in memory at a time.
            let shared = std::sync::Arc::clone(&self.shared);
            let _turn = self.unless_stopped(async { Ok(shared.listing.acquire().await) }).await?;
            let page = match self.unless_stopped(self.page(limit, &next, news)).await {
                Err(Trouble::Api(ApiError::TooLong(_))) if limit > 1 => {
                    limit = (limit / 8).max(1);
                    continue;
                }
                other => other?,
            };
            let page: Page<'_> = serde_json::from_slice(&page).map_err(|error| ApiError::Garbled(error.to_string()))?;
            self.take_page(&page, news).await?;
            next = page.metadata.r#continue;
            if next.is_empty() {
                self.take_gone(news, &page.metadata.resource_version).await?;
                return Ok(page.metadata.resource_version);
            }
        }
    }

    /// The newest version that the server has.
    pub(super) async fn newest(&self) -> Result<String, Trouble> {
        let page = self.unless_stopped(self.page(1, "", News::All)).await?;
        let page: Page<'_> = serde_json::from_slice(&page).map_err(|error| ApiError::Garbled(error.to_string()))?;
        Ok(page.metadata.resource_version)
    }

    async fn page(&self, limit: usize, next: &str, news: News) -> Result<Vec<u8>, ApiError> {
        let from = match news {
            // What the server gave is URL-safe base64.
            _ if !next.is_empty() => format!("&continue={next}"),
            News::None(at) => format!("&resourceVersion={at}&resourceVersionMatch=Exact"),
            News::All | News::After(_) => String::new(),
        };
        let path = format!("{}?limit={limit}{from}", self.kind.path());
        let bytes_max = if limit > 1 { PAGE_BYTES_MAX } else { LINE_BYTES_MAX };
        whole(self.shared.access.api().get(&path).await?, bytes_max).await
    }

    async fn take_page(&mut self, page: &Page<'_>, news: News) -> Result<(), Trouble> {
        let mut batch = Batch::default();
        for item in page.items.iter().flatten() {
            let Some(metadata) = serde_json::from_str(item.get()).ok().map(|it: Item| it.metadata).filter(|it| !it.uid.is_empty()) else {
                batch.refuse_listed(item.get());
                continue;
            };
            let Some(verb) = self.known.listed(&metadata) else { continue };
            if news.has(&metadata) {
                batch.push_listed(self.kind, self.verb(verb, &metadata, news), item.get());
            }
            if self.known.insert(&metadata.uid, &metadata.resource_version) {
                batch.remember(self.known.key(&metadata.uid), &metadata);
            }
            if batch.is_full() {
                self.take(std::mem::take(&mut batch), None).await?;
            }
        }
        if batch.is_empty() { Ok(()) } else { self.take(batch, None).await }
    }

    /// An object that was there before the predecessor's last word was not added after it.
    fn verb(&self, verb: Verb, meta: &Meta, news: News) -> Verb {
        let created = meta.creation_timestamp.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
        // A time of creation is cut to the second.
        let is_older = matches!((created, self.shared.term.since_ms), (Some(created), Some(since)) if created + 1_000 <= since);
        if matches!(news, News::After(_)) && is_older { Verb::Modified } else { verb }
    }

    /// What the list did not have is gone.
    async fn take_gone(&mut self, news: News, position: &str) -> Result<(), Trouble> {
        let mut batch = Batch::default();
        let stamps = if self.known.missing() > 0 { self.stamps().await? } else { HashMap::new() };
        for (key, stamp) in stamps {
            let Some(meta) = self.known.gone(&key, &stamp) else { continue };
            if self.kind.is_deletion_news() && !matches!(news, News::None(_)) {
                batch.push_gone(self.kind, &meta);
            }
            batch.forget(key);
            self.known.remove(&meta.uid);
            if batch.is_full() {
                self.take(std::mem::take(&mut batch), None).await?;
            }
        }
        self.take(batch, Some(position)).await
    }
}

impl News {
    fn has(self, meta: &Meta) -> bool {
        match self {
            Self::All => true,
            Self::After(before) => version(&meta.resource_version).is_none_or(|it| it > before),
            Self::None(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_without_its_objects_being_looked_into() {
        let page: Page<'_> = serde_json::from_str(
            r#"{"kind":"RoleList","metadata":{"resourceVersion":"7","continue":"a_b-"},"items":[{"metadata":{"uid":"u"}}]}"#,
        )
        .unwrap();
        assert_eq!((&*page.metadata.resource_version, &*page.metadata.r#continue), ("7", "a_b-"));
        assert_eq!(page.items.unwrap()[0].get(), r#"{"metadata":{"uid":"u"}}"#);
        let empty: Page<'_> = serde_json::from_str(r#"{"metadata":{"resourceVersion":"7"},"items":null}"#).unwrap();
        assert!(empty.items.is_none());
    }

    #[test]
    fn what_the_predecessor_stored_is_no_news() {
        let meta = |version: &str| Meta { resource_version: version.to_owned(), ..Meta::default() };
        assert!(News::All.has(&meta("1")) && !News::None(9).has(&meta("1")));
        assert!(!News::After(9).has(&meta("9")) && News::After(9).has(&meta("10")) && News::After(9).has(&meta("x")));
    }
}
