//! The examples of RFC 2018 §4 and RFC 2883 §4, with the numbers of these texts less 5000 or so.

use super::*;

#[test]
fn rfc_2018_case_2_the_first_of_eight_is_lost() {
    let mut side = Side::new();
    for number in 1..8 {
        side.text(number * 500, number * 500 + 500);
        assert_eq!(side.told(), (0, vec![(500, number * 500 + 500)]));
    }
}

#[test]
fn rfc_2018_case_3_every_second_of_eight_is_lost() {
    let mut side = Side::new();
    side.text(0, 500);
    assert_eq!(side.told(), (500, vec![]));
    side.text(1000, 1500);
    assert_eq!(side.told(), (500, vec![(1000, 1500)]));
    side.text(2000, 2500);
    assert_eq!(side.told(), (500, vec![(2000, 2500), (1000, 1500)]));
    side.text(3000, 3500);
    let three = vec![(3000, 3500), (2000, 2500), (1000, 1500)];
    assert_eq!(side.told(), (500, three));
    // The fourth comes late, then the second.
    side.text(1500, 2000);
    assert_eq!(side.told(), (500, vec![(1000, 2500), (3000, 3500)]));
    side.text(500, 1000);
    assert_eq!(side.told(), (2500, vec![(3000, 3500)]));
}

#[test]
fn rfc_2883_example_1_a_full_duplicate_whose_acknowledgement_was_lost() {
    let mut side = Side::new();
    side.text(0, 500);
    side.text(500, 1000);
    side.acknowledge();
    side.text(0, 500);
    assert_eq!(side.told(), (1000, vec![(0, 500)]));
    assert_eq!(side.told(), (1000, vec![]), "told once");
    assert_eq!(side.counters.dsack_sent, 1);
}

#[test]
fn rfc_2883_example_2_and_3_a_duplicate_beside_a_gap() {
    let mut side = Side::new();
    side.text(0, 500);
    side.text(1000, 1500);
    side.text(0, 500);
    assert_eq!(side.told(), (500, vec![(0, 500), (1000, 1500)]));
    side.text(1500, 2000);
    side.told();
    side.text(1000, 1500);
    assert_eq!(side.told(), (500, vec![(1000, 1500), (1000, 2000)]));
}

#[test]
fn rfc_2883_section_4_2_what_is_a_duplicate_in_part() {
    let mut side = Side::new();
    side.text(0, 1000);
    side.acknowledge();
    side.text(500, 1500);
    assert_eq!(side.told(), (1500, vec![(500, 1000)]));
    side.text(2000, 2500);
    side.acknowledge();
    side.text(1500, 2200);
    assert_eq!(side.told(), (2500, vec![(2000, 2200)]), "filling a gap");
    side.text(3000, 3500);
    side.acknowledge();
    side.text(3200, 4000);
    assert_eq!(side.told(), (2500, vec![(3200, 3500), (3000, 4000)]));
}

#[test]
fn a_duplicate_that_is_not_acceptable_is_told_when_it_is_all_old() {
    let mut side = Side::new();
    side.text(0, 1000);
    side.acknowledge();
    side.receiver.on_duplicate(seq(100), 300);
    assert_eq!(side.told(), (1000, vec![(100, 400)]));
    side.receiver.on_duplicate(seq(900), 200);
    side.receiver.on_duplicate(seq(500), 0);
    assert!(side.receiver.ack_is_due());
    assert_eq!(side.told(), (1000, vec![]));
}

#[test]
fn without_sack_nothing_but_the_number_is_told() {
    let config = Config {
        sack: false,
        ..Config::default()
    };
    let mut side = Side::with(config, Pool::new(1 << 20));
    side.text(500, 1000);
    side.receiver.on_duplicate(seq(0), 0);
    assert!(!side.receiver.has_sack());
    assert_eq!(side.told(), (0, vec![]));
    assert_eq!(side.text(0, 500).readable, 1000);
    side.text(0, 500);
    assert_eq!(side.told(), (1000, vec![]));
    assert_eq!(side.counters.dsack_sent, 0);
}

#[test]
fn it_is_known_whether_blocks_would_be_told() {
    let mut side = Side::new();
    assert!(!side.receiver.has_sack());
    side.text(10, 20);
    assert!(side.receiver.has_sack());
    side.text(0, 10);
    assert!(!side.receiver.has_sack());
    side.text(0, 10);
    assert!(side.receiver.has_sack());
    side.acknowledge();
    assert!(!side.receiver.has_sack());
}
