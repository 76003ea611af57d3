//! Closing: RFC 9293 §3.6, §3.10.4–5, and RSTs of our own.

use crate::drive::script;

#[test]
fn we_close_first() {
    script(
        "established
         writes 100
         closes
         out FA 1..101 ack 1
         state FinWait1
         +10ms in A 1 ack 102
         state FinWait2
         +10ms in FA 1..51 ack 102
         out A 102 ack 52
         state TimeWait
         reads 50
         reads end
         memory 0
         +1s in FA 1..51 ack 102     # the peer did not get our answer
         out A 102 ack 52
         state TimeWait",
    );
}

#[test]
fn the_peer_closes_first() {
    script(
        "established
         in FA 1..51 ack 1
         out A 1 ack 52
         state CloseWait
         reads 50
         reads end
         writes 100                  # half closed
         out A 1..101 ack 52
         +10ms in A 52 ack 101
         closes
         out FA 101 ack 52
         state LastAck
         +10ms in A 52 ack 102
         state Closed
         memory 0",
    );
}

#[test]
fn both_close_at_the_same_time() {
    script(
        "established
         closes
         out FA 1 ack 1
         in FA 1 ack 1
         out A 2 ack 2
         state Closing
         +10ms in A 2 ack 2
         state TimeWait",
    );
    // The peer's FIN acknowledges ours.
    script(
        "established
         closes
         out FA 1 ack 1
         in FA 1 ack 2
         out A 2 ack 2
         state TimeWait",
    );
}

/// After our FIN the peer may go on for as long as it likes.
#[test]
fn a_half_closed_connection_still_reads() {
    script(
        "established mss 1000
         closes
         out FA 1 ack 1
         +10ms in A 1 ack 2
         in A 1..1001 ack 2
         out A 2 ack 1001
         +1h in A 1001..2001 ack 2
         out A 2 ack 2001
         reads 2000",
    );
}

#[test]
fn a_lost_fin_is_sent_again() {
    script(
        "established
         closes
         out FA 1 ack 1
         +210ms out FA 1 ack 1   # RFC 6298: the round trip, and 200 ms
         +10ms in A 1 ack 2
         state FinWait2",
    );
}

/// RFC 9293 §3.10.5.
#[test]
fn abort() {
    script(
        "established
         writes 1000
         aborts
         out RA 1 ack 1
         state Closed
         fails Aborted
         memory 0
         silence 1min",
    );
    script(
        "established mss 1000
         writes 1000
         out A 1..1001 ack 1
         aborts
         out RA 1001 ack 1",
    );
    // Nobody knows of us yet.
    script(
        "connect
         out S 0 mss 1460 sack ts 0/0 scale 10
         aborts
         state Closed
         silence 1min",
    );
    script(
        "in S 0 mss 1460
         out SA 0 ack 1 mss 1460
         aborts
         out RA 1 ack 1
         state Closed",
    );
}

/// RFC 9293 §3.10.7.4, second: what was in flight is gone.
#[test]
fn the_peer_resets() {
    script(
        "established
         writes 100
         out A 1..101 ack 1
         in A 1..11 ack 1
         in R 11
         fails Reset
         reads 10
         silence 1min",
    );
}

/// Written before the handshake is over; FIN too.
#[test]
fn what_waits_for_the_handshake() {
    script(
        "connect
         out S 0 mss 1460 sack ts 0/0 scale 10
         writes 100
         closes
         silence 500ms
         in SA 0 ack 1 mss 1460
         out FA 1..101 ack 1
         state FinWait1",
    );
}
