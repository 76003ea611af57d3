//! The sums of RFC 9937, with the examples of RFC 6937 §4 in segments of one byte.

use std::vec;
use std::vec::Vec;

use super::*;

/// A recovery from a flight of `flight` with `lost` of them lost: acknowledgements come one segment each, and whatever
/// may leave does. Gives how many leave at each.
fn recovery(flight: u32, lost: u32, ssthresh: u32, safe: bool) -> (Vec<u32>, u32) {
    let mut prr = Prr::new(flight);
    let mut pipe = flight - lost;
    let mut sent = Vec::new();
    for _ in 0..flight - lost {
        pipe -= 1;
        prr.on_ack(&Delivery {
            delivered: 1,
            pipe,
            ssthresh,
            mss: 1,
            safe,
        });
        let count = prr.cwnd() - pipe;
        prr.on_sent(count);
        pipe += count;
        sent.push(count);
    }
    (sent, pipe)
}

#[test]
fn one_loss_sends_one_segment_for_every_two_that_arrive() {
    let (sent, pipe) = recovery(20, 1, 10, false);
    for (index, pair) in sent.chunks(2).enumerate() {
        assert_eq!(pair.iter().sum::<u32>(), 1, "pair {index} of {sent:?}");
    }
    assert_eq!(sent[0], 1, "the retransmission leaves at once");
    assert_eq!(pipe, 10, "the flight ends at ssthresh");
}

#[test]
fn the_share_of_cubic_is_seven_tenths() {
    let (sent, pipe) = recovery(100, 1, 70, false);
    let mut sum = 0;
    for (index, count) in sent.iter().enumerate() {
        sum += count;
        let delivered = u32::try_from(index).unwrap() + 1;
        // At the very end the flight reaches ssthresh, and what is left waits for one more.
        assert!(
            (delivered * 70).div_ceil(100) - sum <= 1,
            "{delivered}: {sum}"
        );
    }
    assert_eq!(pipe, 70);
}

#[test]
fn many_losses_are_conserved_and_made_up_for_only_when_it_is_safe() {
    // 15 of 20 lost: the flight is below ssthresh from the beginning.
    let (sent, pipe) = recovery(20, 15, 10, false);
    assert_eq!((sent, pipe), (vec![1; 5], 5));
    let (sent, pipe) = recovery(20, 15, 10, true);
    assert_eq!((sent, pipe), (vec![2; 5], 10));
}

#[test]
fn an_acknowledgement_that_delivers_nothing_sends_nothing() {
    let mut prr = Prr::new(10);
    let nothing = Delivery {
        delivered: 0,
        pipe: 9,
        ssthresh: 7,
        mss: 1,
        safe: false,
    };
    prr.on_ack(&nothing);
    assert_eq!(prr.cwnd(), 10, "but for the first retransmission");
    prr.on_sent(1);
    prr.on_ack(&Delivery {
        pipe: 10,
        ..nothing
    });
    assert_eq!(prr.cwnd(), 10);
}
