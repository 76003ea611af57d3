//! `tidy`: the house rules that neither compiler nor clippy checks, over every file of ours.
//!
//! Rust files open with `//!` and stay within [`MAX_LINES`]; no file puts work off by a marker or
//! ignores a test. What rustfmt and clippy can say is deliberately not repeated here.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// Where our files are.
const ROOTS: [&str; 4] = ["lb-ebpf", "lb-userspace", "tests", "xtask"];

/// Lines of a Rust file above which it should be two.
const MAX_LINES: usize = 500;

/// Work put off. Written in two pieces, so that this file passes its own check.
const MARKERS: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("#[", "ignore"),
];

/// Checks every file.
///
/// # Errors
/// All violations at once, each with its place.
pub(crate) fn run() -> Result<()> {
    let mut files = Vec::new();
    for root in ROOTS {
        collect(&workspace::root().join(root), &mut files)?;
    }
    let mut violations = Vec::new();
    for path in &files {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read {} as text", path.display()))?;
        let name = path.strip_prefix(workspace::root()).unwrap_or(path);
        violations.extend(check(name, &text));
    }
    if !violations.is_empty() {
        bail!(
            "{} against the house rules:\n  {}",
            violations.len(),
            violations.join("\n  ")
        );
    }
    println!("tidy: {} files", files.len());
    Ok(())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            if !path.ends_with("__pycache__") {
                collect(&path, files)?;
            }
        } else if has_extension(&path, &["rs", "py", "toml", "md"]) {
            files.push(path);
        }
    }
    Ok(())
}

fn has_extension(path: &Path, wanted: &[&str]) -> bool {
    path.extension()
        .and_then(|e| e.to_str())
        .is_some_and(|e| wanted.contains(&e))
}

fn check(path: &Path, text: &str) -> Vec<String> {
    let place = path.display();
    let mut violations = Vec::new();
    if has_extension(path, &["rs"]) {
        if !text.starts_with("//!") {
            violations.push(format!(
                "{place}:1: does not open with `//!` and what it is for"
            ));
        }
        let lines = text.lines().count();
        if lines > MAX_LINES {
            violations.push(format!(
                "{place}: {lines} lines, more than {MAX_LINES}: split it"
            ));
        }
    }
    for (index, line) in text.lines().enumerate() {
        for marker in MARKERS.iter().filter(|marker| line.contains(**marker)) {
            let number = index + 1;
            violations.push(format!(
                "{place}:{number}: `{marker}`: do it now or file an issue"
            ));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn violations(path: &str, text: &str, expected: &[&str]) {
        let found = check(Path::new(path), text);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                found.contains(expected),
                "{found:?} does not hold {expected:?}"
            );
        }
    }

    #[test]
    fn each_rule_is_enforced_where_it_applies() {
        violations("a.rs", "//! Purpose.\n", &[]);
        violations("a.rs", "use std::fs;\n", &["a.rs:1: does not open"]);
        violations("a.py", "import os\n", &[]);
        let long = format!("//! Purpose.\n{}", "\n".repeat(MAX_LINES));
        violations("a.rs", &long, &["501 lines"]);
        for marker in MARKERS {
            violations(
                "a.rs",
                &format!("//! A.\n// {marker} later\n"),
                &["a.rs:2:"],
            );
        }
    }
}
