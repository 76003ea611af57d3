//! From the document behind `lb status`, as the daemon would send it, to what is said of it.

use serde_json::{Value, json};

use super::*;

/// A daemon of which nothing is wrong.
fn well() -> Value {
    json!({
        "version": "0", "uptime_seconds": 1, "interfaces": [], "reasons": [],
        "services": [{
            "name": "exchange", "listen": "10.203.1.100:443", "mode": "http/kernel",
            "packets": 0, "bytes": 0, "flows": 0,
            "http": [{ "name": "persistent_auth_false", "value": 0 }],
            "certificates": [{
                "title": "mail.example", "subject": "CN=mail", "names": ["mail.example"], "sha256": "AA",
                "not_after": "2031-01-01 00:00", "days_left": 14, "file": "cert.pem", "staged": false, "stapled": false,
            }],
            "servers": [{
                "name": "ex1", "route": "owa", "address": "10.203.2.11:443", "up": true, "reason": "200 OK",
                "certificate": { "state": "same", "detail": "" },
            }],
        }],
    })
}

fn findings(status: Value, warnings: &[String]) -> Vec<(Verdict, String)> {
    let status = serde_json::from_value(status).expect("a status");
    let found = diagnose(&status, warnings).findings.into_iter();
    found
        .map(|found| (found.verdict, format!("{} {}", found.check, found.subject)))
        .collect()
}

#[test]
fn of_a_daemon_that_is_well_there_is_nothing_to_say() {
    let status = serde_json::from_value(well()).expect("a status");
    let diagnosis = diagnose(&status, &[]);
    assert_eq!((diagnosis.wrong(), diagnosis.findings), (0, Vec::new()));
    assert_eq!(
        diagnosis.checks, 4,
        "expiry, health, drift, Persistent-Auth"
    );
}

#[test]
fn each_trouble_is_found_by_its_name() {
    use Verdict::{Note, Wrong};
    let service = "/services/0";
    let server = "/services/0/servers/0";
    let seen = |state: &str| json!({ "state": state, "detail": "" });
    let drift = "certificate-drift exchange/owa/ex1";
    let cases = [
        (
            service,
            "certificates/0/days_left",
            json!(13),
            Wrong,
            "certificate-expiry exchange",
        ),
        (
            service,
            "certificates/0/days_left",
            json!(-1),
            Wrong,
            "certificate-expiry exchange",
        ),
        (
            service,
            "http/0/value",
            json!(1),
            Wrong,
            "persistent-auth exchange",
        ),
        (server, "up", json!(false), Wrong, "health exchange/owa/ex1"),
        (server, "certificate", seen("differs"), Wrong, drift),
        (server, "certificate", seen("staged"), Wrong, drift),
        (server, "certificate", seen("unseen"), Note, drift),
    ];
    for (of, path, value, verdict, expected) in cases {
        let mut status = well();
        let place = status.pointer_mut(&format!("{of}/{path}"));
        *place.expect("a place") = value.clone();
        assert_eq!(
            findings(status, &[]),
            [(verdict, expected.to_owned())],
            "{path} {value}"
        );
    }
    let mut status = well();
    status["services"][0]["file_problems"] = json!(["cert.pem is empty"]);
    let expected = [(Wrong, "certificate-files exchange".to_owned())];
    assert_eq!(findings(status, &[]), expected);
    let mut status = well();
    let handover = |unfit| json!({ "begins_on": "af_xdp", "adaptive": true, "moved": [], "stayed": 0, "ended": 0, "bulk": 0, "unfit": unfit });
    status["services"][0]["handover"] = handover(json!(null));
    assert_eq!(findings(status.clone(), &[]), []);
    status["services"][0]["handover"] = handover(json!("netfilter drops its packets"));
    let expected = [(Note, "handover exchange".to_owned())];
    assert_eq!(findings(status, &[]), expected);
}

#[test]
fn what_the_configuration_costs_is_a_note() {
    let status = serde_json::from_value(well()).expect("a status");
    let diagnosis = diagnose(&status, &["tls: costs".to_owned()]);
    assert_eq!((diagnosis.wrong(), diagnosis.findings.len()), (0, 1));
    let text = diagnosis.to_string();
    assert!(text.contains("note  configuration"), "{text}");
    assert!(
        text.ends_with("5 checks, 0 found something wrong\n"),
        "{text}"
    );
}
