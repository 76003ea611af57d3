//! The suite as a table for people: `DESYNC.md`.

use std::fmt::Write as _;
use std::{env, fs};

use crate::{Case, Then};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/DESYNC.md");

/// Compares the document with the suite, or writes it.
pub(crate) fn check(groups: &[(&'static str, Vec<Case>)]) {
    let document = render(groups);
    if env::var_os("LB_BLESS").is_some() {
        fs::write(PATH, document).unwrap();
        return;
    }
    let old = fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        old == document,
        "DESYNC.md is not what the suite says; LB_BLESS=1 writes it anew"
    );
}

fn render(groups: &[(&'static str, Vec<Case>)]) -> String {
    let count: usize = groups.iter().map(|(_, cases)| cases.len()).sum();
    let mut text = format!("{INTRODUCTION}{count} cases.\n");
    for (title, cases) in groups {
        write!(text, "\n## {title}\n\n").unwrap();
        text.push_str(
            "| case | published | sent | client gets | server gets |\n|---|---|---|---|---|\n",
        );
        for case in cases {
            row(&mut text, case);
        }
    }
    text
}

const INTRODUCTION: &str = "\
# Request smuggling: case by case

Written by the test `desync` from its tables; `src/guard.rs` states the defences. Nothing passes that a server could read
in another way than `lb` does: it is refused, or written anew in one canonical form. After each case another client's
request on the connections that are left is answered right.

Bytes are shown as in a string literal. *open*: the client's connection serves the next request; *closed*: nothing after
this request is read. *at most*: the server gets this or less of it, and then the end of the connection. Of responses,
*sent* is what the server answers `GET /` with.

";

fn row(text: &mut String, case: &Case) {
    let sent = if case.answer.is_empty() {
        &case.sent
    } else {
        case.answer
    };
    let then = match case.then {
        Then::Open => "open",
        Then::Closed => "closed",
    };
    let client = match &case.client[..] {
        "" => then.to_owned(),
        got if got.starts_with("HTTP/") => format!("{}, {then}", code(got)),
        got => format!("{got}, {then}"),
    };
    let server = match (&case.server[..], case.is_cut) {
        ("", _) => "nothing".to_owned(),
        (server, false) if server == case.sent => "the same".to_owned(),
        (server, false) => code(server),
        (server, true) => format!("at most {}", code(server)),
    };
    let (name, source) = (case.name, case.source);
    writeln!(
        text,
        "| {name} | {source} | {} | {client} | {server} |",
        code(sent)
    )
    .unwrap();
}

/// Bytes for a table cell.
fn code(bytes: &str) -> String {
    let shown: String = bytes.chars().take(SHOWN).flat_map(escape).collect();
    let shown = shown.replace('|', "\\|");
    match bytes.len() {
        length if length > SHOWN => format!("`{shown}` … ({length} bytes)"),
        _ => format!("`{shown}`"),
    }
}

const SHOWN: usize = 220;

fn escape(c: char) -> Vec<char> {
    match c {
        ' '..='~' => vec![c],
        '\r' | '\n' | '\t' => c.escape_default().collect(),
        _ => format!("\\x{:02x}", u32::from(c)).chars().collect(),
    }
}
