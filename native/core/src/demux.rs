//! What a datagram is, told by its first bytes, before anybody looks inside.
//!
//! On one socket come WireGuard's messages, TURN's ChannelData, STUN and types of our own. They are
//! tried in this order; RFC 7983 and RFC 9443 tell protocols apart in the same way.

/// RFC 8489 section 5: type and length, 2 bytes each, the cookie, and 12 of a transaction.
const STUN_HEADER: usize = 20;
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
/// An index must not read as the cookie.
pub const STUN_COOKIE_INDEX: u32 = u32::from_le_bytes(STUN_COOKIE);

/// A ChannelData message's channel and length (RFC 8656 section 12.4).
pub const CHANNEL_HEADER: usize = 4;

/// Whether a datagram with this first byte can be ChannelData (RFC 8656 section 12).
#[inline]
pub fn is_channel(first: u8) -> bool {
    first & 0xF0 == 0x40
}

/// The channel of a ChannelData message, and what is in it (RFC 8656 section 12.4); None where it
/// says that it is longer than it is. Over UDP there may be padding.
#[inline]
pub fn channel_data(message: &[u8]) -> Option<(u16, &[u8])> {
    let (header, rest) = message.split_first_chunk::<CHANNEL_HEADER>()?;
    let [a, b, high, low] = *header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    Some((u16::from_be_bytes([a, b]), rest.get(..length)?))
}

/// The header of `size` bytes for a channel.
#[inline]
pub fn channel_header(channel: u16, size: usize) -> [u8; CHANNEL_HEADER] {
    let [a, b] = channel.to_be_bytes();
    // A message has at most 65,507 bytes.
    let [high, low] = (size as u16).to_be_bytes();
    [a, b, high, low]
}

/// Whether a datagram is a STUN message (RFC 8489 section 5).
///
/// No WireGuard message is one: after its type of 1 to 4 in four bytes the length field is zero,
/// and it has more than 20 bytes.
#[inline]
pub fn is_stun(data: &[u8]) -> bool {
    let Some((header, rest)) = data.split_first_chunk::<STUN_HEADER>() else { return false };
    let [first, _, high, low, cookie @ ..] = *header;
    first < 4
        && cookie.starts_with(&STUN_COOKIE)
        && usize::from(u16::from_be_bytes([high, low])) == rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stun(body: usize) -> Vec<u8> {
        let mut message = vec![0; STUN_HEADER + body];
        message[..2].copy_from_slice(&[1, 1]);
        message[2..4].copy_from_slice(&(body as u16).to_be_bytes());
        message[4..8].copy_from_slice(&STUN_COOKIE);
        message
    }

    #[test]
    fn a_message_as_long_as_it_says() {
        for body in [0, 12, 500] {
            let message = stun(body);
            assert!(is_stun(&message));
            assert!((0..message.len()).all(|end| !is_stun(&message[..end])));
            assert!(!is_stun(&[&message[..], &[0]].concat()));
        }
    }

    #[test]
    fn what_is_in_a_channel() {
        let mut message = channel_header(0x4001, 3).to_vec();
        message.extend(b"abc");
        assert_eq!(channel_data(&message), Some((0x4001, &b"abc"[..])));
        assert!((0..message.len()).all(|end| channel_data(&message[..end]).is_none()));
        message.push(0);
        assert_eq!(channel_data(&message), Some((0x4001, &b"abc"[..])));
    }

    #[test]
    fn nothing_else_is_one() {
        for at in 2..8 {
            let mut message = stun(12);
            message[at] ^= 1;
            assert!(!is_stun(&message));
        }
        let mut message = stun(12);
        message[0] = 4;
        assert!(!is_stun(&message));
    }

    #[test]
    fn no_message_of_wireguard_is_one() {
        for kind in 1..=4u32 {
            for size in [32, 64, 92, 148, 1200] {
                let mut message = vec![0; size];
                message[..4].copy_from_slice(&kind.to_le_bytes());
                message[4..8].copy_from_slice(&STUN_COOKIE);
                assert!(!is_stun(&message));
            }
        }
    }
}
