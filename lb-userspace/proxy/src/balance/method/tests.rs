//! Fairness of each method, and how little hashing moves when a server goes.

use std::net::Ipv6Addr;

use super::*;

/// Candidates with these weights, that are used as much as given.
fn pool(servers: &[(u64, u32)]) -> Vec<Candidate> {
    let candidate = |(index, &(weight, in_use)): (usize, &(u64, u32))| Candidate {
        index,
        weight,
        in_use,
        address: ([10, 0, 0, u8::try_from(index).unwrap()], 443).into(),
    };
    servers.iter().enumerate().map(candidate).collect()
}

fn turns(turns: &Turns, pool: &[Candidate], count: usize) -> Vec<usize> {
    (0..count)
        .filter_map(|_| turns.pick(pool.iter().copied()))
        .collect()
}

#[test]
fn turns_follow_weights_and_are_spread() {
    let pool = pool(&[(5, 0), (1, 0), (1, 0)]);
    assert_eq!(turns(&Turns::new(3), &pool, 7), [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn turns_leave_out_who_is_no_candidate() {
    let state = Turns::new(3);
    let pool = pool(&[(1, 0), (1, 0), (1, 0)]);
    assert_eq!(turns(&state, &[pool[0], pool[2]], 4), [0, 2, 0, 2]);
    assert_eq!(turns(&state, &[pool[2]], 2), [2, 2]);
    assert_eq!(turns(&state, &[], 2), []);
    assert!(turns(&state, &pool, 3).contains(&1));
}

#[test]
fn the_least_used_for_its_weight_is_chosen() {
    let table: &[(&[(u64, u32)], usize)] = &[
        (&[(1, 3), (1, 1), (1, 2)], 1),
        // One more of ten is less than one more of one.
        (&[(1, 0), (10, 8)], 1),
        (&[(1, 0), (10, 10)], 0),
        (&[(1000, 999), (1, 0)], 1),
        (&[(65_535 * 256, u32::MAX), (1, u32::MAX - 1)], 0),
    ];
    for (servers, expected) in table {
        let least = Least::default();
        let chosen = least.pick(pool(servers).into_iter());
        assert_eq!(chosen, Some(*expected), "{servers:?}");
    }
    assert_eq!(Least::default().pick([].into_iter()), None);
}

#[test]
fn equals_are_chosen_in_turn() {
    let least = Least::default();
    let idle = pool(&[(1, 0), (1, 0), (1, 0)]);
    let chosen: Vec<_> = (0..6)
        .filter_map(|_| least.pick(idle.iter().copied()))
        .collect();
    assert_eq!(chosen, [1, 2, 0, 1, 2, 0]);
}

/// A server for each of `keys` clients.
fn mapping(pool: &[Candidate], keys: u32) -> Vec<usize> {
    let clients = (0..keys).map(|number| IpAddr::from(number.to_be_bytes()));
    clients
        .filter_map(|client| rendezvous(key_of_client(client), pool.iter().copied()))
        .collect()
}

/// Shares of servers in `mapping`, in thousandths.
fn shares(mapping: &[usize], servers: usize) -> Vec<usize> {
    let count = |server| mapping.iter().filter(|&&chosen| chosen == server).count();
    (0..servers)
        .map(|server| count(server) * 1000 / mapping.len())
        .collect()
}

#[test]
fn hashing_follows_weights() {
    let pool = pool(&[(1, 0), (2, 0), (5, 0)]);
    let shares = shares(&mapping(&pool, 20_000), 3);
    for (share, expected) in shares.iter().zip([125, 250, 625]) {
        // Four standard deviations of the fairest coin are 14 thousandths.
        assert!(share.abs_diff(expected) < 15, "{shares:?}");
    }
}

#[test]
fn hashing_moves_only_the_keys_of_the_server_that_goes() {
    let all = pool(&[(1, 0), (1, 0), (3, 0), (1, 0)]);
    let before = mapping(&all, 5_000);
    let rest: Vec<_> = all.iter().copied().filter(|c| c.index != 2).collect();
    let after = mapping(&rest, 5_000);
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || *before == 2, "{before} to {after}");
    }
    // Those that had to move are spread evenly over the rest.
    let pairs = before.iter().zip(&after);
    let moved: Vec<usize> = pairs
        .filter(|(before, _)| **before == 2)
        .map(|(_, after)| *after)
        .collect();
    for share in [0, 1, 3].map(|server| shares(&moved, 4)[server]) {
        assert!(share.abs_diff(333) < 50, "{share}");
    }
}

#[test]
fn hashing_goes_by_address_and_not_by_place() {
    let mut pool = pool(&[(1, 0), (1, 0), (1, 0)]);
    let addresses = |pool: &[Candidate]| -> Vec<_> {
        let chosen = mapping(pool, 100);
        let find = |index| pool.iter().find(|c| c.index == index).unwrap().address;
        chosen.into_iter().map(find).collect()
    };
    let before = addresses(&pool);
    pool.reverse();
    for (index, candidate) in pool.iter_mut().enumerate() {
        candidate.index = index;
    }
    assert_eq!(addresses(&pool), before);
}

#[test]
fn clients_are_known_by_address_or_by_network() {
    let key = |text: &str| key_of_client(text.parse().unwrap());
    assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
    assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
    assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
    assert_ne!(key_of_client(Ipv6Addr::LOCALHOST.into()), key("127.0.0.1"));
}
