//! Pages that clients get in place of a line of text, with statuses of the proxy's own.
//!
//! Invariant: a page changes what is shown, never the status or what becomes of the connection. Held in memory: when
//! they are needed, disks may be what has failed. Not here: where they come from.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

/// At most one page for each status.
#[derive(Clone, Debug, Default)]
pub struct ErrorPages(Vec<(StatusCode, Page)>);

/// A page.
#[derive(Clone, Debug)]
pub struct Page {
    pub(crate) content_type: HeaderValue,
    pub(crate) body: Bytes,
}

impl Page {
    /// A page of this `Content-Type`.
    pub fn new(content_type: HeaderValue, body: Vec<u8>) -> Self {
        let body = Bytes::from(body);
        Self { content_type, body }
    }
}

impl FromIterator<(StatusCode, Page)> for ErrorPages {
    fn from_iter<I: IntoIterator<Item = (StatusCode, Page)>>(pages: I) -> Self {
        Self(pages.into_iter().collect())
    }
}

impl ErrorPages {
    pub(crate) fn get(&self, status: StatusCode) -> Option<&Page> {
        let page = self.0.iter().find(|(of, _)| *of == status);
        page.map(|(_, page)| page)
    }
}
