//! Nanoseconds per packet of one mode: fills the tables, checks the first packet of each load against the host, and
//! takes the samples in turns.
//!
//! Invariant: a sample counts only if the program gave every packet the verdict that the load is about; what became
//! of each is read from the program's own counters. Not here: packets and tables (`rows`), claims (`report`).

use anyhow::{Context as _, Result, ensure};
use lb_ebpf::{
    decide::decide_fully,
    fixtures::{HostTables, INGRESS},
    flow::FlowSet,
    replay::{ORDER_COUNT, ORDER_DRAW, ORDER_NONE, Plan, TURN_CLIENT, TURN_CLIENT_THEN_SERVER},
    tcp::Flags,
    verdict::{Reason, Verdict},
};

use super::{
    Sizes,
    kernel::{Counts, Kernel},
    report::{Fact, Sample},
    rows::{Clients, Mode, PASSED},
    wrapper::Wrapper,
};
use crate::{bench::float, guard::Interrupts};

/// A load on a table, ready to be measured.
struct Load<'a> {
    title: String,
    kernel: &'a Kernel,
    frame: Vec<u8>,
    plan: Plan,
    /// Why its packets get their verdict.
    reason: Reason,
    /// Least share of the packets that must get it.
    share: f64,
    /// Packets before the clock starts: the loads of a round push each other out of the caches.
    warm_up: u32,
    repeat: u32,
    target: Option<f64>,
}

/// What a mode came to.
pub(super) struct Measured {
    pub(super) samples: Vec<Sample>,
    pub(super) facts: Vec<Fact>,
}

/// Measures all loads of `mode`.
pub(super) fn run(
    mode: &Mode,
    sizes: &Sizes,
    interrupts: &Interrupts,
    progress: &dyn Fn(&str),
) -> Result<Measured> {
    let world = (mode.world)(sizes.sets)?;
    let mut wrapper = Wrapper::load()?;
    let mut facts = Vec::new();

    progress(&format!("{}: opening {} flows", mode.title, sizes.flows[2]));
    let kernels = [
        Kernel::load(&world)?,
        Kernel::load(&world)?,
        Kernel::load(&world)?,
    ];
    for (kernel, flows) in kernels.iter().zip(sizes.flows) {
        first_packets_agree(mode, &mut wrapper, kernel)?;
        let opened = establish(mode, &mut wrapper, kernel, flows)?;
        let refused = 1.0 - f64::from(opened) / f64::from(flows);
        if flows == sizes.flows[2] {
            facts.extend(table_facts(mode, kernel, flows, refused));
        }
        interrupts.check()?;
    }
    if let Some(instructions) = kernels[0].verified_instructions()? {
        let what = "instructions that the verifier walked on this kernel".to_owned();
        facts.push(Fact::new(
            what,
            f64::from(instructions),
            "instructions",
            Some(100_000.0),
        ));
    }
    let fresh = Kernel::load(&world)?;
    let flooded = Kernel::load(&world)?;
    progress(&format!(
        "{}: {} SYNs of strangers beside {} flows",
        mode.title, sizes.flood, sizes.beside
    ));
    facts.push(flood(mode, &mut wrapper, &flooded, sizes)?);

    let mut loads = passed(&kernels[0], sizes)?;
    for ((kernel, flows), target) in kernels.iter().zip(sizes.flows).zip(mode.targets) {
        loads.extend(established(mode, kernel, flows, target, sizes.repeat)?);
    }
    let new = ("new connection", 0);
    loads.push(strangers(mode, &fresh, sizes, new, Some(mode.target_new))?);
    // Far from the numbers that have filled the table.
    let after = u64::from(sizes.flood) + AWAY;
    let flood = ("SYN flood on a full table", after);
    loads.push(strangers(mode, &flooded, sizes, flood, None)?);
    let samples = in_turns(&mut wrapper, &mut loads, sizes.rounds, interrupts, progress)?;
    Ok(Measured { samples, facts })
}

/// One sample of each load in each round.
fn in_turns(
    wrapper: &mut Wrapper,
    loads: &mut [Load<'_>],
    rounds: u32,
    interrupts: &Interrupts,
    progress: &dyn Fn(&str),
) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for round in 1..=rounds {
        interrupts.check()?;
        for load in &mut *loads {
            let sample = load.sample(wrapper, round);
            samples.push(sample.with_context(|| load.title.clone())?);
        }
        progress(&format!("round {round} of {rounds}"));
    }
    Ok(samples)
}

impl Load<'_> {
    fn sample(&mut self, wrapper: &mut Wrapper, round: u32) -> Result<Sample> {
        let program = self.kernel.program()?;
        if self.warm_up > 0 {
            wrapper.run(program, &self.frame, &mut self.plan, self.warm_up)?;
        }
        let mut same = self.plan;
        let before = self.kernel.counts()?;
        let full = wrapper.run(program, &self.frame, &mut self.plan, self.repeat)?;
        let after = self.kernel.counts()?;
        let empty = wrapper.run_nothing(&self.frame, &mut same, self.repeat)?;
        let index = self.reason as usize;
        let share = ratio(after[index] - before[index], self.repeat);
        ensure!(
            share >= self.share,
            "{:.2} % of the packets were to be counted as {}, but {:.2} % were; {}",
            self.share * 100.0,
            self.reason.name(),
            share * 100.0,
            verdicts(&before, &after),
        );
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

fn passed<'a>(kernel: &'a Kernel, sizes: &Sizes) -> Result<Vec<Load<'a>>> {
    let load = |passed: &super::rows::Passed| {
        let frame = (passed.frame)();
        let order = match passed.clients {
            Clients::Many => ORDER_COUNT,
            Clients::None => ORDER_NONE,
        };
        Ok(Load {
            title: passed.title.to_owned(),
            kernel,
            plan: plan(&frame, order)?,
            frame,
            reason: passed.reason,
            share: 1.0,
            warm_up: 0,
            repeat: sizes.repeat,
            target: passed.target,
        })
    };
    PASSED.iter().map(load).collect()
}

/// Clients' packets, and both directions in turns, of `flows` flows that are in the table.
fn established<'a>(
    mode: &Mode,
    kernel: &'a Kernel,
    flows: u32,
    target: f64,
    repeat: u32,
) -> Result<Vec<Load<'a>>> {
    let frame = (mode.frame)(Flags::ACK);
    let plan = Plan {
        mask: u64::from(flows) - 1,
        ..plan(&frame, ORDER_DRAW)?
    };
    let load = |what: &str, turn, target| Load {
        title: format!("{}: established, {}{what}", mode.title, count(flows)),
        kernel,
        frame: frame.clone(),
        plan: Plan { turn, ..plan },
        reason: Reason::Forwarded,
        // What was refused when it was opened is passed now; the claim about refused flows judges that.
        share: 0.98,
        warm_up: repeat,
        repeat,
        target,
    };
    let mut loads = vec![load("", TURN_CLIENT, Some(target))];
    if mode.answers {
        loads.push(load(
            ", both directions in turns",
            TURN_CLIENT_THEN_SERVER,
            None,
        ));
    }
    Ok(loads)
}

/// SYNs, each of another client, from number `first` on.
fn strangers<'a>(
    mode: &Mode,
    kernel: &'a Kernel,
    sizes: &Sizes,
    (what, first): (&str, u64),
    target: Option<f64>,
) -> Result<Load<'a>> {
    let frame = (mode.frame)(Flags::SYN);
    Ok(Load {
        title: format!("{}: {what}", mode.title),
        kernel,
        plan: Plan {
            state: first,
            ..plan(&frame, ORDER_COUNT)?
        },
        frame,
        reason: Reason::Forwarded,
        share: 0.98,
        warm_up: 0,
        repeat: sizes.opened,
        target,
    })
}

/// Opens the flows numbered from 0 and lets both ends speak; how many got a place.
fn establish(mode: &Mode, wrapper: &mut Wrapper, kernel: &Kernel, flows: u32) -> Result<u32> {
    let before = kernel.counts()?;
    let syn = (mode.frame)(Flags::SYN);
    let program = kernel.program()?;
    wrapper.run(program, &syn, &mut plan(&syn, ORDER_COUNT)?, flows)?;
    let index = Reason::Forwarded as usize;
    let opened = u32::try_from(kernel.counts()?[index] - before[index])?;
    let ack = (mode.frame)(Flags::ACK);
    let mut plan = plan(&ack, ORDER_COUNT)?;
    let mut packets = flows;
    if mode.answers {
        plan.turn = TURN_CLIENT_THEN_SERVER;
        packets *= 2;
    }
    wrapper.run(program, &ack, &mut plan, packets)?;
    Ok(opened)
}

/// A SYN flood beside flows that are in use: how many of these are lost.
fn flood(mode: &Mode, wrapper: &mut Wrapper, kernel: &Kernel, sizes: &Sizes) -> Result<Fact> {
    let opened = establish(mode, wrapper, kernel, sizes.beside)?;
    let syn = (mode.frame)(Flags::SYN);
    let mut strangers = Plan {
        state: AWAY,
        ..plan(&syn, ORDER_COUNT)?
    };
    wrapper.run(kernel.program()?, &syn, &mut strangers, sizes.flood)?;
    let before = kernel.counts()?;
    let ack = (mode.frame)(Flags::ACK);
    let mut again = plan(&ack, ORDER_COUNT)?;
    wrapper.run(kernel.program()?, &ack, &mut again, sizes.beside)?;
    let index = Reason::Forwarded as usize;
    let left = kernel.counts()?[index] - before[index];
    let what = format!(
        "{}: live flows, of {}, that {} SYNs of strangers push out",
        mode.title, sizes.beside, sizes.flood
    );
    let lost = u64::from(opened).saturating_sub(left);
    Ok(Fact::new(what, float(lost), "flows", Some(0.0)))
}

/// Runs client 0 through the program and through `decide` on the host: SYN, then ACK, then the answer to it.
///
/// On a table that is still empty, so that both sides find the same source port free.
fn first_packets_agree(mode: &Mode, wrapper: &mut Wrapper, kernel: &Kernel) -> Result<()> {
    let small = (mode.world)(2)?;
    let host = HostTables::new(&small);
    for passed in PASSED {
        let (frame, order) = ((passed.frame)(), ORDER_NONE);
        agree(wrapper, kernel, &host, &frame, order)?;
    }
    for flags in [Flags::SYN, Flags::ACK] {
        let frame = (mode.frame)(flags);
        let sent = agree(wrapper, kernel, &host, &frame, ORDER_COUNT)?;
        if mode.answers && flags == Flags::ACK {
            let answer = answer(&sent);
            agree(wrapper, kernel, &host, &answer, ORDER_NONE)?;
        }
    }
    Ok(())
}

/// The frame as the kernel sent it, if the host does the same to it.
fn agree(
    wrapper: &mut Wrapper,
    kernel: &Kernel,
    host: &HostTables,
    frame: &[u8],
    order: u64,
) -> Result<Vec<u8>> {
    let before = kernel.counts()?;
    let mut plan = plan(frame, order)?;
    let got = wrapper.run(kernel.program()?, frame, &mut plan, 1)?;
    let after = kernel.counts()?;
    let mut expected = frame.to_vec();
    let verdict = decide_fully(&mut expected, host, INGRESS);
    let index = verdict.reason() as usize;
    ensure!(
        got.action == action(verdict) && got.frame == expected && after[index] == before[index] + 1,
        "the kernel and the host differ about {frame:02x?}: the host says {verdict:?} and {expected:02x?}, the \
         kernel action {} and {:02x?}; {}",
        got.action,
        got.frame,
        verdicts(&before, &after),
    );
    Ok(got.frame)
}

/// What the wrapper makes of a frame when it is the server's turn.
fn answer(sent: &[u8]) -> Vec<u8> {
    let mut frame = sent.to_vec();
    frame[26..34].rotate_left(4);
    frame[34..38].rotate_left(2);
    frame
}

fn plan(frame: &[u8], order: u64) -> Result<Plan> {
    let plan = Plan::of(frame).context("the frame is too short for the wrapper")?;
    Ok(Plan { order, ..plan })
}

/// `enum xdp_action`, the kernel's interface since 4.8.
fn action(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Drop(_) | Verdict::Worker { .. } => 1,
        Verdict::Pass(_) | Verdict::Continue(_) => 2,
        Verdict::Transmit | Verdict::Answer(_) => 3,
        Verdict::Redirect { .. } => 4,
    }
}

fn verdicts(before: &Counts, after: &Counts) -> String {
    let risen = Reason::ALL.iter().zip(before.iter().zip(after));
    let words: Vec<String> = risen
        .filter(|(_, (before, after))| before != after)
        .map(|(reason, (before, after))| format!("{} {}", after - before, reason.name()))
        .collect();
    format!("verdicts: {}", words.join(", "))
}

fn table_facts(mode: &Mode, kernel: &Kernel, flows: u32, refused: f64) -> [Fact; 2] {
    let what = format!("{}: flows refused while {flows} are opened", mode.title);
    let bytes = size_of_val::<[FlowSet]>(kernel.flows()) as u64;
    let memory = "memory of the flow table".to_owned();
    [
        Fact::new(what, refused * 100.0, "%", Some(0.1)),
        Fact::new(memory, float(bytes >> 20), "MiB", None),
    ]
}

fn ratio(part: u64, of: u32) -> f64 {
    float(part) / f64::from(of.max(1))
}

fn count(flows: u32) -> String {
    match flows {
        1 => "1 flow".to_owned(),
        _ => format!("{flows} flows"),
    }
}

/// Numbers of strangers begin here, past all that are established.
const AWAY: u64 = 1 << 32;
