//! The receiver: it takes what came each millisecond, and books each packet.
//!
//! Nobody waits in the socket while packets come, so that no writer pays for waking a reader;
//! the time of arrival is the kernel's, so that the sink's own sleep is not in the latency.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::arguments::Sink;
use crate::histogram::Histogram;
use crate::packet::Mark;
use crate::sys::{self, Receiver};

/// The kernel counts a packet with its bookkeeping, about 1 KB for a small one, and doubles
/// what it is asked for: this holds 128,000 small packets, 0.1 s at the highest rates.
const RECEIVE_BUFFER: u32 = 64 << 20;
/// Between two looks: a thousandth of what the buffer holds comes in this time.
const PAUSE: Duration = Duration::from_millis(1);

/// Receive as ordered. Returns the report: one line of JSON.
pub fn run(order: &Sink) -> io::Result<String> {
    sys::sharpen_sleep()?;
    let socket = UdpSocket::bind(order.at)?;
    socket.set_nonblocking(true)?;
    sys::set_receive_buffer(&socket, RECEIVE_BUFFER)?;
    sys::set_timestamps(&socket)?;
    if order.gro {
        sys::set_gro(&socket)?;
    }
    let mut seen = Seen::new(order.run);
    let mut receiver = Receiver::new();
    // Whoever started this waits for the line before the first packet is sent.
    println!("ready");
    io::stdout().flush()?;
    let start = Instant::now();
    let (mut first, mut last) = (None, start);
    loop {
        if seen.drain(&mut receiver, &socket)? {
            last = Instant::now();
            first = first.or(Some(last));
        }
        let over = match first {
            Some(time) => {
                seen.account.counts().unique >= order.count
                    || time.elapsed().as_secs_f64() > order.least
                        && last.elapsed().as_secs_f64() > order.quiet
            }
            None => start.elapsed().as_secs_f64() > order.wait,
        };
        if over {
            return Ok(seen.report(sys::memory_of(&socket)?));
        }
        thread::sleep(PAUSE);
    }
}

/// What has come.
struct Seen {
    account: Account,
    latency: Histogram,
    /// Payload bytes of new packets.
    bytes: u64,
    /// The kernel's time of the first and the last new packet.
    first: u64,
    last: u64,
    reads: u64,
    datagrams: u64,
    /// Packets that arrived before they were sent: the clock was set back meanwhile.
    backwards: u64,
}

impl Seen {
    fn new(run: u32) -> Self {
        Self {
            account: Account::new(run),
            latency: Histogram::new(),
            bytes: 0,
            first: 0,
            last: 0,
            reads: 0,
            datagrams: 0,
            backwards: 0,
        }
    }

    /// Take all that is there; whether there was anything of this run.
    fn drain(&mut self, receiver: &mut Receiver, socket: &UdpSocket) -> io::Result<bool> {
        let before = self.account.counts().unique;
        loop {
            let count = receiver.receive(socket)?;
            if count == 0 {
                break;
            }
            self.reads += 1;
            for index in 0..count {
                let (bytes, segment, time) = receiver.datagram(index);
                self.datagrams += 1;
                for payload in bytes.chunks(segment) {
                    self.book(payload, time);
                }
            }
            if count < sys::MESSAGES {
                break;
            }
        }
        Ok(self.account.counts().unique > before)
    }

    fn book(&mut self, payload: &[u8], time: u64) {
        let mark = Mark::read(payload);
        if !self.account.book(mark) {
            return;
        }
        let sent = mark.map_or(time, |mark| mark.time);
        self.backwards += u64::from(time < sent);
        self.latency.add(time.saturating_sub(sent));
        self.bytes += payload.len() as u64;
        if self.first == 0 {
            self.first = time;
        }
        self.last = self.last.max(time);
    }

    fn report(&self, memory: sys::Memory) -> String {
        let counts = self.account.counts();
        let mut text = String::from("{");
        for (name, value) in [
            ("unique", counts.unique),
            ("missing", counts.missing),
            ("duplicates", counts.duplicates),
            ("reordered", counts.reordered),
            ("strangers", counts.strangers),
            ("bytes", self.bytes),
            ("elapsed_ns", self.last.saturating_sub(self.first)),
            ("reads", self.reads),
            ("datagrams", self.datagrams),
            ("backwards", self.backwards),
            ("buffer_bytes", u64::from(memory.buffer)),
            ("buffer_drops", u64::from(memory.drops)),
            ("latency_min_ns", self.latency.least()),
            ("latency_p50_ns", self.latency.percentile(0.50)),
            ("latency_p99_ns", self.latency.percentile(0.99)),
        ] {
            let _ = write!(text, "\"{name}\": {value}, ");
        }
        let _ = write!(text, "\"latency_max_ns\": {}}}", self.latency.most());
        text
    }
}
