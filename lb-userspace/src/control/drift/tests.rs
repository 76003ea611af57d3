//! Real handshakes with servers on the loopback; looks are made by hand, so that no test waits.

use std::net::Ipv4Addr;
use std::path::Path;

use lb_proxy::tls::{CertificateFiles, Reload as _, ServerOptions};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;

/// Makes a certificate for [`NAME`] and its key.
fn files(directory: &Path, title: &str) -> CertificateFiles {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("made");
    let files = CertificateFiles {
        certificate: directory.join(format!("{title}.pem")),
        key: directory.join(format!("{title}.key")),
        ocsp: None,
    };
    std::fs::write(&files.certificate, made.cert.pem()).expect("written");
    std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
    files
}

const NAME: &str = "mail.example";

fn tls(files: &[&CertificateFiles]) -> Arc<ServerTls> {
    let mut options = ServerOptions::new("", "");
    options.certificates = files.iter().map(|&files| files.clone()).collect();
    ServerTls::load(options).expect("good files")
}

fn fingerprint(files: &CertificateFiles) -> Fingerprint {
    tls(&[files]).fingerprint_for(NAME).expect("its name")
}

/// A server that shows what `tls` says at the time.
async fn server(tls: Arc<ServerTls>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Kept open: the client ends it.
            let _ = tls.acceptor().accept(stream).await;
        }
    });
    address
}

fn watch(server: usize, address: SocketAddr, ours: &Arc<ServerTls>) -> Watch {
    Watch {
        service: 7,
        server,
        label: format!("exchange/ex{server}"),
        address,
        name: NAME.try_into().expect("name"),
        ours: Arc::clone(ours),
        protected: true,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(20),
    }
}

/// Looks once; what came of it, and whether it is told.
async fn look_once(watch: &Watch, board: &Board) -> (Drift, u64) {
    compare(&[watch], &peek().expect("settings"), board).await;
    let drift = board.get(watch.service, watch.server).expect("seen");
    (drift, board.found(watch.service).expect("looked"))
}

#[tokio::test]
async fn a_drift_is_found_named_and_over_when_it_is_mended() {
    let directory = TempDir::new().expect("directory");
    let make = |title| files(directory.path(), title);
    let (now, next, other) = (make("now"), make("next"), make("other"));
    let shown = make("shown");
    let copy = |from: &CertificateFiles| {
        std::fs::copy(&from.certificate, &shown.certificate).expect("copied");
        std::fs::copy(&from.key, &shown.key).expect("copied");
    };
    copy(&now);
    let theirs = tls(&[&shown]);
    let address = server(Arc::clone(&theirs)).await;
    let ours = tls(&[&now, &next]);
    let (watch, board) = (watch(1, address, &ours), Board::default());
    let ours = fingerprint(&now);

    assert_eq!(look_once(&watch, &board).await, (Drift::Same, 0));
    copy(&other);
    theirs.reload().expect("good files");
    let theirs_now = fingerprint(&other);
    let differs = Drift::Differs {
        ours,
        theirs: theirs_now,
    };
    for _ in 0..2 {
        assert_eq!(look_once(&watch, &board).await, (differs.clone(), 1));
    }
    for part in [ours.to_string(), theirs_now.to_string()] {
        assert!(differs.explain().contains(&part));
    }

    copy(&next);
    theirs.reload().expect("good files");
    let theirs_now = fingerprint(&next);
    let staged = Drift::Staged {
        ours,
        theirs: theirs_now,
    };
    assert_eq!(look_once(&watch, &board).await, (staged, 1));
    // The other half of the rotation: the next certificate over the files of the first.
    std::fs::copy(&next.certificate, &now.certificate).expect("copied");
    std::fs::copy(&next.key, &now.key).expect("copied");
    watch.ours.reload().expect("good files");
    assert_eq!(look_once(&watch, &board).await, (Drift::Same, 1));
}

#[test]
fn only_changes_are_told_and_absence_is_none() {
    let directory = TempDir::new().expect("directory");
    let ours = tls(&[&files(directory.path(), "now")]);
    let watch = watch(1, ([127, 0, 0, 1], 1).into(), &ours);
    let fingerprint = ours.fingerprint_for(NAME).expect("its name");
    let differs = Drift::Differs {
        ours: fingerprint,
        theirs: fingerprint,
    };
    let away = Drift::Unseen("refused".to_owned());
    let board = Board::default();
    let told = |drift: &Drift| board.put(&watch, drift);
    assert!(!told(&Drift::Same), "that all is well needs no line");
    assert!(told(&differs));
    assert!(!told(&differs));
    assert!(!told(&away));
    assert_eq!(board.get(7, 1), Some(away));
    assert!(!told(&differs), "it is back as it was");
    assert!(told(&Drift::Same), "mended");
    assert!(told(&differs));
    assert_eq!(board.found(7), Some(2));
    assert_eq!((board.get(7, 2), board.found(8)), (None, None));
}

#[tokio::test]
async fn a_start_that_would_end_every_login_is_refused() {
    let directory = TempDir::new().expect("directory");
    let make = |title| files(directory.path(), title);
    let (now, next, other) = (make("now"), make("next"), make("other"));
    let ours = tls(&[&now, &next]);
    let nobody = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        listener.local_addr().expect("bound")
    };
    let (same, staged, differs) = (
        watch(1, server(tls(&[&now])).await, &ours),
        watch(2, server(tls(&[&next])).await, &ours),
        watch(3, server(tls(&[&other])).await, &ours),
    );
    let away = watch(4, nobody, &ours);
    let fine = [same.clone(), staged, away];
    require_same(&fine).await.expect("nothing differs");

    let unprotected = Watch {
        protected: false,
        ..differs.clone()
    };
    require_same(&[unprotected])
        .await
        .expect("nobody asked for it");

    let refusal = require_same(&[same, differs]).await.expect_err("differs");
    let refusal = refusal.to_string();
    let expected = [
        "exchange/ex3".to_owned(),
        fingerprint(&now).to_string(),
        fingerprint(&other).to_string(),
    ];
    for part in expected {
        assert!(refusal.contains(&part), "{refusal}");
    }
    assert!(!refusal.contains("ex1"), "{refusal}");
}

#[tokio::test]
async fn routes_that_share_a_server_share_the_look() {
    let directory = TempDir::new().expect("directory");
    let ours = tls(&[&files(directory.path(), "now")]);
    let address = server(Arc::clone(&ours)).await;
    let watches = [1, 2].map(|place| watch(place, address, &ours));
    let groups = groups(&watches);
    assert_eq!(groups.len(), 1);
    let (board, config) = (Board::default(), peek().expect("settings"));
    for group in groups.values() {
        compare(group, &config, &board).await;
    }
    assert_eq!(
        (board.get(7, 1), board.get(7, 2)),
        (Some(Drift::Same), Some(Drift::Same))
    );
}
