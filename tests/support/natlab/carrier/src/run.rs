//! The loop: take frames with the time of their arrival, and send on those that are due.

use std::io;
use std::os::fd::OwnedFd;

use crate::flight::Flight;
use crate::frame::{is_longer, kind, pass_routers, Kind};
use crate::line::Way;
use crate::orders::{parse_order, show, Command, Order};
use crate::sys::{self, Receiver, Waiting};

/// Batches taken from one end before those that are due have their turn: 512 frames, some 0.5 ms.
const BATCHES: usize = 8;
/// An arrival that seems to be longer ago was stamped before the clock was set.
const MOST_LATE: u64 = 1_000_000_000;

/// Everything that a carrier has.
struct Carrier {
    control: OwnedFd,
    ends: [OwnedFd; 2],
    ways: [Way; 2],
    flight: Flight,
    receiver: Receiver,
}

/// Carry until the control socket ends. The error is one line.
pub fn run(command: &Command) -> Result<(), String> {
    let mut carrier = Carrier {
        control: sys::take_over(command.control),
        ends: command.ends.map(sys::take_over),
        // Not the same dice for both ways.
        ways: [command.seed, !command.seed].map(Way::new),
        flight: Flight::default(),
        receiver: Receiver::new(),
    };
    for end in &carrier.ends {
        sys::prepare(end).map_err(|error| format!("a packet socket: {error}"))?;
    }
    carrier.carry().map_err(|error| error.to_string())
}

impl Carrier {
    fn carry(&mut self) -> io::Result<()> {
        loop {
            let timeout = self.flight.next().map(|due| due.saturating_sub(sys::now()));
            let ready = sys::wait([&self.ends[0], &self.ends[1], &self.control], timeout)?;
            if ready[2] && !self.obey()? {
                return Ok(());
            }
            for (origin, _) in ready[..2].iter().enumerate().filter(|(_, ready)| **ready) {
                self.take(origin)?;
            }
            self.deliver()?;
        }
    }

    /// Follow one order; false if nobody is there to give one any more.
    fn obey(&mut self) -> io::Result<bool> {
        let Waiting::Message(text) = sys::receive_order(&self.control)? else {
            return Ok(false);
        };
        let answer = match parse_order(&text) {
            Ok(Order::Line(way, line)) => {
                self.ways[way].line = line;
                "ok".into()
            }
            Ok(Order::Counts(way)) => show(&self.ways[way].counts),
            Err(reason) => reason,
        };
        sys::answer(&self.control, &answer)
    }

    /// Take what came in at an end.
    fn take(&mut self, origin: usize) -> io::Result<()> {
        for _ in 0..BATCHES {
            let count = self.receiver.receive(&self.ends[origin])?;
            let (now, wall) = (sys::now(), sys::wall());
            for index in 0..count {
                let (bytes, stamp) = self.receiver.frame(index);
                let arrival = now - wall.saturating_sub(stamp).min(MOST_LATE).min(now);
                let way = &mut self.ways[origin];
                let kind = kind(bytes);
                if kind == Kind::Local {
                    // It says who is at the other end of the cable, of which the line knows nothing.
                    depart(way, &mut self.flight, arrival, origin, bytes);
                    continue;
                }
                if is_longer(bytes, way.line.mtu) {
                    way.counts.oversize += 1;
                    continue;
                }
                if !pass_routers(bytes, kind, way.line.hops) {
                    way.counts.expired += 1;
                    continue;
                }
                let (due, again) = way.schedule(arrival, bytes.len());
                for due in [due, again].into_iter().flatten() {
                    depart(way, &mut self.flight, due, origin, bytes);
                }
            }
            if count < sys::MESSAGES {
                break;
            }
        }
        Ok(())
    }

    /// Send on what is due, in as few calls as there are changes of direction.
    fn deliver(&mut self) -> io::Result<()> {
        let now = sys::now();
        let mut batch: Vec<Vec<u8>> = Vec::new();
        let mut from = 0;
        loop {
            let landed = self.flight.land(now);
            let changes = landed.as_ref().is_some_and(|(origin, _)| *origin != from);
            if landed.is_none() || changes || batch.len() == sys::MESSAGES {
                let sent = sys::send_each(&self.ends[1 - from], &batch)? as u64;
                let counts = &mut self.ways[from].counts;
                counts.carried += sent;
                counts.overflow += batch.len() as u64 - sent;
                batch.clear();
            }
            let Some((origin, bytes)) = landed else {
                return Ok(());
            };
            from = origin;
            batch.push(bytes);
        }
    }
}

/// Let it fly, or count that it cannot.
fn depart(way: &mut Way, flight: &mut Flight, due: u64, origin: usize, bytes: &[u8]) {
    if !flight.depart(due, origin, bytes) {
        way.counts.overflow += 1;
    }
}
