//! Outlook on the web: the form, its cookies, and a page whose requests go to any server.

use std::{path::Path, process::Command};

use lb_tests::{
    address::VIP_HTTP,
    certs, client,
    edge::{Edge, Front},
};
use serde::Deserialize;

use super::ALICE;

/// curl with a cookie jar, in place of a browser: forms, redirects and cookies are the same, scripts are missing.
struct Browser<'a> {
    front: &'a Front,
    jar: String,
}

impl Browser<'_> {
    fn get(&self, options: &[&str], path: &str) -> (u16, String) {
        let own = [
            "--location",
            "--cookie",
            &self.jar,
            "--cookie-jar",
            &self.jar,
        ];
        self.front
            .fetch(&[&own[..], options].concat(), path)
            .unwrap()
    }
}

#[test]
fn a_form_login_holds_on_every_server() {
    let edge = Edge::start(3).unwrap();
    for front in &edge.fronts {
        let jar = edge
            .world
            .directory()
            .join(format!("cookies-{}", front.transport));
        let browser = Browser {
            front,
            jar: jar.display().to_string(),
        };
        // From `/`, by the redirect of the template, to the form.
        let (status, page) = browser.get(&[], "/");
        assert_eq!(status, 200, "{}: {page}", front.transport);
        assert!(page.contains("logonForm"), "{}: {page}", front.transport);
        let form = format!(
            "destination=%2Fowa%2F&username=LAB%5Calice&password={}",
            ALICE.password
        );
        let (_, page) = browser.get(&["--data", &form], "/owa/auth.owa");
        assert!(
            page.contains("Inbox - LAB\\alice"),
            "{}: {page}",
            front.transport
        );
        let jar = std::fs::read_to_string(&browser.jar).unwrap();
        for cookie in [
            "cadata",
            "cadataTTL",
            "cadataKey",
            "cadataIV",
            "cadataSig",
            "X-OWA-CANARY",
        ] {
            assert!(
                jar.contains(&format!("\t{cookie}\t")),
                "{}: no {cookie} in {jar}",
                front.transport
            );
        }
        let mut servers: Vec<String> = (0..12)
            .map(|_| {
                let (status, page) = browser.get(&[], "/owa/whoami");
                assert_eq!(status, 200, "{}: {page}", front.transport);
                let page: serde_json::Value = serde_json::from_str(&page).unwrap();
                assert_eq!(page["user"], ALICE.qualified(), "{}", front.transport);
                page["server"].as_str().unwrap().to_owned()
            })
            .collect();
        servers.sort();
        servers.dedup();
        assert_eq!(servers, ["EX1", "EX2", "EX3"], "{}", front.transport);
        // Somebody without the cookies.
        let (_, page) = front.fetch(&["--location"], "/owa/").unwrap();
        assert!(page.contains("logonForm"), "{}: {page}", front.transport);
    }
}

/// What the browser saw.
#[derive(Debug, Deserialize)]
struct Signed {
    title: String,
    who: String,
    cookies: Vec<String>,
}

/// The same with a real browser, whose scripts run too. `cargo xtask test browser` runs it where there is one, and `netns`
/// leaves it out.
#[test]
fn a_browser_signs_in() {
    let edge = Edge::start(3).unwrap();
    let address = VIP_HTTP.to_string();
    let spki = spki(&edge.world.certs().certificate);
    for front in &edge.fronts {
        let url = front.url("/");
        let arguments = [
            BROWSER,
            &url,
            certs::NAME,
            &address,
            &spki,
            ALICE.name,
            ALICE.password,
        ];
        let signed: Signed = client::python("browser.py", &arguments).unwrap();
        assert_eq!(signed.title, "Inbox - LAB\\alice", "{}", front.transport);
        assert_eq!(signed.who, "signed in as LAB\\alice", "{}", front.transport);
        let expected = [
            "ClientId",
            "X-OWA-CANARY",
            "cadata",
            "cadataIV",
            "cadataKey",
            "cadataSig",
            "cadataTTL",
        ];
        assert_eq!(signed.cookies, expected, "{}", front.transport);
    }
}

/// SHA-256 of a certificate's public key, in base64, as Chromium wants it.
fn spki(certificate: &Path) -> String {
    let script = "openssl x509 -in \"$0\" -pubkey -noout | openssl pkey -pubin -outform DER | \
                  openssl dgst -sha256 -binary | base64";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(certificate)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

const BROWSER: &str = "chromium-headless-shell";
