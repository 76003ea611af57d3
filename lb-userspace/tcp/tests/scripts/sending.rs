//! What we send and when: RFC 6298, RFC 6675, RFC 8985, RFC 5681 and RFC 9438, RFC 9293 §3.8.6.

use crate::drive::script;

/// RFC 6928: ten segments at first; RFC 5681 §3.1: two for each acknowledgement of one in slow start.
#[test]
fn the_window_begins_with_ten_segments_and_doubles() {
    script(
        "established mss 1000 win 65535
         writes 60000
         skip 10
         silence 9ms
         +1ms in A 1 ack 2001
         skip 4
         in A 1 ack 4001
         skip 4
         in A 1 ack 10001
         out A 18001..19001
         skip 11
         silence 5ms",
    );
}

/// RFC 8985 §7.2: a probe after two round trips and what a peer may delay the acknowledgement of a single segment by, 80 ms. RFC 6298
/// §5: then after a round trip and 200 ms, and twice as long each time.
#[test]
fn silence_after_the_last_segment() {
    script(
        "established sack mss 1000 rtt 20ms
         writes 1000
         out PA 1..1001
         +120ms out PA 1..1001
         counts TCPLossProbes 1
         +220ms out PA 1..1001
         counts TCPTimeouts 1
         +440ms out PA 1..1001
         +880ms out PA 1..1001
         counts TCPTimeouts 3
         in A 1 ack 1001
         silence 1min",
    );
}

/// RFC 8985 §7.2: two round trips after the last segment of several, and 2 ms as on Linux, the last one goes again.
#[test]
fn a_tail_is_probed() {
    script(
        "established sack mss 1000 rtt 50ms
         writes 3000
         out A 1..1001
         out A 1001..2001
         out A 2001..3001
         +102ms out PA 2001..3001
         counts TCPLossProbes 1
         +50ms in A 1 ack 1 sack 2001..3001
         out A 1..1001            # one for one (RFC 6937)
         +50ms in A 1 ack 1001 sack 2001..3001
         out A 1001..2001
         counts TCPTimeouts 0",
    );
}

/// RFC 6675, RFC 8985 §6.2: three segments behind it say that the first is lost.
#[test]
fn sack_tells_of_a_loss() {
    script(
        "established sack mss 1000 rtt 50ms
         writes 5000
         skip 5
         +50ms in A 1 ack 1 sack 1001..2001
         in A 1 ack 1 sack 1001..3001
         in A 1 ack 1 sack 1001..4001
         out A 1..1001
         counts TCPSackRecovery 1
         +50ms in A 1 ack 5001
         silence 1s
         counts TCPTimeouts 0",
    );
}

/// RFC 6582: without SACK it takes three duplicate acknowledgements; a partial one says what is next.
#[test]
fn duplicate_acknowledgements_tell_of_a_loss() {
    script(
        "established mss 1000 rtt 50ms
         writes 6000
         skip 6
         +50ms in A 1 ack 1
         in A 1 ack 1
         silence 1ms
         in A 1 ack 1
         out A 1..1001
         counts TCPRenoRecovery 1
         +50ms in A 1 ack 3001
         out A 3001..4001
         +50ms in A 1 ack 6001
         silence 1s",
    );
}

/// RFC 8985 §6.2, step 4: what was only late is not sent again: a quarter of the round trip is left for it once reordering was
/// seen.
#[test]
fn a_late_segment_is_not_lost() {
    script(
        "established sack mss 1000 rtt 80ms
         writes 2000
         skip 2
         +80ms in A 1 ack 1 sack 1001..2001
         silence 10ms
         in A 1 ack 2001
         silence 1s
         counts TCPTimeouts 0
         counts TcpRetransSegs 0",
    );
}

/// RFC 9293 §3.8.6.1: a closed window is probed, at intervals that double, for as long as the peer answers.
#[test]
fn a_closed_window_is_probed() {
    script(
        "established mss 1000 win 1000 rtt 20ms
         writes 3000
         out A 1..1001
         +20ms in A 1 ack 1001 win 0
         +220ms out A 1000 ack 1
         in A 1 ack 1001 win 0
         +440ms out A 1000
         in A 1 ack 1001 win 0
         +880ms out A 1000
         in A 1 ack 1001 win 0
         +100ms in A 1 ack 1001 win 2000
         out A 1001..2001
         out PA 2001..3001
         counts TCPWinProbe 3",
    );
}

/// RFC 9293 §3.8.6.2.1: a few bytes of window are not worth a segment while more is waiting.
#[test]
fn no_silly_segments() {
    script(
        "established mss 1000 win 10000
         writes 12000
         skip 10
         +10ms in A 1 ack 10001 win 100
         silence 100ms
         in A 1 ack 10001 win 1500
         out A 10001..11001
         silence 5ms",
    );
}

/// RFC 9293 §3.8.4.
#[test]
fn keepalive() {
    script(
        "given keepalive 60
         established
         +60s out A 0 ack 1
         in A 1 ack 1
         +60s out A 0 ack 1
         +75s out A 0 ack 1
         +75s out A 0 ack 1
         +75s out A 0 ack 1
         +75s out A 0 ack 1
         +75s out A 0 ack 1
         +75s out A 0 ack 1
         +75s out A 0 ack 1
         +75s out A 0 ack 1
         +75s out RA 1 ack 1
         fails TimedOut
         counts TCPKeepAlive 10",
    );
}

/// RFC 9293 §3.8.3, RFC 5482: who owes an acknowledgement for so long is given up.
#[test]
fn user_timeout() {
    script(
        "given user_timeout 5
         established rtt 20ms
         writes 100
         out PA 1..101
         +220ms out A 1..101
         +440ms out A 1..101
         +880ms out A 1..101
         +1760ms out A 1..101
         silence 10s
         fails TimedOut
         memory 0",
    );
}

/// RFC 1191 §6, RFC 5927 §4: the segment in flight goes again in smaller ones; what was not sent is not believed.
#[test]
fn a_narrower_path() {
    script(
        "established mss 1460 sack
         writes 2920
         out A 1..1461
         out PA 1461..2921
         too-big 5000 1000        # not in flight
         counts OutOfWindowIcmps 1
         silence 1ms
         too-big 1 1000
         out A 1..1001
         out A 1001..1461
         out A 1461..2461
         out A 2461..2921
         +10ms in A 1 ack 2921
         writes 1500
         out A 2921..3921
         out PA 3921..4421",
    );
}

/// RFC 5461: a router that can't reach the peer is not believed until the peer has been silent for long.
#[test]
fn an_unreachable_peer() {
    script(
        "given user_timeout 2
         established rtt 20ms
         writes 100
         out PA 1..101
         unreachable 1
         state Established
         +220ms out A 1..101
         +440ms out A 1..101
         +880ms out A 1..101
         silence 10s
         fails Unreachable",
    );
}

/// RFC 2883, RFC 3522: a retransmission that was needless, and is told so, takes its congestion response back.
#[test]
fn a_needless_timeout_is_taken_back() {
    script(
        "established sack ts mss 1012 rtt 20ms
         writes 10000
         skip 10
         +42ms out PA 9001..10001 # the probe
         +220ms out A 1..1001     # the timeout
         counts TCPTimeouts 1
         +5ms in A 1 ack 10001 ts 900000/20    # of the first transmission
         counts TCPFullUndo 1
         writes 12000
         skip 12",
    );
}

/// RFC 9438 §4.6: seven tenths of the window are left after a loss.
#[test]
fn after_a_loss() {
    script(
        "established sack mss 1000 rtt 50ms
         writes 10000
         skip 10
         +50ms in A 1 ack 1 sack 1001..2001
         in A 1 ack 1 sack 1001..3001
         in A 1 ack 1 sack 1001..10001
         out A 1..1001
         info snd_ssthresh Some(7000)
         +50ms in A 1 ack 10001
         writes 20000
         skip 7
         silence 40ms",
    );
}
