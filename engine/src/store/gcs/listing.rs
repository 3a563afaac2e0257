//! Listings, a page at a time.

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::failure::Failing;
use super::{GcsStore, retry};
use crate::layout::ObjectKey;
use crate::store::http_time;
use crate::store::{ListedObject, Operation, StoreError};

/// Keys of one page, the most that the service gives.
const PAGE: &str = "1000";

/// What is asked for.
#[derive(Debug, Clone)]
struct Query {
    prefix: String,
    /// Names that come before this one are left out; it itself is not.
    from: Option<String>,
    /// Only what is directly below the prefix.
    folders: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Page {
    next_page_token: Option<String>,
    items: Vec<Item>,
    prefixes: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Item {
    name: String,
    size: String,
}

impl GcsStore {
    pub(super) fn objects(
        &self,
        prefix: &str,
        start_after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ListedObject, StoreError>> {
        let query = Query {
            prefix: self.bucket.full_prefix(prefix),
            from: start_after.map(|key| self.bucket.full_key(key)),
            folders: false,
        };
        self.pages(query)
            .map_ok(move |(query, page)| {
                let objects = page.items.into_iter().filter_map(move |item| {
                    let is_start = query.from.as_ref() == Some(&item.name);
                    let key = self.bucket.key_of(&item.name).filter(|_| !is_start)?;
                    let size = item.size.parse().ok()?;
                    Some(ListedObject { key, size })
                });
                stream::iter(objects.collect::<Vec<_>>()).map(Ok)
            })
            .try_flatten()
            .boxed()
    }

    pub(super) async fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let query = Query {
            prefix: self.bucket.full_prefix(prefix),
            from: None,
            folders: true,
        };
        let mut folders = Vec::new();
        let mut pages = self.pages(query);
        while let Some((_, page)) = pages.try_next().await? {
            let below = page.prefixes.iter();
            let below = below.filter_map(|full| full.strip_prefix(&self.bucket.prefix));
            folders.extend(below.map(str::to_owned));
        }
        folders.sort_unstable();
        folders.dedup();
        Ok(folders)
    }

    fn pages(&self, query: Query) -> BoxStream<'_, Result<(Query, Page), StoreError>> {
        // The state: the token of the next page, or that there is none.
        stream::try_unfold(Some(None::<String>), move |next| {
            let query = query.clone();
            async move {
                let Some(token) = next else { return Ok(None) };
                let page = self.page(&query, token.as_deref()).await?;
                let next = page.next_page_token.clone();
                if next.is_some() && next == token {
                    return Err(self.listing(&query).oddly("a page that leads to itself"));
                }
                Ok::<_, StoreError>(Some(((query, page), next.map(Some))))
            }
        })
        .boxed()
    }

    async fn page(&self, query: &Query, token: Option<&str>) -> Result<Page, StoreError> {
        let failing = self.listing(query);
        let mut url = self.objects_url("")?;
        {
            let mut pairs = url.query_pairs_mut();
            pairs.append_pair("prefix", &query.prefix);
            pairs.append_pair("maxResults", PAGE);
            if query.folders {
                pairs.append_pair("delimiter", "/");
                pairs.append_pair("fields", "nextPageToken,prefixes");
            } else {
                pairs.append_pair("fields", "nextPageToken,items(name,size)");
            }
            if let Some(from) = &query.from {
                pairs.append_pair("startOffset", from);
            }
            if let Some(token) = token {
                pairs.append_pair("pageToken", token);
            }
        }
        let answer = retry::attempts(|| async {
            let request = self.connection.request(Method::GET, &url);
            let answer = self.connection.authorized(request, &failing).await?;
            match answer.status {
                StatusCode::OK => Ok(answer),
                _ => Err(self.connection.refusal(&failing, &answer)),
            }
        });
        serde_json::from_slice(&answer.await?.body)
            .map_err(|error| failing.oddly(format!("no listing: {error}")))
    }

    /// The `Date` of the answer to a listing.
    pub(super) async fn told_time(&self) -> Result<Option<Timestamp>, StoreError> {
        let query = Query {
            prefix: self.bucket.full_prefix(""),
            from: None,
            folders: false,
        };
        let failing = self.listing(&query);
        let mut url = self.objects_url("")?;
        url.query_pairs_mut()
            .append_pair("prefix", &query.prefix)
            .append_pair("maxResults", "1")
            .append_pair("fields", "nextPageToken");
        let request = self.connection.request(Method::GET, &url);
        let answer = self.connection.authorized(request, &failing).await?;
        if answer.status != StatusCode::OK {
            return Err(self.connection.refusal(&failing, &answer));
        }
        let date = answer.headers.get(reqwest::header::DATE);
        Ok(date.and_then(|date| http_time::parse(date.to_str().ok()?)))
    }

    fn listing(&self, query: &Query) -> Failing {
        let prefix = query.prefix.strip_prefix(&self.bucket.prefix);
        Failing {
            operation: Operation::List,
            object: format!("{}/{}", self.bucket.url, prefix.unwrap_or_default()),
        }
    }
}
