//! Reads `error_pages`: which file for which status. What is in the files is the caller's to look at.

use http::{HeaderValue, StatusCode};

use crate::error::Problem;
use crate::model::{ErrorPage, ErrorPages};
use crate::reader::{Node, Table};
use crate::value;

/// `error_pages` of a service or a route; nothing is inherited, since a route's statuses are looked up first.
pub(super) fn read(table: &Table<'_>) -> Option<ErrorPages> {
    table.optional("error_pages", ErrorPages::default(), |node| {
        let expected = "a table of statuses and files, such as { 503 = \"sorry.html\" }";
        let pages: Vec<_> = node
            .entries(expected)?
            .iter()
            .map(|(key, node)| page(key, node))
            .collect();
        let pages = pages.into_iter().collect::<Option<_>>()?;
        Some(ErrorPages(pages))
    })
}

fn page(key: &str, node: &Node<'_>) -> Option<ErrorPage> {
    let code = key.parse().ok().filter(|code| (400..=599).contains(code));
    let status = code.and_then(|code: u16| StatusCode::from_u16(code).ok());
    let Some(status) = status else {
        return node.fail(Problem::BadValue {
            found: key.escape_debug().to_string(),
            expected: "a status from 400 to 599".to_owned(),
        });
    };
    let file = value::file(node)?;
    let extension = file.extension().and_then(|extension| extension.to_str());
    let extension = extension.unwrap_or_default().to_ascii_lowercase();
    let known = TYPES.iter().find(|(known, _)| *known == extension);
    let Some(&(_, content_type)) = known else {
        let found = file.display().to_string();
        return node.bad_value(
            &found,
            "a file that ends in .html, .htm, .txt, .json or .xml",
        );
    };
    Some(ErrorPage {
        status,
        file,
        content_type: HeaderValue::from_static(content_type),
    })
}

/// All of them text, and with it the charset that the files must have.
const TYPES: [(&str, &str); 5] = [
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("txt", "text/plain; charset=utf-8"),
    ("json", "application/json"),
    ("xml", "application/xml; charset=utf-8"),
];
