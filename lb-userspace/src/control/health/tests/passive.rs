//! Servers that workers have taken out, and the probes that let them in again.

use std::num::NonZeroU16;

use lb_proxy::Server;

use super::*;

#[tokio::test]
async fn the_next_good_probe_lets_a_server_in_again() {
    let (listener, address) = listen().await;
    let server = Arc::new(Server::new("s", address, NonZeroU16::MIN));
    let target = Target {
        proxied: Some(Arc::clone(&server)),
        ..target(0, address, Probe::Http(get("200 OK")))
    };
    let sick = "HTTP/1.1 500 Sick\r\ncontent-length: 0\r\n\r\n";
    let serve = async {
        // While this probe is under way the requests fail; so it proves nothing.
        let (stream, _) = listener.accept().await.expect("accept");
        assert!(server.eject());
        answer(stream, &[HEALTHY]).await;
        // Nor does a bad one.
        let (stream, _) = listener.accept().await.expect("accept");
        assert!(server.is_ejected());
        answer(stream, &[sick]).await;
        let (stream, _) = listener.accept().await.expect("accept");
        assert!(server.is_ejected());
        answer(stream, &[HEALTHY]).await;
        let (_stream, _) = listener.accept().await.expect("accept");
        assert!(server.is_up());
    };
    let (sender, _changes) = mpsc::channel(16);
    tokio::select! {
        () = monitor(vec![target], sender) => panic!("it has no reason to end"),
        () = serve => {}
    }
}
