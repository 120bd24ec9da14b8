//! One key pair at work: sealing and opening transport messages in place (whitepaper 5.4.6).
//!
//! A message lies in its buffer as [16 header][packet][padding][16 tag].

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey, CHACHA20_POLY1305};
use zeroize::Zeroizing;

use crate::constants::{
    HEADER, PADDING, REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES, TAG, TYPE_TRANSPORT,
};
use crate::replay::Window;

/// A key pair to install, as `contract.NewKeyPair` has it.
///
/// The keys, 32 bytes each, lie on the heap: moving an array would leave copies behind.
pub struct NewKeyPair {
    /// Seals what we send.
    pub send_key: Zeroizing<Vec<u8>>,
    /// Opens what we receive.
    pub receive_key: Zeroizing<Vec<u8>>,
    /// Our index, by which the peer addresses us.
    pub local_index: u32,
    /// The peer's.
    pub remote_index: u32,
    /// From this time on it is neither sealed nor opened with.
    pub reject_after: f64,
    /// The first packet sealed from this time on asks for a new key.
    pub notify_send_after: f64,
    /// The first packet opened from this time on asks for a new key.
    pub notify_receive_after: f64,
}

/// A key pair, its send counter and its replay window.
///
/// The keys live in contexts that AWS-LC allocates, and wipes when it frees them.
pub struct Session {
    seal: LessSafeKey,
    open: LessSafeKey,
    /// Our index.
    pub local_index: u32,
    remote_index: u32,
    /// The counter of the next message.
    pub counter: u64,
    /// See `NewKeyPair`.
    pub reject_after: f64,
    /// See `NewKeyPair`; infinite once it was said.
    pub notify_send_after: f64,
    /// See `NewKeyPair`; infinite once it was said.
    pub notify_receive_after: f64,
    /// What was received.
    pub window: Window,
}

fn cipher(key: &[u8]) -> LessSafeKey {
    // It refuses keys of another length only.
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("a key of 32 bytes"))
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

impl Session {
    /// Take a key pair over.
    pub fn new(pair: NewKeyPair) -> Self {
        Session {
            seal: cipher(&pair.send_key),
            open: cipher(&pair.receive_key),
            local_index: pair.local_index,
            remote_index: pair.remote_index,
            counter: 0,
            reject_after: pair.reject_after,
            notify_send_after: pair.notify_send_after,
            notify_receive_after: pair.notify_receive_after,
            window: Window::default(),
        }
    }

    /// Whether the key is young enough and has a counter left.
    #[inline]
    pub fn can_seal(&self, now: f64) -> bool {
        now < self.reject_after && self.counter < REJECT_AFTER_MESSAGES
    }

    /// Whether the initiator's time, or the number of messages, asks for a new key.
    #[inline]
    pub fn wants_rekey(&self, now: f64) -> bool {
        now >= self.notify_send_after || self.counter >= REKEY_AFTER_MESSAGES
    }

    /// Pad and seal the packet of `length` bytes at `buffer[HEADER..]`; the message's length.
    ///
    /// The buffer has room for the padding and the tag behind it.
    #[inline]
    pub fn seal(&mut self, buffer: &mut [u8], length: usize, mtu: usize) -> usize {
        let end = HEADER + length + padding(length, mtu);
        buffer[HEADER + length..end].fill(0);
        let (head, rest) = buffer.split_at_mut(HEADER);
        head[..4].copy_from_slice(&TYPE_TRANSPORT.to_le_bytes());
        head[4..8].copy_from_slice(&self.remote_index.to_le_bytes());
        head[8..].copy_from_slice(&self.counter.to_le_bytes());
        let (plain, rest) = rest.split_at_mut(end - HEADER);
        // It refuses messages of 256 GiB and more only.
        let tag = self
            .seal
            .seal_in_place_separate_tag(nonce(self.counter), Aad::empty(), plain)
            .expect("a message of at most 64 KiB");
        rest[..TAG].copy_from_slice(tag.as_ref());
        self.counter += 1;
        end + TAG
    }

    /// Open `message` in place. Where authentication fails its contents are wiped, for the cipher
    /// may have left unauthenticated plaintext there.
    #[inline]
    pub fn open(&self, message: &mut [u8], counter: u64) -> bool {
        let sealed = &mut message[HEADER..];
        if self.open.open_in_place(nonce(counter), Aad::empty(), sealed).is_ok() {
            return true;
        }
        let plain = sealed.len() - TAG;
        sealed[..plain].fill(0);
        false
    }
}

/// Zero bytes to add to a packet: up to a multiple of 16, but not beyond the MTU.
#[inline]
pub fn padding(length: usize, mtu: usize) -> usize {
    // A packet may outgrow an MTU that was lowered meanwhile: pad its last part as the kernel.
    let length = if length > mtu { length % mtu } else { length };
    length.next_multiple_of(PADDING).min(mtu) - length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> NewKeyPair {
        NewKeyPair {
            send_key: Zeroizing::new(vec![7; 32]),
            receive_key: Zeroizing::new(vec![7; 32]),
            local_index: 1,
            remote_index: 0x0403_0201,
            reject_after: 180.0,
            notify_send_after: f64::INFINITY,
            notify_receive_after: f64::INFINITY,
        }
    }

    #[test]
    fn what_is_sealed_opens_and_nothing_else_does() {
        let mut session = Session::new(pair());
        let mut buffer = [0xAA; 200];
        buffer[16..116].fill(9);
        let size = session.seal(&mut buffer, 100, 1420);
        assert_eq!(size, 16 + 112 + 16);
        assert_eq!(buffer[..16], [4, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(buffer[size..].iter().all(|&byte| byte == 0xAA));
        let mut copy = buffer;
        assert!(session.open(&mut copy[..size], 0));
        assert!(copy[16..116].iter().all(|&byte| byte == 9));
        assert!(copy[116..128].iter().all(|&byte| byte == 0));
        copy = buffer;
        assert!(!session.open(&mut copy[..size], 1));
        buffer[20] ^= 1;
        assert!(!session.open(&mut buffer[..size], 0));
        assert!(buffer[16..128].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn padding_ends_at_the_mtu() {
        assert_eq!(padding(0, 1420), 0);
        assert_eq!(padding(1, 1420), 15);
        assert_eq!(padding(1410, 1420), 10);
        assert_eq!(padding(1420, 1420), 0);
        assert_eq!(padding(1421, 1420), 15);
    }

    #[test]
    fn the_last_counters_are_never_used() {
        let mut session = Session::new(pair());
        session.counter = REJECT_AFTER_MESSAGES - 1;
        assert!(session.can_seal(0.0) && session.wants_rekey(0.0));
        session.seal(&mut [0; 64], 0, 1420);
        assert!(!session.can_seal(0.0));
    }
}
