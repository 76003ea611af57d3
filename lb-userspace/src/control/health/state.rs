//! When a server counts as up or down: results of probes in, changes out.
//!
//! Sans-IO: no clock, no randomness, no sockets; durations and random numbers are arguments.
//! Invariant: a change is told once, when it happens, with the result that made it happen.
//!
//! ```text
//!               good                    `rise` good in a row
//!  Probation ──────────▶ Up  ◀───────────────────────────────── Down
//!      │                 │                                       ▲
//!      │                 └──────────── `fall` bad in a row ──────┤
//!      └──────────────────────── bad ────────────────────────────┘
//! ```
//!
//! A server starts *up, on probation*: it takes connections, and its first result decides at once.
//! Down until proven good would turn each restart of the daemon into an outage of a healthy pool;
//! up until `fall` bad results would send connections to a dead server for `fall` intervals.
//! The first probe runs at the start, so probation lasts one probe.

use std::mem::discriminant;
use std::num::NonZeroU8;
use std::time::Duration;

use lb_config::Schedule;

/// Whether a server takes new connections, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    /// Takes new connections.
    pub(crate) up: bool,
    /// For the log and `lb status`, such as `connect: connection refused`.
    pub(crate) reason: String,
}

/// Health before the first result.
pub(crate) fn probation() -> Health {
    Health {
        up: true,
        reason: "not checked yet".to_owned(),
    }
}

/// Health of a server that is never checked.
pub(crate) fn unchecked() -> Health {
    Health {
        up: true,
        reason: "not checked: health is off".to_owned(),
    }
}

/// Follows one server.
#[derive(Debug)]
pub(crate) struct Machine {
    rise: NonZeroU8,
    fall: NonZeroU8,
    state: State,
}

#[derive(Debug)]
enum State {
    Probation,
    /// With so many bad results in a row.
    Up {
        bad: u8,
    },
    /// With so many good results in a row.
    Down {
        good: u8,
    },
}

impl Machine {
    /// A server on probation.
    pub(crate) fn new(schedule: &Schedule) -> Self {
        Self {
            rise: schedule.rise,
            fall: schedule.fall,
            state: State::Probation,
        }
    }

    /// Takes the result of a probe: what the server said, or what went wrong. Gives the new health
    /// if it changed, or if it is the first.
    pub(crate) fn observe<E: ToString>(&mut self, result: &Result<String, E>) -> Option<Health> {
        let next = match (&self.state, result) {
            (State::Up { bad }, Err(_)) if bad + 1 < self.fall.get() => State::Up { bad: bad + 1 },
            (State::Down { good }, Ok(_)) if good + 1 < self.rise.get() => {
                State::Down { good: good + 1 }
            }
            (_, Ok(_)) => State::Up { bad: 0 },
            (_, Err(_)) => State::Down { good: 0 },
        };
        let changed = discriminant(&self.state) != discriminant(&next);
        self.state = next;
        changed.then(|| match result {
            Ok(said) => Health {
                up: true,
                reason: said.clone(),
            },
            Err(error) => Health {
                up: false,
                reason: error.to_string(),
            },
        })
    }
}

/// How long to wait after a probe that took `spent`.
///
/// From start to start it is the interval less up to a tenth, as `random` says: probes of many
/// servers drift apart, and none is later than the operator asked for.
pub(crate) fn pause(interval: Duration, spent: Duration, random: u32) -> Duration {
    let tenth = interval / 10;
    let early = tenth.mul_f64(f64::from(random) / f64::from(u32::MAX));
    interval.saturating_sub(early).saturating_sub(spent)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The changes that `results` make (`+` good, `-` bad): `U` up, `D` down, `.` none.
    fn changes(rise: u8, fall: u8, results: &str) -> String {
        let count = |n| NonZeroU8::new(n).expect("not zero");
        let (rise, fall, state) = (count(rise), count(fall), State::Probation);
        let mut machine = Machine { rise, fall, state };
        let observe = |result| {
            let result = if result == '+' {
                Ok("fine".to_owned())
            } else {
                Err("broken")
            };
            match machine.observe(&result) {
                None => '.',
                Some(health) => {
                    let expected = if health.up { "fine" } else { "broken" };
                    assert_eq!(health.reason, expected, "the reason is the last result");
                    if health.up { 'U' } else { 'D' }
                }
            }
        };
        results.chars().map(observe).collect()
    }

    #[test]
    fn rise_and_fall() {
        let cases = [
            // The first result decides, and later ones need to come in a row.
            (2, 2, "+", "U"),
            (2, 2, "-", "D"),
            (2, 2, "+-+-+--", "U.....D"),
            (2, 2, "-+-+-++", "D.....U"),
            // A change is told once.
            (2, 2, "+-----", "U.D..."),
            (2, 2, "-+++++", "D.U..."),
            // And counting starts anew after it.
            (2, 3, "+---+-++", "U..D...U"),
            (3, 2, "-+++-+--", "D..U...D"),
            (1, 1, "+-+-", "UDUD"),
            (255, 255, "-+", "D."),
        ];
        for (rise, fall, results, expected) in cases {
            assert_eq!(
                changes(rise, fall, results),
                expected,
                "{rise} {fall} {results}"
            );
        }
        let many = "-".to_owned() + &"+".repeat(255);
        assert_eq!(
            changes(255, 2, &many).find('U'),
            Some(255),
            "no overflow at the limit"
        );
    }

    #[test]
    fn pauses() {
        let seconds = Duration::from_secs;
        assert_eq!(pause(seconds(10), seconds(0), 0), seconds(10));
        assert_eq!(pause(seconds(10), seconds(0), u32::MAX), seconds(9));
        assert_eq!(pause(seconds(10), seconds(4), 0), seconds(6));
        assert_eq!(pause(seconds(10), seconds(11), 0), seconds(0));
    }
}
