//! What the users of both ends do with each other.

use std::time::Duration;

use crate::app::{Plan, Read, Write};
use crate::rng::Rng;

/// The kind of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Talk {
    /// One end sends, the other one reads to the end and then closes.
    OneWay,
    /// Both send at the same time.
    BothWays,
    /// What one end has read it sends, piece by piece.
    Echo,
    /// Requests, and an answer to each.
    Requests,
    /// One request; who answers closes first, as HTTP does without keep-alive.
    AnswerAndClose,
    /// One end closes at once; the other goes on for long.
    HalfClose,
    /// The reader rests for so long that its window closes.
    SlowReader,
    /// Sender and reader rest now and then.
    Rests,
    /// Both close without a byte.
    Nothing,
    /// One end aborts in the middle.
    Abort,
}

impl Talk {
    const ALL: [Self; 10] = [
        Self::OneWay,
        Self::BothWays,
        Self::Echo,
        Self::Requests,
        Self::AnswerAndClose,
        Self::HalfClose,
        Self::SlowReader,
        Self::Rests,
        Self::Nothing,
        Self::Abort,
    ];

    pub(crate) fn any(rng: &mut Rng) -> Self {
        rng.pick(&Self::ALL)
    }

    /// The plans of who connects and of who listens, or the other way round.
    pub(crate) fn plans(self, most: u64, rng: &mut Rng) -> [Plan; 2] {
        let [mut active, mut passive] = match self {
            Self::OneWay => one_way(rng.magnitude(1, most)),
            Self::BothWays => both_ways(rng, most),
            Self::Echo => echo(rng, most),
            Self::Requests => requests(rng, most),
            Self::AnswerAndClose => answer_and_close(rng, most),
            Self::HalfClose => half_close(rng.magnitude(1, most)),
            Self::SlowReader => slow_reader(rng, most),
            Self::Rests => rests(rng, most),
            Self::Nothing => nothing(),
            Self::Abort => abort(rng, most),
        };
        active.piece = rng.size(1, 1 << 16);
        passive.piece = rng.size(1, 1 << 16);
        // Both ends take both roles, and some 100,000 calls for single bytes show nothing more than 1,000 do.
        for (plan, total) in [(&mut active, most), (&mut passive, most)] {
            let least = usize::try_from(total / 2000).unwrap();
            plan.piece = plan.piece.max(least);
        }
        if rng.chance(500_000) {
            [passive, active]
        } else {
            [active, passive]
        }
    }
}

fn plan(writes: Vec<Write>, reads: Vec<Read>) -> Plan {
    Plan {
        writes,
        reads,
        piece: 1,
    }
}

fn one_way(bytes: u64) -> [Plan; 2] {
    [
        plan(
            vec![Write::Bytes(bytes), Write::Shutdown],
            vec![Read::ToEnd],
        ),
        plan(
            vec![Write::WhenFinished, Write::Shutdown],
            vec![Read::ToEnd],
        ),
    ]
}

fn both_ways(rng: &mut Rng, most: u64) -> [Plan; 2] {
    let mut one = || {
        let bytes = rng.magnitude(1, most / 2);
        plan(
            vec![Write::Bytes(bytes), Write::Shutdown],
            vec![Read::ToEnd],
        )
    };
    [one(), one()]
}

fn echo(rng: &mut Rng, most: u64) -> [Plan; 2] {
    let bytes = rng.magnitude(1, most / 2);
    let mut echoes = vec![];
    let mut done = 0;
    while done < bytes {
        let piece = rng.magnitude(1, 10_000).max(bytes / 100).min(bytes - done);
        done += piece;
        echoes.extend([Write::WhenRead(done), Write::Bytes(piece)]);
    }
    echoes.extend([Write::WhenFinished, Write::Shutdown]);
    let [active, mut passive] = one_way(bytes);
    passive.writes = echoes;
    [active, passive]
}

fn requests(rng: &mut Rng, most: u64) -> [Plan; 2] {
    let rounds = rng.magnitude(1, 40);
    let [mut asks, mut answers] = [vec![], vec![]];
    let [mut asked, mut answered] = [0, 0];
    for _ in 0..rounds {
        let ask = rng.magnitude(1, 3000);
        let answer = rng.magnitude(1, (most / rounds).max(1));
        asks.extend([Write::Bytes(ask), Write::WhenRead(answered + answer)]);
        asked += ask;
        answered += answer;
        answers.extend([Write::WhenRead(asked), Write::Bytes(answer)]);
        if rng.chance(50_000) {
            let rest = Duration::from_millis(rng.magnitude(1, 20_000));
            asks.push(Write::Pause(rest));
        }
    }
    asks.push(Write::Shutdown);
    answers.extend([Write::WhenFinished, Write::Shutdown]);
    [
        plan(asks, vec![Read::ToEnd]),
        plan(answers, vec![Read::ToEnd]),
    ]
}

fn answer_and_close(rng: &mut Rng, most: u64) -> [Plan; 2] {
    let ask = rng.magnitude(1, 3000);
    let answer = Write::Bytes(rng.magnitude(1, most));
    let asks = vec![Write::Bytes(ask), Write::WhenFinished, Write::Shutdown];
    let answers = vec![Write::WhenRead(ask), answer, Write::Shutdown];
    [
        plan(asks, vec![Read::ToEnd]),
        plan(answers, vec![Read::ToEnd]),
    ]
}

fn half_close(bytes: u64) -> [Plan; 2] {
    let goes_on = vec![Write::WhenFinished, Write::Bytes(bytes), Write::Shutdown];
    [
        plan(vec![Write::Bytes(1), Write::Shutdown], vec![Read::ToEnd]),
        plan(goes_on, vec![Read::ToEnd]),
    ]
}

fn slow_reader(rng: &mut Rng, most: u64) -> [Plan; 2] {
    let bytes = rng.magnitude(most / 4, most);
    let [active, mut passive] = one_way(bytes);
    let first = rng.below(bytes / 2) + 1;
    let rest = |rng: &mut Rng| Read::Pause(Duration::from_millis(rng.magnitude(10, 900_000)));
    passive.reads = vec![rest(rng), Read::Bytes(first), rest(rng), Read::ToEnd];
    [active, passive]
}

fn rests(rng: &mut Rng, most: u64) -> [Plan; 2] {
    let (mut writes, mut reads) = (vec![], vec![]);
    for _ in 0..rng.range(1, 20) {
        let rest = |rng: &mut Rng| Duration::from_micros(rng.magnitude(10, 5_000_000));
        let bytes = rng.magnitude(1, most / 20);
        writes.extend([Write::Bytes(bytes), Write::Pause(rest(rng))]);
        reads.extend([Read::Bytes(bytes), Read::Pause(rest(rng))]);
    }
    writes.push(Write::Shutdown);
    reads.push(Read::ToEnd);
    [
        plan(writes, vec![Read::ToEnd]),
        plan(vec![Write::WhenFinished, Write::Shutdown], reads),
    ]
}

fn nothing() -> [Plan; 2] {
    let closes = plan(vec![Write::Shutdown], vec![Read::ToEnd]);
    [closes.clone(), closes]
}

fn abort(rng: &mut Rng, most: u64) -> [Plan; 2] {
    let [mut active, passive] = both_ways(rng, most);
    active.writes.truncate(1);
    if rng.chance(500_000) {
        let rest = Duration::from_micros(rng.magnitude(1, 10_000_000));
        active.writes.push(Write::Pause(rest));
    }
    active.writes.push(Write::Abort);
    [active, passive]
}
