//! An Exchange pool behind `lb`, set up as the template says, with the clients that people have: the acceptance list.
//!
//! | | | test |
//! |---|---|---|
//! | 1 | three URLs by NTLM: one connection, one login | `identity::one_login_for_three_pages` |
//! | 2 | strangers | `identity::a_stranger_is_never_served` |
//! | 3 | one-leg logins, interleaved, one server and three | `identity::one_leg_logins_stay_apart` |
//! | 4 | no `Via`; with it `Persistent-Auth: false` is counted | `headers::nothing_is_added`, `headers::via_is_counted` |
//! | 5 | Extended Protection, drift | `protection::the_same_certificate_on_both_sides`, `protection::a_drifted_certificate_is_named` |
//! | 6 | `Expect: 100-continue`, mode `forward` | `expect` |
//! | 7 | 64 MB upload in less than 1 MB | `long::an_upload_takes_no_memory` |
//! | | RPC channels to their ends in less than 1 MB | `long::whole_rpc_channels_take_no_memory`, `cargo xtask soak stream` |
//! | 8, 9 | RPC, Ping, MAPI: nothing is held back, nothing is cut off | `long` |
//! | 10 | health of each directory | `health::a_directory_that_is_ill_takes_no_other_with_it` |
//! | 11 | drain | `health::a_drained_server_keeps_its_logins` |
//! | 12 | no HTTP/2 | `protection::http_2_is_not_offered` |
//! | 13 | a server that closes closes the client | `identity::a_login_ends_with_its_connection` |
//! | 14 | case and duplicates of fields | `headers::fields_arrive_as_they_were_sent` |
//! | 15 | the client's address at the SMTP server | `mail::smtp_servers_see_the_client` |
//! | | 4000 requests of fifty users, servers die | `identity::nobody_is_someone_else_whoever_dies` |
//! | | forms login, with curl; with a real browser | `web` |
//!
//! Each on both transports, which run side by side in one daemon. Needs root, the tools and the Python of `cargo xtask
//! setup`, and an `lb` with the XDP program inside (`cargo xtask test` builds it).

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

mod expect;
mod headers;
mod health;
mod identity;
mod long;
mod mail;
mod protection;
mod web;

use lb_tests::pool::{USERS, User};

const ALICE: User = USERS[0];

/// What curl takes to log in by NTLM.
fn ntlm() -> [String; 3] {
    let user = format!("{}:{}", ALICE.qualified(), ALICE.password);
    ["--ntlm".to_owned(), "--user".to_owned(), user]
}

fn strs(strings: &[String]) -> Vec<&str> {
    strings.iter().map(String::as_str).collect()
}
