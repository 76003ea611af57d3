//! `cargo xtask demo`: the story of this project, played in front of you in a minute.
//!
//! A client that trusts NTLM persistence fails behind LoadMaster's old default headers and works behind the Exchange
//! profile; SMTP servers see the client's address where the mode allows it; wrk shows what the detour costs.
//!
//! Invariants: nothing is staged: real `lb`, real NTLM, packets through the kernel; each outcome is compared with
//! what it should be, and one that differs fails the demo. What is made is removed, whatever happens.
//! Called by the binary `lb-demo`.

#![expect(clippy::print_stdout, reason = "the demo is what it prints")]

mod article;
mod load;
mod mail;

use anyhow::Result;

use crate::{guard::Interrupts, world::World};

/// Where the demo is, and what was not as it should be.
#[derive(Debug)]
pub struct Stage<'a> {
    interrupts: &'a Interrupts,
    step: u32,
    wrong: Vec<String>,
}

/// Steps of the demo, for "2/5".
const STEPS: u32 = 5;

impl Stage<'_> {
    /// Begins a step, unless the user wants to stop.
    fn step(&mut self, title: &str) -> Result<()> {
        self.interrupts.check()?;
        self.step += 1;
        println!("\n[{}/{STEPS}] {title}", self.step);
        Ok(())
    }

    /// Says what came out; remembers it if it isn't what it should be.
    fn outcome<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, got: &T, wanted: &T) {
        if got == wanted {
            println!("  ok  {what}");
        } else {
            println!(" BAD  {what}: got {got:?}, it should be {wanted:?}");
            self.wrong
                .push(format!("{what}: got {got:?} in place of {wanted:?}"));
        }
    }
}

/// Says something.
fn say(line: &str) {
    println!("      {line}");
}

/// Plays everything; the outcomes that were not what they should be.
///
/// Fails when a step can't be played at all, or when interrupted.
pub fn run(interrupts: &Interrupts) -> Result<Vec<String>> {
    let mut stage = Stage {
        interrupts,
        step: 0,
        wrong: Vec::new(),
    };
    stage.step("Lab: client, edge and three simulated Exchange servers in network namespaces")?;
    let world = World::start(3)?;
    for server in world.servers() {
        say(&format!(
            "{} listens on {} for HTTP, HTTPS and SMTP",
            server.name(),
            crate::address::server(server.number())
        ));
    }
    article::with_old_default(&mut stage, &world)?;
    article::with_exchange_profile(&mut stage, &world)?;
    mail::play(&mut stage, &world)?;
    drop(world);
    load::play(&mut stage)?;
    Ok(stage.wrong)
}
