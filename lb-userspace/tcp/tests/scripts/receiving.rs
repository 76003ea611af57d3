//! What we say of what arrives: acknowledgements, SACK, windows (RFC 9293 §3.8, RFC 5681 §4, RFC 2018, RFC 2883).

use crate::drive::script;

/// RFC 5681 §4.2: the second full segment is acknowledged at once, a single one in time.
#[test]
fn acknowledgements_are_delayed() {
    script(
        "established mss 1460 settled
         in A 1..1461 ack 1
         +40ms out A 1 ack 1461
         counts DelayedACKs 1
         in A 1461..2921 ack 1
         +1ms in A 2921..4381 ack 1
         out A 1 ack 4381
         reads 4380",
    );
}

/// A delayed acknowledgement goes with data.
#[test]
fn data_carries_the_acknowledgement() {
    script(
        "established settled
         in A 1..101 ack 1
         +5ms reads 100
         writes 200
         out A 1..201 ack 101
         +10ms in A 101 ack 201
         silence 1s",
    );
}

/// RFC 5681 §4.2: at once, for what is out of order and for what fills a gap. RFC 2018 §4: the latest block first.
#[test]
fn gaps_are_told_at_once() {
    script(
        "established sack
         in A 101..201 ack 1
         out A 1 ack 1 sack 101..201
         in A 301..401 ack 1
         out A 1 ack 1 sack 301..401,101..201
         in A 501..601 ack 1
         out A 1 ack 1 sack 501..601,301..401,101..201
         in A 201..301 ack 1
         out A 1 ack 1 sack 101..401,501..601
         in A 1..101 ack 1
         out A 1 ack 401 sack 501..601
         in A 401..501 ack 1
         out A 1 ack 601
         reads 600",
    );
    // Timestamps leave room for three blocks only.
    script(
        "established sack ts
         in A 101..201 ack 1
         in A 301..401 ack 1
         in A 501..601 ack 1
         in A 701..801 ack 1
         out A 1 ack 1 sack 701..801,501..601,301..401",
    );
    script(
        "established
         in A 101..201 ack 1
         out A 1 ack 1",
    );
}

/// RFC 2883: what came twice is told first.
#[test]
fn duplicates_are_told() {
    script(
        "established sack
         in A 1..101 ack 1
         +5ms out A 1 ack 101
         in A 1..101 ack 1
         out A 1 ack 101 sack 1..101
         counts DSACKOldSent 1
         in A 201..301 ack 1
         out A 1 ack 101 sack 201..301
         in A 201..301 ack 1
         out A 1 ack 101 sack 201..301,201..301
         in A 51..251 ack 1              # both ends known; the later is told
         out A 1 ack 301 sack 201..251",
    );
}

/// A FIN is acknowledged at once, and behind a gap it waits for it.
#[test]
fn a_fin_behind_a_gap() {
    script(
        "established sack
         in FA 101..201 ack 1
         out A 1 ack 1 sack 101..202    # the FIN has a number
         state Established
         in A 1..101 ack 1
         out A 1 ack 202
         state CloseWait
         reads 200
         reads end",
    );
}

/// The window closes as nobody reads, its right edge stays, and reading opens it again by enough (RFC 9293 §3.8.6.2.2).
#[test]
fn a_window_that_nobody_empties() {
    script(
        "given receive_window 4000
         established mss 1000
         in A 1..1001 ack 1
         in A 1001..2001 ack 1
         out A 1 ack 2001 win 2000
         in A 2001..3001 ack 1
         in A 3001..4001 ack 1
         out A 1 ack 4001 win 0
         in A 4001..4002 ack 1      # a probe
         out A 1 ack 4001 win 0
         reads 4000
         out A 1 ack 4001 win 4000
         in A 4001..5001 ack 1
         out A 1 ack 5001 win 3000",
    );
}

/// RFC 9293 §3.10.7.4: with the window closed, acknowledgements and RSTs still count.
#[test]
fn a_closed_window_takes_acknowledgements() {
    script(
        "given receive_window 1000
         established mss 1000
         writes 500
         out A 1..501 ack 1
         in A 1..1001 ack 1
         out A 501 ack 1001 win 0
         in A 1001 ack 501
         writes 10
         out A 501..511 ack 1001 win 0
         in R 1001
         state Closed",
    );
}
