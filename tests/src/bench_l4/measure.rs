//! Nanoseconds per packet: fills the tables, checks the first packets of each mode against the host, and takes the
//! samples of all loads in turns.
//!
//! Full NAT over IPv4 is measured on tables of its own, one for each number of flows; the other modes share one, each
//! with a service of its own. Not here: packets and tables (`rows`), what a sample is (`load`), claims (`claims`).

use anyhow::{Context as _, Result, bail, ensure};
use lb_ebpf::{
    decide::decide_fully,
    fixtures::{HostTables, INGRESS, World},
    replay::{ORDER_COUNT, Plan, TURN_CLIENT_THEN_SERVER},
    tcp::Flags,
    verdict::{Reason, Verdict},
};

use super::{
    Sizes,
    claims::{Comparison, Flood},
    kernel::Kernel,
    load::{Load, Strangers, established, verdicts},
    report::{Fact, Sample},
    rows::{Mode, NAT, NAT_TARGET_NEW, NAT_TARGETS, OTHERS, PASSED, settled, world_of},
    wrapper::Wrapper,
};
use crate::{bench::float, guard::Interrupts};

/// What it all came to.
pub(super) struct Measured {
    pub(super) samples: Vec<Sample>,
    pub(super) facts: Vec<Fact>,
    pub(super) comparisons: Vec<Comparison>,
    pub(super) flood: Flood,
}

/// Measures all loads of all modes.
pub(super) fn run(
    sizes: &Sizes,
    interrupts: &Interrupts,
    progress: &dyn Fn(&str),
) -> Result<Measured> {
    let mut wrapper = Wrapper::load()?;
    let mut facts = Vec::new();
    let kernels = Kernels::load(&mut wrapper, sizes, &mut facts, interrupts, progress)?;
    facts.extend(instructions(&kernels.fresh)?);

    let mut loads = Vec::new();
    for passed in PASSED {
        loads.push(Load::passed(passed, &kernels.nat[0], sizes.repeat)?);
    }
    loads.extend(nat_loads(&kernels, sizes)?);
    let (flooded, flood) = flood_loads(&kernels.flooded, sizes)?;
    loads.extend(flooded);
    for mode in OTHERS {
        loads.extend(other_loads(mode, &kernels.others, sizes)?);
    }
    let samples = in_turns(&mut wrapper, &mut loads, sizes.rounds, interrupts, progress)?;
    let comparison = |mode: &Mode| {
        Some(Comparison {
            load: established(mode, 1),
            base: established(&NAT, 1),
            beyond_ns: mode.beyond_nat?,
        })
    };
    Ok(Measured {
        samples,
        facts,
        comparisons: OTHERS.iter().filter_map(comparison).collect(),
        flood,
    })
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
        for load in &mut *loads {
            interrupts.check()?;
            let sample = load.sample(wrapper, round);
            samples.push(sample.with_context(|| load.title.clone())?);
        }
        progress(&format!("round {round} of {rounds}"));
    }
    Ok(samples)
}

/// The program with each of the tables that loads run on.
struct Kernels {
    /// One for each number of flows.
    nat: [Kernel; 3],
    /// Without a flow.
    fresh: Kernel,
    /// Full of strangers' half-open flows, beside those in use.
    flooded: Kernel,
    /// With flows of all other modes.
    others: Kernel,
}

impl Kernels {
    fn load(
        wrapper: &mut Wrapper,
        sizes: &Sizes,
        facts: &mut Vec<Fact>,
        interrupts: &Interrupts,
        progress: &dyn Fn(&str),
    ) -> Result<Self> {
        let world = world_of(&[NAT], sizes.sets, 2)?;
        let load = |flows| Kernel::load(&settled(&world, flows));
        let [one, some, many] = sizes.flows;
        let others = world_of(OTHERS, sizes.sets, sizes.sets)?;
        let kernels = Self {
            nat: [load(one)?, load(some)?, load(many)?],
            fresh: load(sizes.opened * sizes.rounds)?,
            flooded: load(sizes.flood)?,
            others: Kernel::load(&settled(&others, some * u32::try_from(OTHERS.len())?))?,
        };
        for (kernel, flows) in kernels.nat.iter().zip(sizes.flows) {
            progress(&format!("{}: opening {flows} flows", NAT.title));
            first_packets_agree(&[NAT], wrapper, kernel)?;
            let opened = open(&NAT, wrapper, kernel, flows)?;
            if flows == sizes.flows[2] {
                facts.push(refused(flows, opened));
            }
            interrupts.check()?;
        }
        facts.extend(memory(&kernels.others)?);
        first_packets_agree(OTHERS, wrapper, &kernels.others)?;
        for mode in OTHERS {
            progress(&format!("{}: opening {} flows", mode.title, sizes.flows[1]));
            open(mode, wrapper, &kernels.others, sizes.flows[1])?;
            interrupts.check()?;
        }
        progress(&format!(
            "{} SYNs of strangers beside {} flows",
            sizes.flood, sizes.beside
        ));
        facts.push(flood(wrapper, &kernels.flooded, sizes)?);
        Ok(kernels)
    }
}

/// All of full NAT.
fn nat_loads<'a>(kernels: &'a Kernels, sizes: &Sizes) -> Result<Vec<Load<'a>>> {
    let mut loads = Vec::new();
    for ((kernel, flows), target) in kernels.nat.iter().zip(sizes.flows).zip(NAT_TARGETS) {
        loads.push(Load::established(&NAT, kernel, flows, sizes.repeat)?.within(target));
        loads.push(Load::both_ways(&NAT, kernel, flows, sizes.repeat)?);
    }
    let new = Load::strangers(&NAT, &kernels.fresh, NEW, &opening(0), sizes.opened)?;
    loads.push(new.within(NAT_TARGET_NEW));
    Ok(loads)
}

/// One flow and 65k in the table that all other modes share, and new ones.
fn other_loads<'a>(mode: &Mode, kernel: &'a Kernel, sizes: &Sizes) -> Result<Vec<Load<'a>>> {
    let [one, many, _] = sizes.flows;
    let mut loads = vec![
        Load::established(mode, kernel, one, sizes.repeat)?,
        Load::established(mode, kernel, many, sizes.repeat)?,
    ];
    if mode.answers() {
        loads.push(Load::both_ways(mode, kernel, many, sizes.repeat)?);
    }
    // A few, so that even after all rounds less than half of the shared table is taken.
    let opened = sizes.opened / 5;
    loads.push(Load::strangers(mode, kernel, NEW, &opening(AWAY), opened)?);
    Ok(loads)
}

/// What a flood does to packets of flows that are in use: strangers send as many packets as they, which take places in
/// the full table, or which look in the same places and take none.
fn flood_loads<'a>(kernel: &'a Kernel, sizes: &Sizes) -> Result<(Vec<Load<'a>>, Flood)> {
    // All numbers of which a flow is drawn are in use.
    let flows = 1 << sizes.beside.ilog2();
    let beside = |what: &str, strangers: Strangers| {
        let packets = 2 * sizes.opened;
        Load::beside_strangers(&NAT, kernel, what, (flows, &strangers), packets)
    };
    let between = |what: &str, strangers: Strangers| {
        let packets = sizes.opened;
        Load::between_bursts(&NAT, kernel, what, (flows, &strangers), packets)
    };
    let alone = |what: &str, strangers: Strangers| {
        Load::strangers(&NAT, kernel, what, &strangers, sizes.opened)
    };
    let with_inserts = beside("established and SYN in turns", opening(2 * AWAY))?;
    let with_misses = beside("established and stray ACK in turns", missing(3 * AWAY))?;
    let after_inserts = between("established, after bursts of SYNs", opening(4 * AWAY))?;
    let after_misses = between("established, after bursts of stray ACKs", missing(5 * AWAY))?;
    let inserts = alone("SYN flood on a full table", opening(6 * AWAY))?;
    let misses = alone("stray ACKs on a full table", missing(7 * AWAY))?;
    let flood = Flood {
        inserts: inserts.title.clone(),
        misses: misses.title.clone(),
        after_inserts: after_inserts.title.clone(),
        after_misses: after_misses.title.clone(),
        with_inserts: with_inserts.title.clone(),
        with_misses: with_misses.title.clone(),
    };
    let loads = vec![
        inserts,
        misses,
        with_inserts,
        with_misses,
        after_inserts,
        after_misses,
    ];
    Ok((loads, flood))
}

/// Opens the flows numbered from 0 and lets both ends speak; how many got a place.
fn open(mode: &Mode, wrapper: &mut Wrapper, kernel: &Kernel, flows: u32) -> Result<u32> {
    let program = kernel.program()?;
    let syn = mode.frame(Flags::SYN);
    let before = forwarded(kernel)?;
    let plan = mode.plan(&syn, ORDER_COUNT)?;
    wrapper.run(program, &syn, &mut [plan], flows)?;
    let opened = u32::try_from(forwarded(kernel)? - before)?;
    let ack = mode.frame(Flags::ACK);
    let mut plan = mode.plan(&ack, ORDER_COUNT)?;
    let mut packets = flows;
    if mode.answers() {
        plan.turn = TURN_CLIENT_THEN_SERVER;
        packets *= 2;
    }
    wrapper.run(program, &ack, &mut [plan], packets)?;
    Ok(opened)
}

/// A SYN flood beside flows that are in use: how many of these are lost.
fn flood(wrapper: &mut Wrapper, kernel: &Kernel, sizes: &Sizes) -> Result<Fact> {
    let opened = open(&NAT, wrapper, kernel, sizes.beside)?;
    let program = kernel.program()?;
    let syn = NAT.frame(Flags::SYN);
    let strangers = Plan {
        state: AWAY,
        ..NAT.plan(&syn, ORDER_COUNT)?
    };
    wrapper.run(program, &syn, &mut [strangers], sizes.flood)?;
    let before = forwarded(kernel)?;
    let ack = NAT.frame(Flags::ACK);
    let again = NAT.plan(&ack, ORDER_COUNT)?;
    wrapper.run(program, &ack, &mut [again], sizes.beside)?;
    let left = forwarded(kernel)? - before;
    let what = format!(
        "live flows, of {}, that {} SYNs of strangers push out",
        sizes.beside, sizes.flood
    );
    let lost = u64::from(opened).saturating_sub(left);
    Ok(Fact::new(what, float(lost), "flows", Some(0.0)))
}

fn forwarded(kernel: &Kernel) -> Result<u64> {
    Ok(kernel.counts()?[Reason::Forwarded as usize])
}

/// Runs the first clients of each mode through the program and through `decide` on the host: SYNs, then ACKs, then the
/// answer to the last of these. The frame of the last client has been rewritten and restored before, so this is the proof
/// of the wrapper as well.
///
/// On a table that is still empty, so that both sides find the same source ports free.
fn first_packets_agree(modes: &[Mode], wrapper: &mut Wrapper, kernel: &Kernel) -> Result<()> {
    let small: World = world_of(modes, 64, 64)?;
    let host = HostTables::new(&small);
    for passed in PASSED {
        let frames = [(passed.frame)()];
        agree(wrapper, kernel, &host, &frames, Plan::untouched())?;
    }
    for mode in modes {
        for flags in [Flags::SYN, Flags::ACK] {
            let frames = [0, 1, 2].map(|number| mode.frame_of(number, flags));
            let plan = mode.plan(&frames[0], ORDER_COUNT)?;
            let sent = agree(wrapper, kernel, &host, &frames, plan)
                .with_context(|| mode.title.to_owned())?;
            if mode.answers() && flags == Flags::ACK {
                let answer = [mode.answer(&sent)];
                agree(wrapper, kernel, &host, &answer, Plan::untouched())?;
            }
        }
    }
    Ok(())
}

/// Runs `plan` as often as there are frames, of which it begins with the first; the last as the kernel sent it, if the
/// host does the same to each.
fn agree(
    wrapper: &mut Wrapper,
    kernel: &Kernel,
    host: &HostTables,
    frames: &[Vec<u8>],
    plan: Plan,
) -> Result<Vec<u8>> {
    let [first, ..] = frames else {
        bail!("no frame to agree about");
    };
    let before = kernel.counts()?;
    let runs = u32::try_from(frames.len())?;
    let got = wrapper.run(kernel.program()?, first, &mut [plan], runs)?;
    let after = kernel.counts()?;
    let mut counts = before;
    let mut expected = (0, Vec::new());
    for frame in frames {
        let mut frame = frame.clone();
        let verdict = decide_fully(&mut frame, host, INGRESS);
        counts[verdict.reason() as usize] += 1;
        expected = (action(verdict), frame);
    }
    ensure!(
        (got.action, &got.frame) == (expected.0, &expected.1) && after == counts,
        "the kernel and the host differ about {frames:02x?}: the host says action {} and {:02x?}, {}; the kernel \
         action {} and {:02x?}, {}",
        expected.0,
        expected.1,
        verdicts(&before, &counts),
        got.action,
        got.frame,
        verdicts(&before, &after),
    );
    Ok(got.frame)
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

fn refused(flows: u32, opened: u32) -> Fact {
    let share = 1.0 - f64::from(opened) / f64::from(flows);
    let what = format!("flows refused while {flows} are opened");
    Fact::new(what, share * 100.0, "%", Some(0.1))
}

fn memory(kernel: &Kernel) -> Result<[Fact; 2]> {
    let fact = |what: &str, map| {
        let mib = kernel.bytes(map)? >> 20;
        Ok::<_, anyhow::Error>(Fact::new(what.to_owned(), float(mib), "MiB", None))
    };
    Ok([
        fact("memory of the flow table of IPv4", "FLOWS")?,
        fact(
            "memory of the flow table of IPv6, if there is one",
            "FLOWS6",
        )?,
    ])
}

/// Of every program, and the claim about the largest.
fn instructions(kernel: &Kernel) -> Result<Vec<Fact>> {
    let all = kernel.verified_instructions()?;
    let fact = |what, count: u32, target| Fact::new(what, f64::from(count), "instructions", target);
    let mut facts: Vec<Fact> = all
        .iter()
        .map(|(name, count)| fact(format!("verified in {name}"), *count, None))
        .collect();
    if let Some((name, count)) = all.iter().max_by_key(|(_, count)| *count) {
        let what = format!("verified in the largest program, {name}");
        facts.push(fact(what, *count, Some(100_000.0)));
    }
    Ok(facts)
}

/// Strangers who open flows.
const fn opening(first: u64) -> Strangers {
    Strangers {
        flags: Flags::SYN,
        reason: Reason::Forwarded,
        first,
    }
}

/// Strangers who look for a flow that isn't there, and are passed to the stack.
const fn missing(first: u64) -> Strangers {
    Strangers {
        flags: Flags::ACK,
        reason: Reason::NoFlow,
        first,
    }
}

const NEW: &str = "new connection";
/// Numbers of strangers begin here, past all that are established.
const AWAY: u64 = 1 << 32;
