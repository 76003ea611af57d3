//! Heads as the codec gives them, and what becomes of them.

use http::{Request, Version};

use super::*;

type Lines<'a> = &'a [(&'static str, &'a str)];

fn head(method: &str, uri: &str, lines: Lines<'_>) -> request::Parts {
    let mut request = Request::builder()
        .method(method)
        .uri(uri)
        .version(Version::HTTP_2);
    for &(name, value) in lines {
        request = request.header(name, value);
    }
    request.body(()).unwrap().into_parts().0
}

fn translated(method: &str, uri: &str, lines: Lines<'_>) -> Result<(String, Vec<String>), Kind> {
    let mut head = head(method, uri, lines);
    to_http1(&mut head, BodyPresence::Absent).map_err(|error| error.kind())?;
    let lines = head
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
    Ok((head.uri.to_string(), lines.collect()))
}

#[test]
fn a_head_says_the_same_in_http_1_1() {
    let (uri, lines) = translated(
        "GET",
        "https://mail.example:8443/owa/?a=b",
        &[
            ("accept", "*/*"),
            ("cookie", "a=1"),
            ("x-one", "1"),
            ("cookie", "b=2"),
            ("cookie", "c=3"),
            ("x-two", "2"),
            ("x-two", "3"),
        ],
    )
    .unwrap();
    assert_eq!(uri, "/owa/?a=b");
    let expected = [
        "host: mail.example:8443",
        "accept: */*",
        "cookie: a=1; b=2; c=3",
        "x-one: 1",
        "x-two: 2",
        "x-two: 3",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_host_is_the_authority_or_stands_for_it() {
    let host = |uri: &str, lines| translated("GET", uri, lines).map(|(_, lines)| lines[0].clone());
    let https = "https://mail.example/";
    let same = Ok("host: Mail.Example".to_owned());
    assert_eq!(host(https, &[("host", "Mail.Example")]), same);
    assert_eq!(host("/", &[("host", "Mail.Example")]), same);
    let bad: [(&str, Lines<'_>); 6] = [
        ("/", &[]),
        ("/", &[("host", "")]),
        (https, &[("host", "other.example")]),
        (https, &[("host", "mail.example"), ("host", "mail.example")]),
        ("/", &[("host", "mail.example"), ("host", "mail.example")]),
        ("https://user@mail.example/", &[]),
    ];
    for (uri, lines) in bad {
        assert_eq!(host(uri, lines), Err(Kind::BadRequest), "{uri} {lines:?}");
    }
}

#[test]
fn what_could_be_read_otherwise_is_refused() {
    let https = "https://mail.example/";
    let padded: [(&str, &str); 4] = [("x", " a"), ("x", "a "), ("x", "\ta"), ("x", "a\t")];
    for line in padded {
        assert_eq!(
            translated("GET", https, &[line]),
            Err(Kind::BadRequest),
            "{line:?}"
        );
    }
    assert!(translated("GET", https, &[("x", "")]).is_ok());
    assert_eq!(
        translated("GET", "ftp://mail.example/", &[]),
        Err(Kind::BadRequest)
    );
    assert_eq!(
        translated("CONNECT", "mail.example:25", &[]),
        Err(Kind::Tunnel)
    );
}

#[test]
fn a_request_that_could_have_a_body_says_that_it_has_none() {
    let https = "https://mail.example/";
    for (method, expected) in [
        ("POST", true),
        ("PUT", true),
        ("PATCH", true),
        ("GET", false),
    ] {
        let (_, lines) = translated(method, https, &[]).unwrap();
        assert_eq!(
            lines.contains(&"content-length: 0".to_owned()),
            expected,
            "{method}"
        );
    }
    let (_, lines) = translated("POST", https, &[("content-length", "0")]).unwrap();
    assert_eq!(lines.len(), 2);
    let mut head = head("POST", https, &[]);
    to_http1(&mut head, BodyPresence::Present).unwrap();
    assert!(!head.headers.contains_key(CONTENT_LENGTH));
}
