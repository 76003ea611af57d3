//! Two ends, the link between them, and the clock: things happen one after the other, until nothing more will.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use lb_tcp::Instant;

use crate::app::{App, Outcome};
use crate::host::{Host, Phase};
use crate::link::{Arrival, Link, Tally};
use crate::monitor::Monitor;

/// An end of the link, and who uses it.
pub(crate) struct End {
    pub(crate) host: Box<dyn Host>,
    pub(crate) app: App,
    /// From here to the other end.
    pub(crate) link: Link,
    /// Checks what this end sends.
    pub(crate) monitor: Monitor,
}

/// A run.
pub(crate) struct World {
    now: Instant,
    ends: [End; 2],
    /// By time, and in the order in which they were found out.
    events: BTreeMap<(Instant, u64), (usize, Arrival)>,
    serial: u64,
    digest: DefaultHasher,
    is_told: bool,
    start: Instant,
}

/// What a run was like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Of everything that happened, in order.
    pub(crate) digest: u64,
    pub(crate) outcomes: [Outcome; 2],
    pub(crate) read: [u64; 2],
    pub(crate) tallies: [Tally; 2],
    /// Until both users had done what they planned.
    pub(crate) took: Duration,
}

/// Simulated time after which a run is stuck. Longest honest runs: timeouts back off to two minutes.
const PATIENCE: Duration = Duration::from_hours(3);

/// Packets in a run: many times those of the longest.
const MAX_PACKETS: u64 = 300_000;

/// Packets of an end before the other one has its turn.
const SHARE: usize = 1000;

/// Events at one instant after which something runs in circles.
const TURNS: usize = 50_000;

impl World {
    pub(crate) fn new(ends: [End; 2], start: Instant) -> Self {
        Self {
            now: start,
            ends,
            events: BTreeMap::new(),
            serial: 0,
            digest: DefaultHasher::new(),
            is_told: std::env::var_os("LB_SIM_SEED").is_some(),
            start,
        }
    }

    /// Runs until nothing more will happen.
    ///
    /// # Errors
    /// What is not over then, or that it would take too long.
    pub(crate) fn run(&mut self, connecting: &[usize]) -> Result<Report, String> {
        for (side, end) in self.ends.iter_mut().enumerate() {
            if connecting.contains(&side) {
                end.host.connect(self.now);
            } else {
                end.host.listen(self.now);
            }
        }
        let mut done_at = None;
        let mut idle = 0;
        loop {
            self.settle()?;
            if self.users_are_done() {
                done_at.get_or_insert(self.now);
            }
            let Some(next) = self.next_time() else {
                break;
            };
            if next.since(self.start) > PATIENCE {
                return Err(format!("still busy. {}", self.describe()));
            }
            if self.serial > MAX_PACKETS {
                return Err(format!("too many packets. {}", self.describe()));
            }
            idle = if next > self.now { 0 } else { idle + 1 };
            if idle > TURNS {
                return Err(format!("a timer does nothing. {}", self.describe()));
            }
            self.now = self.now.max(next);
            self.let_arrive();
            self.fire_timers();
        }
        self.finish()?;
        let took = done_at.unwrap_or(self.now).since(self.start);
        Ok(self.report(took))
    }

    fn report(&self, took: Duration) -> Report {
        let [a, b] = &self.ends;
        Report {
            digest: self.digest.finish(),
            outcomes: [a.app.outcome, b.app.outcome],
            read: [a.app.read, b.app.read],
            tallies: [a.link.tally, b.link.tally],
            took,
        }
    }

    /// Lets users and ends do what they can do now.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..TURNS {
            let mut is_busy = false;
            for side in 0..2 {
                if self.stalled_until(side).is_none() {
                    is_busy |= self.use_once(side);
                    is_busy |= self.send_all(side);
                }
            }
            if !is_busy {
                return Ok(());
            }
            if self.serial > MAX_PACKETS {
                break;
            }
        }
        Err(format!("running in circles. {}", self.describe()))
    }

    fn use_once(&mut self, side: usize) -> bool {
        let end = &mut self.ends[side];
        let deed = end.app.step(&mut *end.host, self.now);
        if end.app.has_just_ended() {
            end.host.release(self.now);
        }
        let Some(deed) = deed else {
            return false;
        };
        (side, self.now, deed).hash(&mut self.digest);
        if self.is_told {
            eprintln!("{} {side}    {deed:?}", self.clock());
        }
        true
    }

    fn send_all(&mut self, side: usize) -> bool {
        let mut has_sent = false;
        for _ in 0..SHARE {
            if self.ends[side].link.room_at(self.now) > self.now {
                break;
            }
            let end = &mut self.ends[side];
            let Some(packet) = end.host.transmit(self.now) else {
                break;
            };
            has_sent = true;
            end.monitor.sent(&packet);
            (side, self.now, &packet).hash(&mut self.digest);
            if self.is_told {
                eprintln!("{} {side} => {packet}", self.clock());
            }
            for (at, arrival) in self.ends[side].link.carry(packet, self.now) {
                self.serial += 1;
                let to = match arrival {
                    Arrival::Packet(_) => 1 - side,
                    Arrival::TooBig(..) => side,
                };
                self.events.insert((at, self.serial), (to, arrival));
            }
        }
        has_sent
    }

    fn let_arrive(&mut self) {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            let (to, arrival) = entry.remove();
            (to, self.now, &arrival).hash(&mut self.digest);
            if self.is_told {
                match &arrival {
                    Arrival::Packet(packet) => eprintln!("{} {to} <= {packet}", self.clock()),
                    Arrival::TooBig(_, mtu) => eprintln!("{} {to} <= MTU is {mtu}", self.clock()),
                }
            }
            let end = &mut self.ends[to];
            match arrival {
                Arrival::Packet(packet) => {
                    assert_eq!(
                        packet.checksum_holds(),
                        !packet.is_damaged,
                        "the checksum says of {packet} what isn't so"
                    );
                    if !packet.is_damaged {
                        end.monitor.received(&packet);
                    }
                    end.host.receive(&packet, self.now);
                }
                Arrival::TooBig(packet, mtu) => end.host.too_big(&packet, mtu, self.now),
            }
        }
    }

    fn fire_timers(&mut self) {
        for side in 0..2 {
            if self.stalled_until(side).is_some() {
                continue;
            }
            let host = &mut self.ends[side].host;
            if host.next_timer(self.now).is_some_and(|at| at <= self.now) {
                host.on_timer(self.now);
            }
        }
    }

    fn next_time(&mut self) -> Option<Instant> {
        let mut next = self.events.keys().next().map(|key| key.0);
        for side in 0..2 {
            let end = &mut self.ends[side];
            let room = end.link.room_at(self.now);
            let own = [
                end.host.next_timer(self.now),
                end.app.next_timer(self.now),
                (room > self.now).then_some(room),
            ];
            let due = own.into_iter().flatten().min();
            // At its end, there may be something to do that is not of the clock.
            let due = self.stalled_until(side).or(due);
            next = next.into_iter().chain(due).min();
        }
        next
    }

    /// A stall is a fault of the link towards the end that stands still.
    fn stalled_until(&self, side: usize) -> Option<Instant> {
        self.ends[1 - side].link.stalled_until(self.now)
    }

    fn users_are_done(&self) -> bool {
        let is_done = |end: &End| end.app.outcome != Outcome::Busy;
        self.ends.iter().all(is_done)
    }

    /// Nothing will happen any more: then everything must be over, and no memory held.
    fn finish(&mut self) -> Result<(), String> {
        for side in 0..2 {
            self.finish_one(side)
                .map_err(|why| format!("end {side}: {why}. {}", self.describe()))?;
        }
        Ok(())
    }

    fn finish_one(&mut self, side: usize) -> Result<(), String> {
        let end = &mut self.ends[side];
        let phase = end.host.phase();
        if phase == Phase::Open {
            return Err("stuck: not closed, and no timer runs".to_owned());
        }
        if end.app.outcome == Outcome::Busy && phase != Phase::Listening {
            return Err("stuck: a user waits".to_owned());
        }
        let held = end.host.memory();
        if end.app.outcome == Outcome::Done && held > 0 {
            return Err(format!("closed, and holds {held} bytes"));
        }
        end.host.release(self.now);
        let (held, left) = (end.host.memory(), end.host.leftovers());
        if held > 0 || left > 0 {
            return Err(format!("over, and holds {held} bytes, {left} connections"));
        }
        Ok(())
    }

    pub(crate) fn describe(&mut self) -> String {
        let now = self.now;
        let mut end = |side: usize| {
            let end = &mut self.ends[side];
            format!(
                "end {side}: {}, {:?}, link {:?}",
                end.host.describe(now),
                end.app,
                end.link.tally
            )
        };
        let (one, other) = (end(0), end(1));
        format!("after {}:\n{one}\n{other}", self.clock())
    }

    fn clock(&self) -> String {
        format!("{:13.6}", self.now.since(self.start).as_secs_f64())
    }
}
