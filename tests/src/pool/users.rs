//! The users of the simulated pool and their passwords.
//!
//! Invariant: the acceptor process and the Basic check see the same list.

use std::sync::LazyLock;

/// A user with a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Name without the domain, [`DOMAIN`].
    pub name: &'static str,
    /// Password in clear: NTLM needs it (or its MD4) on both sides.
    pub password: &'static str,
}

impl User {
    /// Name as servers report it: `LAB\alice`.
    pub fn qualified(&self) -> String {
        format!("{DOMAIN}\\{}", self.name)
    }
}

/// The users that tests name.
pub const USERS: [User; 4] = [
    User {
        name: "alice",
        password: "alice-Secret-1",
    },
    User {
        name: "bob",
        password: "bob-Secret-2",
    },
    User {
        name: "carol",
        password: "carol-Secret-3",
    },
    User {
        name: "dave",
        password: "dave-Secret-4",
    },
];

/// The Windows domain of all [`USERS`].
pub const DOMAIN: &str = "LAB";

/// As many users as an office has, for tests that need a crowd; they may log in as well.
pub static CROWD: LazyLock<Vec<User>> = LazyLock::new(|| {
    // Leaked, because every user lives as long as the program; there are fifty.
    let leaked = |text: String| -> &'static str { text.leak() };
    let user = |number| User {
        name: leaked(format!("user{number:02}")),
        password: leaked(format!("Secret-of-{number:02}")),
    };
    (1..=50).map(user).collect()
});

fn everyone() -> impl Iterator<Item = User> {
    USERS.into_iter().chain(CROWD.iter().copied())
}

/// The user called `name`, with or without the domain, if `password` is theirs.
pub(super) fn check(name: &str, password: &str) -> Option<User> {
    let name = name
        .strip_prefix(DOMAIN)
        .and_then(|rest| rest.strip_prefix('\\'))
        .unwrap_or(name);
    everyone().find(|user| user.name == name && user.password == password)
}

/// The list as the acceptor wants it: `DOMAIN:user:password` a line.
pub(super) fn lines() -> String {
    let line = |user: User| format!("{DOMAIN}:{}:{}\n", user.name, user.password);
    everyone().map(line).collect::<Vec<_>>().concat()
}
