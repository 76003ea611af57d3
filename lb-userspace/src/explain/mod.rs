//! `lb explain`: what the packet path would do with a packet, and why, without sending or changing anything.
//!
//! The daemon runs `lb_ebpf::decide::decide` over its live maps, with private copies of what a decision
//! writes to. It does not run the loaded program itself: `BPF_PROG_TEST_RUN` would open a flow and move
//! counters. Both are the same source, and `tests/tests/prog_run.rs` compares them packet by packet.
//! What a trial cannot know is the CPU and the receive queue that a real packet would hit; the question
//! names them, since ports of full NAT and the socket of a worker depend on them.

mod capture;
mod frames;
mod tuple;

use std::fmt;
use std::net::SocketAddr;

use anyhow::Context as _;
use lb_ebpf::decide::{Ingress, decide_fully};
use lb_ebpf::verdict::Verdict;
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::dataplane::Trial;
use tuple::Tuple;

pub(crate) use frames::Source;

/// Packets of one question at most: the daemon answers it between two ticks.
pub(crate) const MAX_FRAMES: usize = 256;

/// What the daemon is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Question {
    /// Interface that the packets come in by; the first one of the configuration if there is none.
    pub(crate) interface: Option<String>,
    /// Receive queue.
    pub(crate) queue: u32,
    /// CPU.
    pub(crate) cpu: u32,
    /// Ethernet frames, in their order: a later one finds the flow that an earlier one opens.
    pub(crate) frames: Vec<Vec<u8>>,
}

/// What would happen to one packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// `transmit`, `redirect`, `worker`, `pass` or `drop`.
    pub(crate) verdict: String,
    /// Name of the reason, as in `lb status`.
    pub(crate) reason: String,
    /// What it means.
    pub(crate) explanation: String,
    /// Name of the service, if the packet is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<String>,
    /// Name of the server, if the packet is forwarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
    /// `new` or `known`, if the packet is forwarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) flow: Option<String>,
    /// Source and destination as the packet arrives; none if it isn't IP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) arrives: Option<(SocketAddr, SocketAddr)>,
    /// Source and destination as it leaves, if it is forwarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) leaves: Option<(SocketAddr, SocketAddr)>,
    /// Index of the interface that it leaves by, if it is forwarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ifindex: Option<u32>,
    /// Slot of the worker's socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) slot: Option<u32>,
}

/// Answers a question. `interfaces` are those of the configuration, with their kernel indices.
pub(crate) fn answer<'a>(
    control: &Control,
    mut interfaces: impl Iterator<Item = (&'a str, u32)>,
    question: Question,
) -> anyhow::Result<Vec<Outcome>> {
    anyhow::ensure!(
        question.frames.len() <= MAX_FRAMES,
        "{} packets are too many for one question; ask about {MAX_FRAMES} at most",
        question.frames.len()
    );
    let (_, ifindex) = match &question.interface {
        Some(name) => interfaces
            .find(|(known, _)| known == name)
            .with_context(|| format!("interface {name:?} is not in the configuration"))?,
        None => interfaces.next().context("no interface is configured")?,
    };
    let ingress = Ingress {
        ifindex,
        queue: question.queue,
        cpu: question.cpu,
    };
    let trial = control.dataplane().trial()?;
    let frames = question.frames.into_iter();
    Ok(frames
        .map(|frame| explain(control, &trial, frame, ingress))
        .collect())
}

fn explain(control: &Control, trial: &Trial<'_>, mut frame: Vec<u8>, ingress: Ingress) -> Outcome {
    let arrives = Tuple::of(&frame);
    let verdict = decide_fully(&mut frame, trial, ingress);
    let noted = trial.take_noted();
    let (name, ifindex, slot) = match verdict {
        Verdict::Pass(_) | Verdict::Continue(_) => ("pass", None, None),
        Verdict::Drop(_) => ("drop", None, None),
        Verdict::Answer(_) => ("answer", Some(ingress.ifindex), None),
        Verdict::Transmit => ("transmit", Some(ingress.ifindex), None),
        Verdict::Redirect { ifindex } => ("redirect", Some(ifindex), None),
        Verdict::Worker { slot, .. } => ("worker", None, Some(slot)),
    };
    let leaves = ifindex.and_then(|_| Tuple::of(&frame));
    let service = noted.service.and_then(|id| control.service_of(id));
    // By the flow that it is of, or that it has opened in the trial: what it leaves with does not tell in every mode.
    let flow_of = arrives.and_then(|tuple| tuple.server(trial));
    let address = flow_of.and_then(|(service, server)| control.server_of(service, server));
    let server = leaves.and(service).and_then(|service| {
        let mut servers = service.servers.iter();
        servers.find(|server| Some(server.address) == address)
    });
    let reason = verdict.reason();
    let flow = if noted.flows > 0 { "new" } else { "known" };
    Outcome {
        verdict: name.to_owned(),
        reason: reason.name().to_owned(),
        explanation: reason.explanation().to_owned(),
        service: service.map(|service| service.name.clone()),
        server: server.map(|server| server.name.clone()),
        flow: leaves.map(|_| flow.to_owned()),
        arrives: arrives.as_ref().map(Tuple::ends),
        leaves: leaves.as_ref().map(Tuple::ends),
        ifindex,
        slot,
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((from, to)) = self.arrives {
            write!(f, "{from} > {to}: ")?;
        }
        writeln!(f, "{} ({})", self.verdict, self.reason)?;
        writeln!(f, "  {}", self.explanation)?;
        let line = |f: &mut fmt::Formatter<'_>, name: &str, value: &Option<String>| match value {
            Some(value) => writeln!(f, "  {name}: {value}"),
            None => Ok(()),
        };
        line(f, "service", &self.service)?;
        line(f, "server", &self.server)?;
        line(f, "flow", &self.flow)?;
        if let (Some((from, to)), Some(ifindex)) = (self.leaves, self.ifindex) {
            writeln!(f, "  leaves: {from} > {to} by interface {ifindex}")?;
        }
        if let Some(slot) = self.slot {
            writeln!(f, "  socket: slot {slot}")?;
        }
        Ok(())
    }
}
