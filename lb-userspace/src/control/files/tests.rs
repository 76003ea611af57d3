//! Real files and a real TLS set-up; polls are made by hand, so that no test waits.

use std::path::Path;
use std::sync::Arc;

use lb_proxy::tls::{ServerOptions, ServerTls, Verify, upstream};
use tempfile::TempDir;

use super::*;

/// Writes a certificate for `name` over `files`, as certbot would: new files that are renamed over the old ones.
fn write(directory: &Path, part: Part) {
    let made = rcgen::generate_simple_self_signed(["mail.example".to_owned()]).expect("made");
    let over = |name: &str, text: String| {
        let next = directory.join(format!("{name}.next"));
        std::fs::write(&next, text).expect("written");
        std::fs::rename(next, directory.join(name)).expect("renamed");
    };
    if part != Part::Key {
        over("cert.pem", made.cert.pem());
    }
    if part != Part::Certificate {
        over("key.pem", made.signing_key.serialize_pem());
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Certificate,
    Key,
    Both,
}

fn watched(directory: &TempDir) -> (Arc<ServerTls>, Files) {
    let path = directory.path();
    let options = ServerOptions::new(path.join("cert.pem"), path.join("key.pem"));
    let server = ServerTls::load(options).expect("good files");
    let watched = Watched {
        service: 3,
        label: "exchange".to_owned(),
        made: Box::new(Arc::clone(&server)),
    };
    (server, Files::new(vec![watched]))
}

/// The news of as many polls as a change needs.
fn news(files: &mut Files) -> Vec<What> {
    let polls = (0..3).flat_map(|_| files.poll());
    polls.map(|news| news.what).collect()
}

#[test]
fn a_change_is_taken_once_nothing_moves() {
    let directory = TempDir::new().expect("directory");
    write(directory.path(), Part::Both);
    let (server, mut files) = watched(&directory);
    assert_eq!(news(&mut files), [], "nothing is new");
    let old = server.fingerprint_for("mail.example");

    write(directory.path(), Part::Both);
    assert_eq!(files.poll(), [], "it may still be moving");
    assert_eq!(server.fingerprint_for("mail.example"), old);
    let taken = files.poll();
    assert!(
        matches!(&taken[..], [News { service, what: What::Taken(_) }] if service == "exchange")
    );
    assert_ne!(server.fingerprint_for("mail.example"), old);
    assert_eq!(news(&mut files), []);
}

#[test]
fn a_change_between_the_start_and_the_first_look_is_not_lost() {
    let directory = TempDir::new().expect("directory");
    write(directory.path(), Part::Both);
    let options = ServerOptions::new(
        directory.path().join("cert.pem"),
        directory.path().join("key.pem"),
    );
    let server = ServerTls::load(options).expect("good files");
    write(directory.path(), Part::Both);
    let made = Box::new(server) as Box<dyn Reload>;
    let label = String::new();
    let mut files = Files::new(vec![Watched {
        service: 0,
        label,
        made,
    }]);
    assert!(matches!(news(&mut files)[..], [What::Taken(_)]));
}

#[test]
fn what_is_wrong_is_told_once_and_forgotten_when_it_is_right() {
    let directory = TempDir::new().expect("directory");
    let certificate = directory.path().join("cert.pem");
    write(directory.path(), Part::Both);
    let (server, mut files) = watched(&directory);
    let old = server.fingerprint_for("mail.example");

    write(directory.path(), Part::Key);
    assert!(matches!(news(&mut files)[..], [What::Halfway(_)]));
    write(directory.path(), Part::Certificate);
    assert_eq!(
        news(&mut files),
        [],
        "still not one another's: told already"
    );
    assert_eq!(files.problems().len(), 1);

    std::fs::remove_file(&certificate).expect("removed");
    let refused = news(&mut files);
    assert!(matches!(&refused[..], [What::Refused(text)] if text.contains("cert.pem")));
    assert_eq!(files.problems()[0].0, 3, "the service's");
    assert_eq!(server.fingerprint_for("mail.example"), old);

    write(directory.path(), Part::Both);
    assert!(matches!(news(&mut files)[..], [What::Taken(_)]));
    assert_eq!(files.problems(), []);
}

#[test]
fn what_several_say_of_one_file_is_said_once() {
    let directory = TempDir::new().expect("directory");
    write(directory.path(), Part::Both);
    let verify = Verify::Roots(directory.path().join("cert.pem"));
    let watched = ["a", "b"].map(|_| {
        let name = "mail.example".try_into().expect("name");
        let made = upstream(&verify, name).expect("a root");
        Watched {
            service: 0,
            label: "exchange".to_owned(),
            made: Box::new(made) as Box<dyn Reload>,
        }
    });
    let mut files = Files::new(watched.into());
    write(directory.path(), Part::Both);
    assert!(matches!(news(&mut files)[..], [What::Taken(_)]));
    std::fs::write(directory.path().join("cert.pem"), "").expect("written");
    assert!(matches!(news(&mut files)[..], [What::Refused(_)]));
    assert_eq!(files.problems().len(), 1);
}
