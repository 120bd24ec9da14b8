//! Measure a road between two sockets: a paced UDP generator and a sink, each printing JSON.
//!
//! ```text
//! traffic sink     --at ADDRESS:PORT [--run N] [--wait SECONDS] [--least SECONDS] [--quiet SECONDS]
//!                  [--count PACKETS] [--no-gro]
//! traffic generate --to ADDRESS:PORT --size BYTES (--rate PACKETS --seconds N | --burst PACKETS)
//!                  [--run N] [--flows N] [--segment]
//! ```
//!
//! Both run on one machine: the latency is the difference of two readings of one clock.

mod account;
mod arguments;
mod generator;
mod histogram;
mod pacer;
mod packet;
mod sink;
mod sys;

use std::process::ExitCode;

use arguments::Command;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = arguments::parse(&words).and_then(|command| match command {
        Command::Generate(order) => generator::run(&order).map_err(|error| error.to_string()),
        Command::Sink(order) => sink::run(&order).map_err(|error| error.to_string()),
    });
    match done {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("traffic: {reason}");
            ExitCode::FAILURE
        }
    }
}
