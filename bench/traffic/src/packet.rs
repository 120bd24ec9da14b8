//! What a packet carries: whose run and flow it is of, its number, and when it was sent.

use std::time::{SystemTime, UNIX_EPOCH};

/// IPv4 and UDP headers, in bytes: a size on the command line is that of the whole IP packet.
pub const OVERHEAD: usize = 28;
/// Bytes of payload that the mark takes: magic, run, flow (4 each), number, time (8 each).
pub const MARK: usize = 28;
/// The smallest packet that holds a mark.
pub const MIN_SIZE: usize = OVERHEAD + MARK;
// The smallest packet of RFC 2544's that the measures send.
const _: () = assert!(MIN_SIZE <= 64);
/// The largest UDP payload over IPv4: 65,535 bytes less the headers.
pub const MAX_PAYLOAD: usize = 65_535 - OVERHEAD;

const MAGIC: [u8; 4] = *b"wgtr";

/// The mark of one packet. All numbers are big-endian on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Tells a late packet of an earlier run from one of this run.
    pub run: u32,
    /// Which of the sender's sockets it came from.
    pub flow: u32,
    /// Its number in the flow, from 0.
    pub number: u64,
    /// When it was given to the kernel: nanoseconds of the real-time clock.
    pub time: u64,
}

impl Mark {
    /// Write the mark to the start of a payload of at least `MARK` bytes.
    pub fn write(&self, payload: &mut [u8]) {
        payload[..4].copy_from_slice(&MAGIC);
        payload[4..8].copy_from_slice(&self.run.to_be_bytes());
        payload[8..12].copy_from_slice(&self.flow.to_be_bytes());
        payload[12..20].copy_from_slice(&self.number.to_be_bytes());
        payload[20..28].copy_from_slice(&self.time.to_be_bytes());
    }

    /// Read the mark of a payload; `None` if it has none.
    pub fn read(payload: &[u8]) -> Option<Self> {
        if payload.len() < MARK || payload[..4] != MAGIC {
            return None;
        }
        let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_be_bytes(payload[at..at + 8].try_into().unwrap());
        Some(Self {
            run: word(4),
            flow: word(8),
            number: long(12),
            time: long(20),
        })
    }
}

/// Nanoseconds of the real-time clock: the one by which the kernel stamps arrivals.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // 64 bits of nanoseconds last until the year 2554; a clock before 1970 reads as 0.
    since.map_or(0, |time| time.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKED: Mark = Mark {
        run: 7,
        flow: 3,
        number: 1 << 40,
        time: u64::MAX,
    };

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mut payload = [0xaa; MARK + 5];
        MARKED.write(&mut payload);
        assert_eq!(Mark::read(&payload), Some(MARKED));
        assert_eq!(payload[MARK..], [0xaa; 5]);
    }

    #[test]
    fn what_has_no_mark_is_refused() {
        let mut payload = [0; MARK];
        MARKED.write(&mut payload);
        assert_eq!(Mark::read(&payload[..MARK - 1]), None);
        payload[0] ^= 1;
        assert_eq!(Mark::read(&payload), None);
        assert_eq!(Mark::read(&[]), None);
    }
}
