//! The command line.

use std::net::SocketAddrV4;
use std::str::FromStr;

use crate::account::{MAX_FLOWS, MAX_NUMBER};
use crate::packet::{MAX_PAYLOAD, MIN_SIZE, OVERHEAD};

/// A day: nobody waits for longer.
const MAX_SECONDS: f64 = 86_400.0;

/// What to do.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Send.
    Generate(Generate),
    /// Receive.
    Sink(Sink),
}

/// How the packets are spread over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Plan {
    /// Packets a second, for so many seconds.
    Paced(f64, f64),
    /// So many packets as fast as they go.
    Burst(u64),
}

/// An order to send.
#[derive(Debug, PartialEq)]
pub struct Generate {
    /// Where to.
    pub to: SocketAddrV4,
    /// Bytes of each IP packet, headers included.
    pub size: usize,
    /// When.
    pub plan: Plan,
    /// The number of the run.
    pub run: u32,
    /// Sockets that take turns, batch by batch.
    pub flows: u32,
    /// Whether the kernel is given many packets as one, by UDP_SEGMENT.
    pub segment: bool,
}

/// An order to receive.
#[derive(Debug, PartialEq)]
pub struct Sink {
    /// Where.
    pub at: SocketAddrV4,
    /// The number of the run.
    pub run: u32,
    /// Seconds to wait for the first packet.
    pub wait: f64,
    /// Seconds after the first packet in which silence says nothing: the sender still sends.
    pub least: f64,
    /// Seconds of silence after that, and the run is over.
    pub quiet: f64,
    /// So many packets are all there are: with the last of them the run is over at once.
    pub count: u64,
    /// Whether the kernel may give many packets as one, by UDP_GRO.
    pub gro: bool,
}

/// Read a command line, without the program's name. The error is one line.
pub fn parse(words: &[String]) -> Result<Command, String> {
    let (command, rest) = words.split_first().ok_or("generate or sink?")?;
    let mut options = Options(rest.to_vec());
    let done = match command.as_str() {
        "generate" => Command::Generate(generate(&mut options)?),
        "sink" => Command::Sink(sink(&mut options)?),
        other => return Err(format!("{other}: generate or sink?")),
    };
    match options.0.first() {
        None => Ok(done),
        Some(word) => Err(format!("{word} means nothing to {command}")),
    }
}

fn generate(options: &mut Options) -> Result<Generate, String> {
    let burst: Option<u64> = options.value("--burst")?;
    let rate: Option<f64> = options.value("--rate")?;
    let seconds: Option<f64> = options.value("--seconds")?;
    let plan = match (burst, rate, seconds) {
        (Some(count), None, None) => Plan::Burst(count),
        (None, Some(rate), Some(seconds)) => Plan::Paced(rate, seconds),
        _ => return Err("either --burst, or --rate and --seconds".into()),
    };
    let total = match plan {
        Plan::Burst(count) => count as f64,
        Plan::Paced(rate, seconds) => rate * seconds,
    };
    if !(total >= 1.0 && total <= MAX_NUMBER as f64) {
        return Err(format!("{total} packets: 1 to {MAX_NUMBER}"));
    }
    if let Plan::Paced(rate, seconds) = plan {
        if !(rate > 0.0 && seconds > 0.0) {
            return Err("--rate and --seconds are above 0".into());
        }
    }
    let order = Generate {
        to: options.needed("--to")?,
        size: options.needed("--size")?,
        plan,
        run: options.value("--run")?.unwrap_or(0),
        flows: options.value("--flows")?.unwrap_or(1),
        segment: options.flag("--segment"),
    };
    if !(MIN_SIZE..=MAX_PAYLOAD + OVERHEAD).contains(&order.size) {
        let most = MAX_PAYLOAD + OVERHEAD;
        return Err(format!("--size {}: {MIN_SIZE} to {most}", order.size));
    }
    if !(1..=MAX_FLOWS).contains(&order.flows) {
        return Err(format!("--flows {}: 1 to {MAX_FLOWS}", order.flows));
    }
    Ok(order)
}

fn sink(options: &mut Options) -> Result<Sink, String> {
    let order = Sink {
        at: options.needed("--at")?,
        run: options.value("--run")?.unwrap_or(0),
        wait: options.value("--wait")?.unwrap_or(5.0),
        least: options.value("--least")?.unwrap_or(0.0),
        quiet: options.value("--quiet")?.unwrap_or(0.3),
        count: options.value("--count")?.unwrap_or(u64::MAX),
        gro: !options.flag("--no-gro"),
    };
    let times = [order.wait, order.least, order.quiet];
    if !times.iter().all(|time| (0.0..MAX_SECONDS).contains(time)) {
        return Err("--wait, --least and --quiet are seconds".into());
    }
    Ok(order)
}

/// The words that are not understood yet.
struct Options(Vec<String>);

impl Options {
    fn flag(&mut self, name: &str) -> bool {
        let place = self.0.iter().position(|word| word == name);
        place.map(|index| self.0.remove(index)).is_some()
    }

    fn value<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, String> {
        let Some(index) = self.0.iter().position(|word| word == name) else {
            return Ok(None);
        };
        self.0.remove(index);
        if index == self.0.len() {
            return Err(format!("{name} needs a value"));
        }
        let word = self.0.remove(index);
        let value = word
            .parse()
            .map_err(|_| format!("{name} {word}: not a value for it"))?;
        Ok(Some(value))
    }

    fn needed<T: FromStr>(&mut self, name: &str) -> Result<T, String> {
        self.value(name)?.ok_or(format!("{name} is needed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command, String> {
        parse(
            &line
                .split_whitespace()
                .map(String::from)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn an_order_to_send() {
        let line =
            "generate --to 10.0.0.2:7 --size 64 --rate 5e3 --seconds 0.5 --segment --flows 4";
        let order = Generate {
            to: "10.0.0.2:7".parse().unwrap(),
            size: 64,
            plan: Plan::Paced(5000.0, 0.5),
            run: 0,
            flows: 4,
            segment: true,
        };
        assert_eq!(read(line), Ok(Command::Generate(order)));
    }

    #[test]
    fn an_order_to_receive() {
        let order = Sink {
            at: "10.0.0.2:7".parse().unwrap(),
            run: 3,
            wait: 5.0,
            least: 2.0,
            quiet: 0.1,
            count: 900,
            gro: false,
        };
        let line = "sink --no-gro --run 3 --at 10.0.0.2:7 --quiet 0.1 --least 2 --count 900";
        assert_eq!(read(line), Ok(Command::Sink(order)));
    }

    #[test]
    fn what_cannot_be_followed_is_one_line() {
        for (line, reason) in [
            ("", "generate or sink?"),
            ("send", "send: generate or sink?"),
            ("sink", "--at is needed"),
            ("sink --at", "--at needs a value"),
            ("sink --at x", "--at x: not a value"),
            (
                "sink --at 10.0.0.2:7 --quiet inf",
                "--wait, --least and --quiet are seconds",
            ),
            (
                "sink --at 10.0.0.2:7 --fast",
                "--fast means nothing to sink",
            ),
            ("generate --burst 0", "0 packets"),
            ("generate --rate nan --seconds 1", "NaN packets"),
            ("generate --rate -1 --seconds -1", "above 0"),
            ("generate --rate 1e9 --seconds 1", "1000000000 packets"),
            ("generate --burst 5 --rate 1", "either --burst, or --rate"),
            (
                "generate --burst 5 --to 10.0.0.2:7 --size 55",
                "--size 55: 56 to",
            ),
            (
                "generate --burst 5 --to 10.0.0.2:7 --size 64 --flows 0",
                "--flows 0: 1 to",
            ),
        ] {
            let said = read(line).unwrap_err();
            assert!(
                said.starts_with(reason) || said.contains(reason),
                "{line}: {said}"
            );
        }
    }
}
