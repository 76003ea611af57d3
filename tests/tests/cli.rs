//! The command line of `lb`: what an operator with a broken configuration sees. Needs no lab and no root.

use std::{fs, process::Command};

use lb_tests::binaries;

const FIVE_MISTAKES: &str = r#"interfaces = ["lb-front"]
colour = "blue"

[[service]]
name = "exchange"
listen = "10.203.1.100"
mode = "http"
servers = ["10.203.2.11:443", 7]
idle_timeout = "soon"

[[service]]
name = "smtp"
listen = "10.203.1.101:25"
mode = "l5"
servers = ["10.203.2.11:25"]
"#;

#[test]
fn every_mistake_is_told_with_line_and_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lb.toml");
    fs::write(&path, FIVE_MISTAKES).unwrap();
    for command in ["check", "run"] {
        let output = Command::new(binaries::lb().unwrap())
            .args([command, "--config"])
            .arg(&path)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}: {output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 5, "{command}:\n{told}");
        let expected = [
            (2, "colour"),
            (6, "listen"),
            (8, "servers[1]"),
            (9, "idle_timeout"),
            (14, "mode"),
        ];
        for ((number, key), line) in expected.into_iter().zip(lines) {
            assert!(
                line.contains(&format!("lb.toml:{number}:")),
                "{command}: {line}"
            );
            assert!(line.contains(key), "{command}: {line}");
        }
    }
}
