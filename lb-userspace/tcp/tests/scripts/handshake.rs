//! Opening: RFC 9293 §3.5 and §3.10.7.2–3, the options of RFC 7323 §2–3 and RFC 2018 §2.

use crate::drive::script;

/// Every mix of options on both sides: an option counts only if both SYNs have it (RFC 7323 §2.2, §3.2; RFC 2018 §2).
#[test]
fn options_count_if_both_ends_have_them() {
    for mask in 0..32 {
        let has = |bit: u32| mask & (1 << bit) != 0;
        let of = |has: bool, text: &'static str| if has { text } else { "" };
        let rules = [
            of(!has(0), "no sack"),
            of(!has(1), "no timestamps"),
            "scale 7",
        ];
        let rules: Vec<_> = rules.into_iter().filter(|it| !it.is_empty()).collect();
        let (peer_sack, peer_ts, peer_scale) = (has(2), has(3), has(4));
        let syn = [
            of(peer_sack, "sack"),
            of(peer_ts, "ts 700/0"),
            of(peer_scale, "scale 3"),
        ];
        let answer = [
            of(has(0) && peer_sack, "sack"),
            of(has(1) && peer_ts, "ts 0/700"),
            of(peer_scale, "scale 7"),
        ];
        let has_timestamps = has(1) && peer_ts;
        let theirs = of(has_timestamps, "ts 701/0");
        let ours = if has_timestamps { "ts 10/701" } else { "no-ts" };
        let blocks = of(has(0) && peer_sack, "sack 11..21");
        let (rules, syn, answer) = (rules.join(","), syn.join(" "), answer.join(" "));
        script(&format!(
            "given {rules}
             in S 0 win 1000 mss 1000 {syn}
             out SA 0 ack 1 mss 1460 {answer}
             +10ms in A 1 ack 1 {theirs}
             state Established
             in A 11..21 ack 1 {theirs}
             out A 1 ack 1 {ours} {blocks}
             in A 1..11 ack 1 {theirs}
             out A 1 ack 21 {ours}
             reads 20"
        ));
    }
}

/// We connect: all offered, and what the peer took.
#[test]
fn we_connect() {
    script(
        "connect
         out S 0 win 65535 mss 1460 sack ts 0/0 scale 10
         +20ms in SA 0 ack 1 win 65535 mss 1400 sack ts 900/0 scale 8
         out A 1 ack 1 ts 20/900
         state Established
         writes 3000
         out A 1..1389 ack 1
         out A 1389..2777 ack 1
         out PA 2777..3001 ack 1",
    );
    script(
        "connect
         out S 0 mss 1460 sack ts 0/0 scale 10
         +20ms in SA 0 ack 1 win 65535
         out A 1 ack 1 no-ts
         writes 600
         out A 1..537 ack 1   # a peer that tells no MSS takes 536 (RFC 9293 §3.7.1)
         out A 537..601 ack 1",
    );
}

/// RFC 6298 §5.5, §2.1: 1 s, then twice as long each time.
#[test]
fn our_syn_is_sent_again() {
    script(
        "connect
         out S 0 mss 1460 sack ts 0/0 scale 10
         +1s out S 0 mss 1460 sack ts 1000/0 scale 10
         +2s out S 0 mss 1460 sack ts 3000/0 scale 10
         +4s out S 0 mss 1460 sack ts 7000/0 scale 10
         +100ms in SA 0 ack 1 mss 1460 sack ts 900/7000 scale 8
         out A 1 ack 1",
    );
}

/// A half-open connection is forgotten after five more tries, without a RST: whoever sent the SYN may never have been there.
#[test]
fn our_syn_ack_is_sent_again_and_then_forgotten() {
    script(
        "in S 0 mss 1460
         out SA 0 ack 1 mss 1460
         +1s out SA 0 ack 1 mss 1460
         +2s out SA 0 ack 1 mss 1460
         +4s out SA 0 ack 1 mss 1460
         +8s out SA 0 ack 1 mss 1460
         +16s out SA 0 ack 1 mss 1460
         silence 5min
         state Closed
         memory 0",
    );
}

/// The peer did not get our SYN-ACK.
#[test]
fn a_repeated_syn_is_answered_again() {
    script(
        "in S 0 mss 1460
         out SA 0 ack 1 mss 1460
         +600ms in S 0 mss 1460
         out SA 0 ack 1 mss 1460
         +10ms in A 1 ack 1
         state Established",
    );
}

/// RFC 9293 §3.10.7.3.
#[test]
fn while_our_syn_is_out() {
    // An acknowledgement of what we never sent is refused.
    script(
        "connect
         skip 1
         in SA 0 ack 2 mss 1460
         out R 2
         state SynSent
         in A 5 ack 7
         out R 7",
    );
    // A RST counts only with an acknowledgement of our SYN.
    script(
        "connect
         skip 1
         in R 0
         in RA 0 ack 0
         in RA 0 ack 2
         state SynSent
         in RA 0 ack 1
         state Closed
         fails Refused
         counts AttemptFails 1",
    );
    // What is no SYN is ignored.
    script(
        "connect
         skip 1
         in A 1..100 ack 1
         state SynSent",
    );
}

/// RFC 9293 §3.10.7.4, fifth, SYN-RECEIVED: an acknowledgement of something else is refused, and the handshake stays.
#[test]
fn a_wrong_third_segment() {
    script(
        "in S 0 mss 1460
         skip 1
         in A 1 ack 5
         out R 5
         state SynReceived
         in A 1 ack 1
         state Established",
    );
}

/// RFC 9293 §3.5, figure 7.
#[test]
fn both_connect_at_the_same_time() {
    script(
        "connect
         out S 0 mss 1460 sack ts 0/0 scale 10
         +5ms in S 0 mss 1460 sack ts 50/0 scale 7
         out SA 0 ack 1 mss 1460 sack ts 5/50 scale 10
         state SynReceived
         +5ms in SA 0 ack 1 mss 1460 sack ts 55/5 scale 7
         out A 1 ack 1           # its number is old by now, so it is acknowledged only
         state SynReceived
         in A 1 ack 1
         state Established
         writes 100
         out A 1..101 ack 1",
    );
}

/// The third segment may bring text and FIN; if it is lost, what follows it does the same.
#[test]
fn text_ends_the_handshake() {
    script(
        "in S 0 mss 1460
         skip 1
         +10ms in A 1..1001 ack 1
         state Established
         reads 1000
         out A 1 ack 1001",
    );
    script(
        "in S 0 mss 1460
         skip 1
         +10ms in FA 1..11 ack 1
         state CloseWait
         out A 1 ack 12
         reads 10
         reads end",
    );
}

/// Text of a SYN is not taken; the peer sends it again (RFC 9293 §3.10.7.2 allows both).
#[test]
fn text_of_a_syn_comes_again() {
    script(
        "in S 0..100 mss 1460
         out SA 0 ack 1 mss 1460
         in A 1..101 ack 1
         +5ms out A 1 ack 101
         reads 100",
    );
}

/// RFC 7323 §2.2: windows of SYNs are not scaled; §2.3: a shift above 14 is 14.
#[test]
fn windows_of_syns_are_not_scaled() {
    script(
        "given receive_window 300000
         in S 0 win 3000 mss 1000 scale 200
         out SA 0 ack 1 win 65535 mss 1460 scale 10
         +10ms in A 1 ack 1 win 1
         writes 20000
         out A 1..1001 ack 1 win 292
         skip 9",
    );
    // Without the option from the peer there is none from us, and no scale.
    script(
        "given receive_window 300000
         in S 0 win 3000 mss 1000
         out SA 0 ack 1 win 65535 mss 1460
         +10ms in A 1 ack 1 win 2500
         writes 20000
         out A 1..1001 ack 1 win 65535
         out A 1001..2001
         silence 100ms    # 500 bytes of window are not worth a segment",
    );
}

#[test]
fn a_refused_handshake() {
    script(
        "in S 0 mss 1460
         skip 1
         in R 1
         state Closed
         fails Reset
         memory 0",
    );
    script(
        "connect
         skip 1
         unreachable 0
         state Closed
         fails Unreachable",
    );
}
