//! What follows from runs, and that the JSON holds it under the names that others read.

use super::*;

fn sample(proxy: Proxy, servers: u8) -> Sample {
    Sample {
        proxy,
        servers,
        requests: 1000,
        logins: 200,
        refused: 0,
        wrong: 0,
        strangers: 250,
        strangers_served: 0,
        upstream_connections: 222,
        example: None,
    }
}

/// Both sizes of pool; everyone does well.
fn samples() -> Vec<Sample> {
    let both = |proxy| [sample(proxy, 1), sample(proxy, 3)];
    Proxy::ALL.into_iter().flat_map(both).collect()
}

fn report(samples: Vec<Sample>) -> Report {
    let machine = Machine {
        kernel: "6.1.0".to_owned(),
        cpu: "a CPU".to_owned(),
        cpus: 2,
        memory_mib: 2048,
        versions: Vec::new(),
    };
    let settings = Settings {
        requests: 1000,
        users: 2,
        pools: vec![1, 3],
    };
    Report::new(machine, settings, samples, Vec::new())
}

/// A report in which the run of `proxy` with one server is changed.
fn with(proxy: Proxy, change: fn(&mut Sample)) -> Report {
    let mut samples = samples();
    let of_proxy = |sample: &&mut Sample| (sample.proxy, sample.servers) == (proxy, 1);
    samples.iter_mut().filter(of_proxy).for_each(change);
    report(samples)
}

#[test]
fn one_request_of_ours_breaks_the_claim_about_it() {
    let check = |change: fn(&mut Sample), expected: &[(&str, f64)]| {
        let report = with(Proxy::LbKernel, change);
        let broken = report.shows.iter().filter(|show| !show.holds);
        let broken: Vec<_> = broken
            .map(|show| (show.claim.as_str(), show.got.unwrap()))
            .collect();
        assert_eq!(broken, expected);
        assert_eq!(report.shows.len(), 6);
    };
    check(|_| {}, &[]);
    check(
        |sample| sample.wrong = 1,
        &[("lb kernel: answers as someone else", 1.0)],
    );
    check(
        |sample| sample.strangers_served = 2,
        &[("lb kernel: strangers served", 2.0)],
    );
    check(
        |sample| sample.refused = 3,
        &[("lb kernel: logins refused, at once or later", 3.0)],
    );
}

#[test]
fn what_others_do_breaks_no_claim() {
    let report = with(Proxy::HaproxyNever, |sample| sample.wrong = 1);
    assert!(report.shows.iter().all(|show| show.holds));
}

#[test]
fn a_missing_run_holds_nothing() {
    let mut samples = samples();
    samples.retain(|sample| (sample.proxy, sample.servers) != (Proxy::LbAfXdp, 1));
    let report = report(samples);
    for show in &report.shows {
        let missing = show.claim.starts_with("lb af_xdp");
        assert_eq!(
            (show.got, show.holds),
            if missing {
                (None, false)
            } else {
                (Some(0.0), true)
            }
        );
    }
}

#[test]
fn words_tell_leaks_from_logins_that_break() {
    let check = |change: fn(&mut Sample), expected| {
        let report = with(Proxy::NginxKeepalive, change);
        assert_eq!(report.words[0], expected);
    };
    check(
        |_| {},
        "nginx, keepalive: did not leak; no login was refused.",
    );
    check(
        |sample| sample.refused = 7,
        "nginx, keepalive: did not leak; 7 of 2000 users' requests were refused: logins break.",
    );
    check(
        |sample| {
            sample.wrong = 5;
            sample.example = Some("alice as bob".to_owned());
        },
        "nginx, keepalive: LEAKED: 5 of 2000 users' requests were answered as someone else, and 0 of 500 strangers \
         were served (first: alice as bob); no login was refused.",
    );
    assert_eq!(
        report(Vec::new()).words[0],
        "nginx, keepalive: no result, so nothing is known about it."
    );
}

#[test]
fn a_run_without_any_leak_proves_nothing() {
    let check = |leaky: &[Proxy], expected: &str| {
        let mut samples = samples();
        for sample in &mut samples {
            sample.strangers_served = u32::from(leaky.contains(&sample.proxy));
        }
        let report = report(samples);
        let verdict = report.words.last().unwrap();
        assert!(verdict.starts_with(expected), "{verdict}");
    };
    check(&[], "None of the proxies");
    // One that should not leak says nothing about the requests.
    check(&[Proxy::HaproxyNever], "None of the proxies");
    check(&[Proxy::HaproxyDefault], "One of the two");
    check(&Proxy::LEAKY, "Both proxies");
}

#[test]
fn the_table_has_every_run_and_ends_with_what_does_not_hold() {
    let report = with(Proxy::LbAfXdp, |sample| sample.wrong = 4711);
    let table = report.table();
    for proxy in Proxy::ALL {
        let line = format!("  {proxy:<30}");
        let lines = table.lines().filter(|text| text.starts_with(&line));
        assert_eq!(lines.count(), 2, "{table}");
    }
    let last = table.lines().last().unwrap();
    assert!(
        last.starts_with("DOES NOT HOLD: lb af_xdp") && last.contains("4711"),
        "{table}"
    );
}

#[test]
fn the_json_has_the_names_that_others_read() {
    let report = report(samples());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["name"], "identity");
    assert_eq!(json["machine"]["kernel"], "6.1.0");
    assert_eq!(json["samples"][0]["proxy"], "lb_af_xdp");
    assert_eq!(json["samples"][0]["upstream_connections"], 222);
    let show = json["shows"][0].as_object().unwrap();
    for name in ["claim", "target", "got", "unit", "holds"] {
        assert!(show.contains_key(name), "{name}");
    }
    let back: Report = serde_json::from_value(json).unwrap();
    assert_eq!(back.table(), report.table());
}
