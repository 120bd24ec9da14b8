//! The sender: numbered and stamped packets, in batches, by the pacer's clock.

use std::fmt::Write as _;
use std::io;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use crate::arguments::{Generate, Plan};
use crate::pacer::Pacer;
use crate::packet::{now, Mark, MAX_PAYLOAD, OVERHEAD};
use crate::sys;

/// Packets in one system call. The kernel takes no more segments in one UDP_SEGMENT send
/// (UDP_MAX_SEGMENTS of linux/udp.h, before it was doubled).
const BATCH: usize = 64;
/// Room for what is on its way to the device, so that the queue that is measured is the tunnel's.
const SEND_BUFFER: u32 = 64 << 20;
/// A paced run ends after its packets, or when it is late by this share of its time: such a
/// sender is slower than what it was asked for, and says so.
const OVERTIME: f64 = 0.1;

/// Send as ordered. Returns the report: one line of JSON.
pub fn run(order: &Generate) -> io::Result<String> {
    sys::sharpen_sleep()?;
    let mut sender = Sender::open(order)?;
    // A tester with hardware of its own sends at its rate however busy the tunnel is. This one
    // shares the processors with the tunnel, and goes first: it takes what its packets cost.
    let urgent = sys::become_urgent();
    let start = Instant::now();
    match order.plan {
        Plan::Burst(count) => sender.send(count)?,
        Plan::Paced(rate, seconds) => paced(&mut sender, rate, seconds, start)?,
    }
    let elapsed = start.elapsed().as_nanos() as u64;
    let mut report = String::new();
    let _ = write!(
        report,
        "{{\"sent\": {}, \"refused\": {}, \"elapsed_ns\": {elapsed}, \"calls\": {}, \"urgent\": {}}}",
        sender.sent,
        sender.refused,
        sender.calls,
        u8::from(urgent)
    );
    Ok(report)
}

fn paced(sender: &mut Sender, rate: f64, seconds: f64, start: Instant) -> io::Result<()> {
    let pacer = Pacer::new(rate);
    let total = (rate * seconds).round().max(1.0) as u64;
    let end = (seconds * (1.0 + OVERTIME) * 1e9) as u64;
    loop {
        let elapsed = start.elapsed().as_nanos() as u64;
        let left = total - sender.sent;
        if left == 0 || elapsed > end {
            return Ok(());
        }
        sender.send(pacer.due(elapsed, sender.sent).min(left))?;
        let next = Duration::from_nanos(pacer.next_tick(elapsed, sender.sent));
        // A batch that took longer than the tick is followed by the next one at once.
        if let Some(rest) = next.checked_sub(start.elapsed()) {
            if sender.sent < total {
                thread::sleep(rest);
            }
        }
    }
}

/// The sockets, one a flow, and one batch of payloads side by side.
struct Sender {
    sockets: Vec<UdpSocket>,
    numbers: Vec<u64>,
    turn: usize,
    payloads: Vec<u8>,
    length: usize,
    batch: usize,
    segment: bool,
    run: u32,
    /// Packets that were numbered, the refused ones included.
    sent: u64,
    refused: u64,
    calls: u64,
}

impl Sender {
    fn open(order: &Generate) -> io::Result<Self> {
        let length = order.size - OVERHEAD;
        let mut sockets = Vec::new();
        for _ in 0..order.flows {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(order.to)?;
            sys::set_send_buffer(&socket, SEND_BUFFER)?;
            if order.segment {
                // 16 bits hold every payload that the arguments let through.
                sys::set_segment(&socket, length as u32)?;
            }
            sockets.push(socket);
        }
        let most = if order.segment {
            MAX_PAYLOAD / length
        } else {
            BATCH
        };
        let batch = BATCH.min(most);
        Ok(Self {
            numbers: vec![0; sockets.len()],
            sockets,
            turn: 0,
            payloads: vec![0; batch * length],
            length,
            batch,
            segment: order.segment,
            run: order.run,
            sent: 0,
            refused: 0,
            calls: 0,
        })
    }

    /// Send so many packets at once; the flows take turns, a system call each.
    fn send(&mut self, count: u64) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            let size = left.min(self.batch as u64) as usize;
            self.send_batch(size)?;
            left -= size as u64;
        }
        Ok(())
    }

    fn send_batch(&mut self, count: usize) -> io::Result<()> {
        let flow = self.turn;
        self.turn = (self.turn + 1) % self.sockets.len();
        // One stamp for the batch: all of it goes into the same system call.
        let time = now();
        for payload in self.payloads.chunks_exact_mut(self.length).take(count) {
            Mark {
                run: self.run,
                flow: flow as u32,
                number: self.numbers[flow],
                time,
            }
            .write(payload);
            self.numbers[flow] += 1;
        }
        self.sent += count as u64;
        let socket = &self.sockets[flow];
        let mut rest = &self.payloads[..count * self.length];
        while !rest.is_empty() {
            self.calls += 1;
            let done = if self.segment {
                socket.send(rest).map(|_| rest.len() / self.length)
            } else {
                sys::send_each(socket, rest, self.length)
            };
            let taken = match done {
                Ok(taken) => taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if is_refusal(&error) => {
                    let first = if self.segment {
                        rest.len() / self.length
                    } else {
                        1
                    };
                    self.refused += first as u64;
                    first
                }
                Err(error) => return Err(error),
            };
            rest = &rest[taken * self.length..];
        }
        Ok(())
    }
}

/// Whether the packet was not taken while the next one may be: a full queue, or the answer to
/// an earlier packet that nobody listens.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOBUFS | libc::ECONNREFUSED)
    )
}
