//! Outlook on the web: forms-based authentication, and a page that needs more than one request.
//!
//! Without a cookie the browser is sent to the logon page, whose form goes to `auth.owa`, which sets five cookies and
//! sends it back. The cookie is encrypted with the certificate's key, so any server that has the same certificate takes
//! it; here that is a keyed digest. Not here: time limits, logoff, mail.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::pool::{
    http1::{Body, Head, Wire},
    reply::Reply,
    users,
    vdir::Vdir,
};

/// What makes and reads cookies: the same on every server with the same certificate.
#[derive(Debug, Default)]
pub(in crate::pool) struct Cookies {
    key: Vec<u8>,
}

impl Cookies {
    /// With the private key in this file.
    pub(in crate::pool) fn new(key: Option<&Path>) -> Result<Self> {
        let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
        let key = key.map(read).transpose()?.unwrap_or_default();
        Ok(Self { key })
    }

    /// Whose cookie a request has.
    pub(in crate::pool) fn user(&self, head: &Head) -> Option<String> {
        let fields = head.fields().iter().filter(|(name, _)| name == "cookie");
        let value = fields
            .flat_map(|(_, value)| value.split(';'))
            .find_map(|pair| pair.trim().strip_prefix("cadata="))?;
        let (user, seal) = value.split_once('.')?;
        let user = String::from_utf8(URL_SAFE_NO_PAD.decode(user).ok()?).ok()?;
        (self.seal(&user) == seal).then_some(user)
    }

    fn issue(&self, user: &str) -> String {
        format!("{}.{}", URL_SAFE_NO_PAD.encode(user), self.seal(user))
    }

    fn seal(&self, user: &str) -> String {
        // Keeps honest tests honest; it is no cryptography.
        let mut hasher = DefaultHasher::new();
        (&self.key, user).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

/// Whether a directory logs people in with a form.
pub(in crate::pool) fn has_forms(vdir: &Vdir) -> bool {
    matches!(vdir.name, "owa" | "ecp")
}

/// Whether the path is one of the logon pages, which need no login.
pub(in crate::pool) fn is_logon(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    path.starts_with("/owa/auth/") || path == "/owa/auth.owa"
}

/// Sends a browser to the logon page.
pub(in crate::pool) fn log_on(target: &str, reason: u8) -> Reply {
    let location = format!("/owa/auth/logon.aspx?url={target}&reason={reason}");
    Reply::new(302, "").with("Location", location)
}

/// Answers on a logon page.
pub(in crate::pool) async fn logon(
    cookies: &Cookies,
    head: &Head,
    body: &mut Body,
    wire: &mut Wire,
) -> Result<Reply> {
    if head.method != "POST" {
        return Ok(Reply::new(200, LOGON).with("Content-Type", HTML));
    }
    let form = wire.whole(body, LONGEST_FORM).await?;
    let form = String::from_utf8_lossy(&form).into_owned();
    let value = |name: &str| {
        let pair = form
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        decode(pair.unwrap_or_default())
    };
    let Some(user) = users::check(&value("username"), &value("password")) else {
        return Ok(log_on("/owa/", 2));
    };
    let cookie = |name: &str, value: &str| format!("{name}={value}; path=/; secure; HttpOnly");
    Ok(Reply::new(302, "")
        .with("Location", "/owa/")
        .with(
            "Set-Cookie",
            cookie("cadata", &cookies.issue(&user.qualified())),
        )
        .with("Set-Cookie", cookie("cadataTTL", "AAAA"))
        .with("Set-Cookie", cookie("cadataKey", "BBBB"))
        .with("Set-Cookie", cookie("cadataIV", "CCCC"))
        .with("Set-Cookie", cookie("cadataSig", "DDDD")))
}

/// The page after the login; its script asks who it is and writes it down.
pub(super) fn inbox(user: &str) -> Reply {
    let page = format!(
        "<!DOCTYPE html><title>Inbox - {user}</title><p id=\"who\">loading</p><script>\
         fetch('/owa/whoami').then(r => r.json()).then(j => {{\
         document.getElementById('who').textContent = 'signed in as ' + j.user; }});</script>"
    );
    Reply::new(200, page)
        .with("Content-Type", HTML)
        .with("Set-Cookie", "X-OWA-CANARY=EEEE; path=/; secure")
        .with("Set-Cookie", "ClientId=FFFF; path=/; secure")
}

/// `application/x-www-form-urlencoded`.
fn decode(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                let digits = std::str::from_utf8(&digits).unwrap_or("00");
                u8::from_str_radix(digits, 16).unwrap_or(b'?')
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

const LOGON: &str = "<!DOCTYPE html><title>Outlook</title>\
    <form action=\"/owa/auth.owa\" method=\"POST\" name=\"logonForm\">\
    <input name=\"destination\" type=\"hidden\" value=\"/owa/\"><input name=\"flags\" type=\"hidden\" value=\"4\">\
    <input id=\"username\" name=\"username\"><input id=\"password\" name=\"password\" type=\"password\">\
    <input id=\"signin\" type=\"submit\" value=\"sign in\"></form>";
const HTML: &str = "text/html; charset=utf-8";
const LONGEST_FORM: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded() {
        assert_eq!(decode("LAB%5Calice+b%2B"), "LAB\\alice b+");
        assert_eq!(decode("%"), "\0");
    }

    #[test]
    fn a_cookie_is_good_where_the_key_is_the_same() {
        let (ours, theirs) = (Cookies { key: vec![1] }, Cookies { key: vec![2] });
        let (user, seal) = (ours.issue("LAB\\alice"), theirs.seal("LAB\\alice"));
        let seal_of_ours = user.split_once('.').map(|(_, seal)| seal.to_owned());
        assert_eq!(seal_of_ours, Some(ours.seal("LAB\\alice")));
        assert_ne!(seal_of_ours, Some(seal));
    }
}
