//! A line of a script: when, and what.
//!
//! Numbers are counted as people do: 0 is the SYN of its sender, whatever its initial sequence number, and the first byte of
//! text is 1. So `A 1..1461 ack 1` is the first 1460 bytes.

use std::str::SplitWhitespace;
use std::time::Duration;

use lb_tcp::Flags;

/// A line.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// After the line before.
    pub(crate) after: Duration,
    pub(crate) what: What,
}

/// What happens, or must happen.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// The rest of the script is under other rules: `given no sack`.
    Given(Vec<String>),
    /// A handshake that somebody else has tried: `established mss 1460 ts sack scale 7`.
    Established(Shape),
    /// We connect.
    Connect,
    /// The peer's segment arrives.
    In(Shape),
    /// Ours leaves, exactly then.
    Out(Shape),
    /// So many leave now, whatever they are.
    Skip(usize),
    /// Nothing leaves for so long.
    Silence(Duration),
    /// Bytes written, and how many of them are taken.
    Writes(usize, usize),
    /// All that there is to be read.
    Reads(usize),
    /// The end of the peer's stream is read.
    ReadsEnd,
    Closes,
    Aborts,
    /// A router tells of the segment with this number what fits.
    TooBig(u32, usize),
    Unreachable(u32),
    State(String),
    Fails(String),
    /// A counter, by the end of its name.
    Counts(String, u64),
    Memory(usize),
    Info(String, String),
}

/// A segment as it is written: of what isn't there, one leaving may be anything, and one arriving has what is usual.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) len: u32,
    pub(crate) ack: Option<u32>,
    pub(crate) window: Option<u16>,
    pub(crate) mss: Option<u16>,
    pub(crate) scale: Option<u8>,
    pub(crate) sack_permitted: bool,
    pub(crate) timestamps: Stamp,
    pub(crate) sack: Vec<(u32, u32)>,
    /// Round trip of `established`.
    pub(crate) rtt: Option<Duration>,
    /// Whether so much was said after the handshake that acknowledgements are no longer quick; numbers begin behind it.
    pub(crate) settled: bool,
}

/// Timestamps of a segment as it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// Not mentioned.
    #[default]
    Usual,
    /// `ts`: the option is there.
    Any,
    /// `no-ts`
    None,
    /// `ts 100/200`
    Exactly(u32, u32),
    /// `ts */200`
    Echo(u32),
}

impl Line {
    /// # Panics
    /// If it can't be read; that is the script's mistake.
    pub(crate) fn read(text: &str) -> Self {
        let mut words = text.split_whitespace().peekable();
        let after = match words.peek() {
            Some(word) if word.starts_with('+') => duration(&words.next().unwrap()[1..]),
            _ => Duration::ZERO,
        };
        let verb = words
            .next()
            .unwrap_or_else(|| panic!("nothing in {text:?}"));
        let rest = words.collect::<Vec<_>>().join(" ");
        Self {
            after,
            what: what(verb, &rest),
        }
    }
}

fn what(verb: &str, rest: &str) -> What {
    let mut words = rest.split_whitespace();
    let mut first = || {
        let word = words.next();
        word.unwrap_or_else(|| panic!("{verb} what?"))
    };
    match verb {
        "given" => What::Given(rest.split(',').map(|word| word.trim().to_owned()).collect()),
        "established" => What::Established(options(rest.split_whitespace())),
        "connect" => What::Connect,
        "in" => What::In(shape(rest)),
        "out" => What::Out(shape(rest)),
        "skip" => What::Skip(number(first())),
        "silence" => What::Silence(duration(first())),
        "writes" => {
            let count = number(first());
            let taken = words.nth(1).map_or(count, number);
            What::Writes(count, taken)
        }
        "reads" if rest == "end" => What::ReadsEnd,
        "reads" => What::Reads(number(first())),
        "closes" => What::Closes,
        "aborts" => What::Aborts,
        "too-big" => What::TooBig(number(first()), number(first())),
        "unreachable" => What::Unreachable(number(first())),
        "state" => What::State(rest.to_owned()),
        "fails" => What::Fails(rest.to_owned()),
        "counts" => What::Counts(first().to_owned(), number(first())),
        "memory" => What::Memory(number(first())),
        "info" => What::Info(first().to_owned(), first().to_owned()),
        _ => panic!("what is {verb:?}?"),
    }
}

/// `SA 0 ack 1 ...` or `A 1..1461 ack 1 ...`
fn shape(text: &str) -> Shape {
    let mut words = text.split_whitespace();
    let flags = words.next().expect("flags");
    let (seq, end) = {
        let word = words.next().expect("a number");
        let (seq, end) = word.split_once("..").unwrap_or((word, word));
        (number::<u32>(seq), number::<u32>(end))
    };
    Shape {
        flags: flags.chars().map(flag).fold(0, |all, it| all | it.0),
        seq,
        len: end.wrapping_sub(seq),
        ..options(words)
    }
}

fn flag(letter: char) -> Flags {
    match letter {
        'S' => Flags::SYN,
        'A' => Flags::ACK,
        'F' => Flags::FIN,
        'R' => Flags::RST,
        'P' => Flags::PSH,
        'U' => Flags::URG,
        '-' => Flags(0),
        _ => panic!("flag {letter:?}"),
    }
}

fn options(words: SplitWhitespace<'_>) -> Shape {
    let mut shape = Shape::default();
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} what?"));
        match word {
            "ack" => shape.ack = Some(number(value())),
            "win" => shape.window = Some(number(value())),
            "mss" => shape.mss = Some(number(value())),
            "scale" => shape.scale = Some(number(value())),
            "rtt" => shape.rtt = Some(duration(value())),
            "settled" => shape.settled = true,
            "no-ts" => shape.timestamps = Stamp::None,
            "ts" => {
                let pair = words.next_if(|word| word.contains('/'));
                let pair = pair.and_then(|word| word.split_once('/'));
                shape.timestamps = match pair {
                    None => Stamp::Any,
                    Some(("*", echo)) => Stamp::Echo(number(echo)),
                    Some((value, echo)) => Stamp::Exactly(number(value), number(echo)),
                };
            }
            "sack" => match words.next_if(|word| word.contains("..")) {
                Some(blocks) => shape.sack = blocks.split(',').map(block).collect(),
                None => shape.sack_permitted = true,
            },
            _ => panic!("what is {word:?} of a segment?"),
        }
    }
    shape
}

fn block(text: &str) -> (u32, u32) {
    let (start, end) = text.split_once("..").expect("a block");
    (number(start), number(end))
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is no number here"))
}

/// `200ms`, `1.5s`, `40us`
fn duration(text: &str) -> Duration {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let micros = match &text[digits.len()..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "min" => 60e6,
        "h" => 3600e6,
        unit if digits == "0" && unit.is_empty() => 0.0,
        unit => panic!("{unit:?} is no unit"),
    };
    Duration::from_secs_f64(number::<f64>(digits) * micros / 1e6)
}
