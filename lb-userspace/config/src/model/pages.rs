//! Pages for what the proxy answers itself.

use std::path::PathBuf;

use http::{HeaderValue, StatusCode};

/// `error_pages`: what a client gets with a status of the proxy's own, instead of a line of text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorPages(pub(crate) Vec<ErrorPage>);

impl ErrorPages {
    /// Each of another status.
    pub fn as_slice(&self) -> &[ErrorPage] {
        &self.0
    }
}

/// A page of [`ErrorPages`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPage {
    /// 400 to 599.
    pub status: StatusCode,
    /// UTF-8 text; relative to the configuration file.
    pub file: PathBuf,
    /// By the file's extension.
    pub content_type: HeaderValue,
}
