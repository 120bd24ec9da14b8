//! The command line, and the orders on the control socket.

use std::os::fd::RawFd;

use crate::line::{Counts, Line};

/// An hour: no line is longer.
const MAX_SECONDS: f64 = 3600.0;

/// What the parent passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// The control socket.
    pub control: RawFd,
    /// The packet sockets of the near and the far end.
    pub ends: [RawFd; 2],
    /// What chance is drawn from.
    pub seed: u64,
}

/// Something to do while it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// Other conditions for what comes in at this end.
    Line(usize, Line),
    /// Tell what happened to it.
    Counts(usize),
}

/// Read the command line, without the program's name. The error is one line.
pub fn parse_command(words: &[String]) -> Result<Command, String> {
    let [control, near, far, seed] = words else {
        return Err("carrier CONTROL NEAR FAR SEED".into());
    };
    let descriptor = |word: &String| {
        word.parse::<RawFd>()
            .ok()
            .filter(|number| *number > 2)
            .ok_or_else(|| format!("{word:?} is no descriptor"))
    };
    Ok(Command {
        control: descriptor(control)?,
        ends: [descriptor(near)?, descriptor(far)?],
        seed: seed
            .parse()
            .map_err(|_| format!("{seed:?} is no seed, a number from 0 to 2^64 - 1"))?,
    })
}

/// Read an order. The error is one line.
pub fn parse_order(text: &str) -> Result<Order, String> {
    let mut words = text.split_ascii_whitespace();
    let verb = words.next().unwrap_or_default();
    let way = match words.next() {
        Some("0") => 0,
        Some("1") => 1,
        _ => return Err("which way: 0 or 1".into()),
    };
    match verb {
        "counts" if words.next().is_none() => Ok(Order::Counts(way)),
        "line" => {
            let mut line = Line::default();
            for word in words {
                condition(&mut line, word)?;
            }
            Ok(Order::Line(way, line))
        }
        _ => Err(format!("{text:?} is no order")),
    }
}

/// Set what one word says.
fn condition(line: &mut Line, word: &str) -> Result<(), String> {
    let wrong = || format!("{word:?} is no condition of a line");
    let (name, value) = word.split_once('=').ok_or_else(wrong)?;
    let number: f64 = value.parse().map_err(|_| wrong())?;
    if !number.is_finite() || number < 0.0 {
        return Err(wrong());
    }
    let likely = || (number <= 1.0).then_some(number).ok_or_else(wrong);
    let time = || {
        let fits = number <= MAX_SECONDS;
        fits.then_some((number * 1e9) as u64).ok_or_else(wrong)
    };
    match name {
        "delay" => line.delay = time()?,
        "jitter" => line.jitter = time()?,
        "loss" => line.loss = likely()?,
        "duplication" => line.duplication = likely()?,
        "reordering" => line.reordering = likely()?,
        "reorder_by" => line.reorder_by = time()?,
        "rate" => line.rate = number,
        "queue" => line.queue = time()?,
        "hops" => line.hops = value.parse().map_err(|_| wrong())?,
        "mtu" => line.mtu = value.parse().map_err(|_| wrong())?,
        _ => return Err(wrong()),
    }
    Ok(())
}

/// The answer to the order for counts.
pub fn show(counts: &Counts) -> String {
    format!(
        "carried={} lost={} repeated={} reordered={} dropped={} expired={} oversize={} overflow={}",
        counts.carried,
        counts.lost,
        counts.repeated,
        counts.reordered,
        counts.dropped,
        counts.expired,
        counts.oversize,
        counts.overflow
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(String::from).collect()
    }

    #[test]
    fn a_command_line_has_three_descriptors_and_a_seed() {
        let command = parse_command(&words("3 4 5 77")).unwrap();
        assert_eq!(
            (command.control, command.ends, command.seed),
            (3, [4, 5], 77)
        );
        for wrong in [
            "3 4 5",
            "3 4 x 1",
            "0 4 5 1",
            "-1 4 5 1",
            "3 4 5 -1",
            "3 4 5 6 7",
        ] {
            assert!(parse_command(&words(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_order_says_what_a_line_does() {
        let order =
            parse_order("line 1 delay=0.03 loss=0.5 rate=1e6 queue=0.1 hops=3 mtu=1400").unwrap();
        let line = Line {
            delay: 30_000_000,
            loss: 0.5,
            rate: 1e6,
            queue: 100_000_000,
            hops: 3,
            mtu: 1400,
            ..Line::default()
        };
        assert_eq!(order, Order::Line(1, line));
        assert_eq!(
            parse_order("line 0").unwrap(),
            Order::Line(0, Line::default())
        );
        assert_eq!(parse_order("counts 0").unwrap(), Order::Counts(0));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in [
            "",
            "line",
            "line 2",
            "counts",
            "counts 0 1",
            "fly 0",
            "line 0 delay",
            "line 0 delay=",
            "line 0 delay=-1",
            "line 0 delay=nan",
            "line 0 delay=inf",
            "line 0 delay=3601",
            "line 0 loss=1.5",
            "line 0 hops=256",
            "line 0 hops=1.5",
            "line 0 mtu=-1",
            "line 0 weather=1",
        ] {
            assert!(parse_order(wrong).is_err(), "{wrong}");
        }
    }
}
