//! Forged and stale segments: RFC 5961, RFC 7323 §5, and the acceptability test of RFC 9293 §3.10.7.4.

use crate::drive::script;

/// RFC 5961 §3.2.
#[test]
fn only_the_exact_number_resets() {
    script(
        "established
         in R 1
         state Closed
         fails Reset
         counts EstabResets 1",
    );
    script(
        "established
         in R 2              # in the window, but not RCV.NXT
         out A 1 ack 1
         state Established
         counts TCPChallengeACK 1
         +600ms in R 65000
         out A 1 ack 1
         +600ms in R 300000  # outside
         state Established
         counts TCPChallengeACK 2",
    );
}

/// RFC 5961 §4.2: whatever its number.
#[test]
fn a_syn_is_challenged() {
    script(
        "established
         in S 5 mss 1460
         out A 1 ack 1
         +600ms in S 0 mss 1460
         out A 1 ack 1
         +600ms in S 1000000 mss 1460
         out A 1 ack 1
         state Established",
    );
}

/// RFC 5961 §5.2: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT.
#[test]
fn an_acknowledgement_out_of_range_is_challenged() {
    script(
        "established mss 1000 win 2000 settled
         writes 1000
         out A 1..1001 ack 1
         in A 1..11 ack 1002     # not yet sent
         out A 1001 ack 1
         +10ms in A 1 ack 1001
         +600ms in A 1..11 ack 900   # old, within the window
         +40ms out A 1001 ack 11
         reads 10
         +600ms in A 11..21 ack 4294965200   # older than any
         out A 1001 ack 11
         reads 0",
    );
}

/// RFC 5961 §7: answers to what an attacker sends are limited.
#[test]
fn challenges_are_limited() {
    script(
        "established
         in R 2
         out A 1 ack 1
         in R 2
         in S 5 mss 1460
         +400ms in R 2
         +100ms in R 2
         out A 1 ack 1",
    );
}

/// RFC 9293 §3.10.7.4, first: text outside of the window is acknowledged, not taken.
#[test]
fn text_outside_of_the_window() {
    script(
        "given receive_window 4000
         established settled
         in A 100000..100100 ack 1
         out A 1 ack 1
         reads 0
         in A 1..101 ack 1
         +40ms out A 1 ack 101
         in A 1..101 ack 1       # all of it known
         out A 1 ack 101",
    );
}

/// RFC 7323 §5.3: R1.
#[test]
fn paws() {
    script(
        "established ts settled
         in A 1..101 ack 1 ts 600000/0
         +40ms out A 1 ack 101 ts */600000
         in A 101..201 ack 1 ts 599999/0   # older
         out A 1 ack 101 ts */600000
         counts PAWSEstab 1
         reads 100
         in A 101..201 ack 1 ts 600000/0   # as old is not older
         out A 1 ack 201                   # the first delay was for nothing
         +600ms in R 201 ts 5/0            # R1 is not about RSTs
         state Closed",
    );
}

/// RFC 7323 §5.5: after 24 days, timestamps have wrapped.
#[test]
fn paws_ends_after_24_days() {
    script(
        "given keepalive 0
         established ts settled
         in A 1..101 ack 1 ts 600000/0
         +40ms out A 1 ack 101
         +600h in A 101..201 ack 1 ts 599999/0
         out A 1 ack 201 ts */599999",
    );
}

/// RFC 7323 §3.2: once negotiated, a segment without timestamps is dropped silently; not a RST.
#[test]
fn a_segment_without_timestamps() {
    script(
        "established ts
         in A 1..101 ack 1 no-ts
         silence 1s
         reads 0
         in R 1 no-ts
         state Closed",
    );
}

/// RFC 7323 §4.3: the echo is of the segment that the acknowledgement is for, the earliest not acknowledged.
#[test]
fn which_timestamp_is_echoed() {
    script(
        "established ts settled
         in A 1..101 ack 1 ts 600000/0
         in A 101..201 ack 1 ts 600007/0
         +40ms out A 1 ack 201 ts */600000
         in A 301..401 ack 1 ts 600020/0    # behind a gap
         out A 1 ack 201 ts */600000
         in A 201..301 ack 1 ts 600015/0
         out A 1 ack 401 ts */600015",
    );
}

/// RFC 6093 §6: urgent bytes are bytes like the others.
#[test]
fn urgent_bytes_come_in_line() {
    script(
        "established settled
         in UA 1..11 ack 1
         in A 11..21 ack 1
         +40ms out A 1 ack 21
         reads 20",
    );
}

/// A segment without ACK is not looked at (RFC 9293 §3.10.7.4, fifth).
#[test]
fn no_ack_no_text() {
    script(
        "established
         in - 1..101
         silence 1s
         reads 0",
    );
}
