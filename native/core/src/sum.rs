//! The Internet checksum (RFC 1071), fast: sums of 32-bit words in 64-bit accumulators.
//!
//! A sum of 16-bit words may be taken over wider words, and in the machine's own byte order, if
//! the order is put right at the end (RFC 1071 section 2).

/// The sum of the big-endian 16-bit words of `data`, folded to at most 0xFFFF.
///
/// An odd last byte counts as the high one of its word.
#[inline]
pub fn sum(data: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if data.len() >= 128 && std::arch::is_x86_feature_detected!("avx2") {
        return wide::sum(data);
    }
    plain(data)
}

#[inline(always)]
fn plain(data: &[u8]) -> u64 {
    let mut lanes = [0u64; 8];
    let blocks = data.chunks_exact(32);
    let rest = blocks.remainder();
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(4)) {
            *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
    }
    let mut total: u64 = lanes.iter().sum();
    let pairs = rest.chunks_exact(2);
    let odd = pairs.remainder();
    for pair in pairs {
        total += u64::from(u16::from_ne_bytes([pair[0], pair[1]]));
    }
    if let [last] = odd {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    u64::from(u16::from_be_bytes(fold(total).to_ne_bytes()))
}

#[inline]
fn fold(mut total: u64) -> u16 {
    total = (total >> 32) + (total & 0xFFFF_FFFF);
    total = (total >> 32) + (total & 0xFFFF_FFFF);
    total = (total >> 16) + (total & 0xFFFF);
    total = (total >> 16) + (total & 0xFFFF);
    ((total >> 16) + (total & 0xFFFF)) as u16
}

/// The same loop, compiled for AVX2, and the crate's only unsafe code.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod wide {
    #[target_feature(enable = "avx2")]
    unsafe fn sum_avx2(data: &[u8]) -> u64 {
        super::plain(data)
    }

    #[inline]
    pub fn sum(data: &[u8]) -> u64 {
        // SAFETY: the only caller has asked the processor for AVX2.
        unsafe { sum_avx2(data) }
    }
}

/// The checksum for a sum of words that are not all zero: 0 to 0xFFFE.
///
/// Ones' complement has two zeros; a sum of words is the one that is written 0xFFFF.
#[inline]
pub fn checksum(total: u64) -> u16 {
    match total % 0xFFFF {
        0 => 0,
        rest => 0xFFFF - rest as u16,
    }
}

/// Whether data with its checksum inside, whose words sum up to `total`, is whole.
#[inline]
pub fn is_whole(total: u64) -> bool {
    total % 0xFFFF == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_words(data: &[u8]) -> u64 {
        let words = data
            .chunks(2)
            .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)));
        words.sum()
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(data in prop::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(sum(&data) % 0xFFFF, by_words(&data) % 0xFFFF);
            prop_assert_eq!(plain(&data), sum(&data));
            prop_assert_eq!(sum(&data) == 0, by_words(&data) == 0);
        }
    }

    #[test]
    fn carries_are_not_lost() {
        let data = vec![0xFF; 65_535];
        assert_eq!(sum(&data) % 0xFFFF, by_words(&data) % 0xFFFF);
    }
}
