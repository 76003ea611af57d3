//! Runs a program a million times on frames as they arrive, and says how long one run took.
//!
//! `BPF_PROG_TEST_RUN` times the loop in the kernel. The wrapper (`lb-ebpf/src/bench.rs`) restores the frame before
//! each run and then jumps to the program in its slot. Its own cost, and the loop's, is what the same wrapper takes
//! around an empty program; the difference is the program's. That holds for the headers of a tunnel too, which the
//! wrapper takes off again: around the empty program it calls the helper just the same.

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, MapData, ProgramArray},
    programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp},
};
use lb_ebpf::replay::{PLAN_WORDS, Plan};

use super::kernel::bench_object;
use crate::bench::float;

/// The wrapper, loaded.
pub(super) struct Wrapper {
    ebpf: Ebpf,
    plans: Array<MapData, [u64; PLAN_WORDS]>,
    next: Array<MapData, u64>,
    target: ProgramArray<MapData>,
}

/// What came of some runs.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    /// Action of the last.
    pub(super) action: u32,
    /// The frame after the last.
    pub(super) frame: Vec<u8>,
    /// Mean time of one, in nanoseconds, the wrapper's included. The kernel divides integers.
    pub(super) ns: f64,
}

impl Wrapper {
    /// Loads it. Needs root.
    pub(super) fn load() -> Result<Self> {
        let object = bench_object()?;
        let mut ebpf =
            Ebpf::load_file(&object).with_context(|| format!("loading {}", object.display()))?;
        for (name, program) in ebpf.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program.load().with_context(|| name.to_owned())?;
        }
        let plans = Array::try_from(ebpf.take_map("PLANS").context("PLANS")?)?;
        let next = Array::try_from(ebpf.take_map("NEXT").context("NEXT")?)?;
        let target = ProgramArray::try_from(ebpf.take_map("TARGET").context("TARGET")?)?;
        Ok(Self {
            ebpf,
            plans,
            next,
            target,
        })
    }

    /// Runs `program` `repeat` times, by the first of the plans and from then on by the one that each names as its
    /// next. The plans are advanced, so that the next runs go on where these end.
    pub(super) fn run(
        &mut self,
        program: &ProgramFd,
        frame: &[u8],
        plans: &mut [Plan],
        repeat: u32,
    ) -> Result<Outcome> {
        self.target.set(0, program, 0).context(
            "the wrapper can't call the program: one has fragments enabled, the other not",
        )?;
        self.run_again(frame, plans, repeat)
    }

    /// As [`Wrapper::run`], of the empty program.
    pub(super) fn run_nothing(
        &mut self,
        frame: &[u8],
        plans: &mut [Plan],
        repeat: u32,
    ) -> Result<Outcome> {
        let nothing = xdp(&self.ebpf, "nothing")?.fd()?;
        self.target.set(0, nothing, 0)?;
        self.run_again(frame, plans, repeat)
    }

    fn run_again(&mut self, frame: &[u8], plans: &mut [Plan], repeat: u32) -> Result<Outcome> {
        for (index, plan) in (0..).zip(&*plans) {
            self.plans.set(index, plan.words(), 0)?;
        }
        self.next.set(0, 0, 0)?;
        let mut out = vec![0; frame.len() + ROOM];
        let result = xdp(&self.ebpf, "replay")?
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                repeat,
                ..TestRunOptions::default()
            })
            .context("BPF_PROG_TEST_RUN")?;
        out.truncate(result.data_size_out as usize);
        for (index, plan) in (0..).zip(plans) {
            let [state, _, _, turn, ..] = self.plans.get(&index, 0)?;
            (plan.state, plan.turn) = (state, turn);
        }
        Ok(Outcome {
            action: result.return_value,
            frame: out,
            ns: float(result.duration.as_nanos().try_into()?),
        })
    }
}

fn xdp<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a Xdp> {
    let program = ebpf.program(name).with_context(|| name.to_owned())?;
    Ok(program.try_into()?)
}

/// For headers that a program puts in front.
const ROOM: usize = 64;
