//! A load: packets of one kind on one table, and the sample that a run of it gives.
//!
//! Invariant: a sample counts only if the program gave the packets the verdicts that the load is about; what became
//! of each is read from the program's own counters. Not here: how tables are filled, and in which order loads run
//! (`measure`).

use anyhow::{Context as _, Result, ensure};
use lb_ebpf::{
    replay::{ORDER_COUNT, ORDER_DRAW, Plan, TURN_CLIENT_THEN_SERVER},
    tcp::Flags,
    verdict::Reason,
};

use super::{
    kernel::{Counts, Kernel},
    report::Sample,
    rows::{Clients, Mode, Passed},
    wrapper::Wrapper,
};
use crate::bench::float;

/// A load on a table, ready to be measured.
pub(super) struct Load<'a> {
    pub(super) title: String,
    kernel: &'a Kernel,
    frame: Vec<u8>,
    /// One, or two that take turns.
    plans: Vec<Plan>,
    /// Least share of the packets that must get a verdict for this reason.
    expected: Vec<(Reason, f64)>,
    /// Packets before the clock starts: the loads of a round push each other out of the caches.
    warm_up: u32,
    repeat: u32,
    target: Option<f64>,
}

impl<'a> Load<'a> {
    /// Packets that go to the stack.
    pub(super) fn passed(passed: &Passed, kernel: &'a Kernel, repeat: u32) -> Result<Self> {
        let frame = (passed.frame)();
        let plan = match passed.clients {
            Clients::Many => Plan::of(&frame).context("a frame of no known shape")?,
            Clients::None => Plan::untouched(),
        };
        Ok(Self {
            title: passed.title.to_owned(),
            kernel,
            frame,
            plans: vec![plan],
            expected: vec![(passed.reason, 1.0)],
            warm_up: 0,
            repeat,
            target: passed.target,
        })
    }

    /// Clients' packets of `flows` flows that are in the table; what was refused when it was opened is passed now, which
    /// the claim about refused flows judges.
    pub(super) fn established(
        mode: &Mode,
        kernel: &'a Kernel,
        flows: u32,
        repeat: u32,
    ) -> Result<Self> {
        let frame = mode.frame(Flags::ACK);
        Ok(Self {
            title: established(mode, flows),
            kernel,
            plans: vec![drawn(mode, &frame, flows)?],
            frame,
            expected: vec![(Reason::Forwarded, 0.98)],
            warm_up: repeat,
            repeat,
            target: None,
        })
    }

    /// As [`established`](Self::established), with a server's packet after each client's.
    pub(super) fn both_ways(
        mode: &Mode,
        kernel: &'a Kernel,
        flows: u32,
        repeat: u32,
    ) -> Result<Self> {
        let mut load = Self::established(mode, kernel, flows, repeat)?;
        load.title += ", both directions in turns";
        for plan in &mut load.plans {
            plan.turn = TURN_CLIENT_THEN_SERVER;
        }
        Ok(load)
    }

    /// Packets with these flags, each of another client, whose verdict is for `reason`.
    pub(super) fn strangers(
        mode: &Mode,
        kernel: &'a Kernel,
        what: &str,
        strangers: &Strangers,
        repeat: u32,
    ) -> Result<Self> {
        let frame = mode.frame(strangers.flags);
        Ok(Self {
            title: format!("{}: {what}", mode.title),
            kernel,
            plans: vec![strangers.plan(mode)?],
            frame,
            expected: vec![(strangers.reason, 0.98)],
            warm_up: 0,
            repeat,
            target: None,
        })
    }

    /// A packet of `flows` flows and one of a stranger in turns.
    pub(super) fn beside_strangers(
        mode: &Mode,
        kernel: &'a Kernel,
        what: &str,
        (flows, strangers): (u32, &Strangers),
        repeat: u32,
    ) -> Result<Self> {
        let frame = mode.frame(Flags::ACK);
        let (flow, stranger) = (drawn(mode, &frame, flows)?, strangers.plan(mode)?);
        let expected = match strangers.reason {
            Reason::Forwarded => vec![(Reason::Forwarded, 0.98)],
            other => vec![(Reason::Forwarded, 0.49), (other, 0.49)],
        };
        Ok(Self {
            title: format!("{}: {what}", mode.title),
            kernel,
            plans: vec![
                Plan { next: 1, ..flow },
                Plan {
                    next: 0,
                    ..stranger
                },
            ],
            frame,
            expected,
            warm_up: 0,
            repeat,
            target: None,
        })
    }

    /// With this claim.
    #[must_use]
    pub(super) fn within(mut self, target: f64) -> Self {
        self.target = Some(target);
        self
    }

    /// One run, and the empty program's right after.
    pub(super) fn sample(&mut self, wrapper: &mut Wrapper, round: u32) -> Result<Sample> {
        let program = self.kernel.program()?;
        if self.warm_up > 0 {
            wrapper.run(program, &self.frame, &mut self.plans, self.warm_up)?;
        }
        let mut same = self.plans.clone();
        let before = self.kernel.counts()?;
        let full = wrapper.run(program, &self.frame, &mut self.plans, self.repeat)?;
        let after = self.kernel.counts()?;
        let empty = wrapper.run_nothing(&self.frame, &mut same, self.repeat)?;
        for (reason, least) in &self.expected {
            let index = *reason as usize;
            let share = float(after[index] - before[index]) / f64::from(self.repeat.max(1));
            ensure!(
                share >= *least,
                "{:.2} % of the packets were to be counted as {}, but {:.2} % were; {}",
                least * 100.0,
                reason.name(),
                share * 100.0,
                verdicts(&before, &after),
            );
        }
        Ok(Sample {
            load: self.title.clone(),
            round,
            packets: self.repeat,
            raw_ns: full.ns,
            empty_ns: empty.ns,
            target_ns: self.target,
        })
    }
}

/// Packets of clients that have no flow, and what becomes of them.
pub(super) struct Strangers {
    pub(super) flags: Flags,
    pub(super) reason: Reason,
    /// The first one's number.
    pub(super) first: u64,
}

impl Strangers {
    fn plan(&self, mode: &Mode) -> Result<Plan> {
        Ok(Plan {
            state: self.first,
            ..mode.plan(&mode.frame(self.flags), ORDER_COUNT)?
        })
    }
}

fn drawn(mode: &Mode, frame: &[u8], flows: u32) -> Result<Plan> {
    Ok(Plan {
        mask: u64::from(flows) - 1,
        ..mode.plan(frame, ORDER_DRAW)?
    })
}

/// Title of the load of that many flows.
pub(super) fn established(mode: &Mode, flows: u32) -> String {
    let flows = match flows {
        1 => "1 flow".to_owned(),
        _ => format!("{flows} flows"),
    };
    format!("{}: established, {flows}", mode.title)
}

/// The counters that have risen.
pub(super) fn verdicts(before: &Counts, after: &Counts) -> String {
    let risen = Reason::ALL.iter().zip(before.iter().zip(after));
    let words: Vec<String> = risen
        .filter(|(_, (before, after))| before != after)
        .map(|(reason, (before, after))| format!("{} {}", after - before, reason.name()))
        .collect();
    format!("verdicts: {}", words.join(", "))
}
