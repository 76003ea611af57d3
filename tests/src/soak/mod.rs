//! The identity soak: many users at once, every kind of login, clients that leave and servers that die. Is anyone ever
//! somebody else?
//!
//! Fifty users do sessions through one service of `lb` in front of three servers. Every answer says who it was given to,
//! and repeats the mark of its request. Servers reset connections, or their process is killed, at points that are counted
//! in requests. What each user does follows from the seed; how users interleave is up to the machine.
//!
//! Invariant: a lost connection is no mistake, since servers die; a wrong answer is one, whatever died.
//!
//! | module | job |
//! |---|---|
//! | `user` | sessions: what is asked, and whether the answer is right |
//! | `logins` | NTLM messages, by a library |
//! | `dice` | chance that can be repeated |
//!
//! Called by the binary `lb-soak` and by `tests/tests/exchange`.

pub(crate) mod dice;
mod logins;
mod user;

use std::{
    cell::RefCell,
    fmt,
    net::SocketAddrV4,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tokio::task::LocalSet;

use self::{dice::Dice, logins::Logins};
use crate::{
    address::{VIP_HTTP, server},
    guard::Interrupts,
    lab::Namespace,
    pool::{CROWD, HTTP_PORT, Switch},
    world::World,
};

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Users' requests, roughly: sessions that have begun are finished.
    pub requests: u64,
    /// Of all chance.
    pub seed: u64,
    /// `af_xdp` or `kernel`.
    pub transport: &'static str,
    /// Times that a server dies.
    pub deaths: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Requests sent, those of logins included.
    pub asked: u64,
    /// Answers with a page.
    pub served: u64,
    /// Strangers' requests that were refused, as they must be.
    pub refused: u64,
    /// Sessions that the client broke off.
    pub aborted: u64,
    /// Sessions that broke off otherwise.
    pub lost: u64,
    /// Deaths of servers.
    pub deaths: u64,
    /// Wrong answers, described; the first hundred.
    pub wrong: Vec<String>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            asked,
            served,
            refused,
            aborted,
            lost,
            deaths,
            wrong,
        } = self;
        write!(
            f,
            "{asked} requests: {served} served, {refused} strangers refused; sessions: {aborted} left by their client, \
             {lost} lost to {deaths} deaths of servers; {} wrong",
            wrong.len()
        )
    }
}

/// Runs the plan in a lab of its own.
///
/// Fails when the lab can't be made or the run is interrupted; wrong answers are in what it returns.
pub fn identity(plan: Plan, interrupts: &Interrupts) -> Result<Found> {
    let mut world = World::start(SERVERS)?;
    let mut balancer = world.balance(&configuration(plan.transport))?;
    balancer.until_served(&format!("http://{VIP_HTTP}/owa/healthcheck.htm"))?;
    let progress = Arc::new(AtomicU64::new(0));
    let found = thread::scope(|scope| {
        let counted = Arc::clone(&progress);
        let load = scope.spawn(move || Namespace::client().run(|| load(plan, counted)));
        let goes_on = || {
            interrupts.check()?;
            balancer.check()?;
            Ok(!load.is_finished())
        };
        let deaths = misfortune(&mut world, plan, &progress, goes_on);
        // However that went: the load must end before the lab does.
        progress.fetch_max(plan.requests, Ordering::Relaxed);
        let found = load.join().ok().context("the load panicked")???;
        Ok::<_, anyhow::Error>(Found {
            deaths: deaths?,
            ..found
        })
    })?;
    let status = balancer.stop()?;
    ensure!(status.success(), "lb ended with {status}");
    Ok(found)
}

fn configuration(transport: &str) -> String {
    let servers: Vec<_> = (1..=SERVERS)
        .map(|number| format!("{}:{HTTP_PORT}", server(number)))
        .collect();
    format!(
        "[[service]]\nname = \"exchange\"\nlisten = \"{VIP_HTTP}:{HTTP_PORT}\"\nmode = \"http\"\n\
         profile = \"exchange\"\ntransport = \"{transport}\"\nservers = {servers:?}\n\
         health = {{ kind = \"http\", host = \"mail.lab.test\", interval = \"500ms\", timeout = \"500ms\", \
         rise = 1, fall = 1 }}\n"
    )
}

/// What all users share.
struct Shared {
    address: SocketAddrV4,
    seed: u64,
    wanted: u64,
    /// Requests sent; read by who lets servers die.
    progress: Arc<AtomicU64>,
    logins: Logins,
    found: RefCell<Found>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Asked,
    Served,
    Refused,
    Aborted,
    Lost,
}

impl Shared {
    fn wants_more(&self) -> bool {
        self.progress.load(Ordering::Relaxed) < self.wanted
    }

    fn count(&self, outcome: Outcome) {
        let mut found = self.found.borrow_mut();
        match outcome {
            Outcome::Asked => {
                found.asked += 1;
                self.progress.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Served => found.served += 1,
            Outcome::Refused => found.refused += 1,
            Outcome::Aborted => found.aborted += 1,
            Outcome::Lost => found.lost += 1,
        }
    }

    fn fail(&self, what: String) {
        let wrong = &mut self.found.borrow_mut().wrong;
        if wrong.len() < MOST {
            wrong.push(what);
        }
    }
}

/// All users, to the end of their last sessions.
fn load(plan: Plan, progress: Arc<AtomicU64>) -> Result<Found> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let shared = Rc::new(Shared {
            address: SocketAddrV4::new(VIP_HTTP, HTTP_PORT),
            seed: plan.seed,
            wanted: plan.requests,
            progress,
            logins: Logins::start()?,
            found: RefCell::default(),
        });
        let users = (0_u64..).zip(CROWD.iter()).map(|(number, user)| {
            let shared = Rc::clone(&shared);
            tokio::task::spawn_local(user::run(shared, *user, number))
        });
        for user in users.collect::<Vec<_>>() {
            user.await.context("a user panicked")?;
        }
        Ok(shared.found.borrow().clone())
    })
}

/// Lets servers die and live again, at even distances of requests; how often.
fn misfortune(
    world: &mut World,
    plan: Plan,
    progress: &AtomicU64,
    mut goes_on: impl FnMut() -> Result<bool>,
) -> Result<u64> {
    let mut dice = Dice::new(plan.seed);
    for death in 1..=plan.deaths {
        let when = plan.requests / (plan.deaths + 1) * death;
        while progress.load(Ordering::Relaxed) < when {
            if !goes_on()? {
                return Ok(death - 1);
            }
            thread::sleep(LOOK);
        }
        let number = u8::try_from(1 + dice.roll(SERVERS.into()))?;
        if dice.chance(50) {
            world.kill_server(number);
            thread::sleep(DEAD);
            world.revive_server(number)?;
        } else {
            let server = world
                .servers()
                .iter()
                .find(|server| server.number() == number);
            let server = server.context("a dead server")?;
            server.switch(Switch::Reset)?;
            thread::sleep(DEAD);
            server.switch(Switch::Accept)?;
        }
    }
    while goes_on()? {
        thread::sleep(LOOK);
    }
    Ok(plan.deaths)
}

const SERVERS: u8 = 3;
/// Descriptions that are kept.
const MOST: usize = 100;
const LOOK: Duration = Duration::from_millis(20);
/// Time for which a server is dead: long enough for connections to meet it.
const DEAD: Duration = Duration::from_millis(300);
