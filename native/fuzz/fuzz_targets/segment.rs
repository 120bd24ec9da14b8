//! Any TUN read at all: it is refused, or becomes packets that add up to it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wgpy_core::segment::{finish_checksum, Segments};
use wgpy_core::vnet::{self, Vnet};

fuzz_target!(|data: &[u8]| {
    let Some((head, packet)) = data.split_first_chunk::<{ vnet::LENGTH }>() else { return };
    let vnet = Vnet::read(head);
    let _ = finish_checksum(&mut packet.to_vec(), &vnet);
    let Ok(mut segments) = Segments::new(packet, &vnet, true) else { return };
    let mut out = vec![0; packet.len()];
    let (mut total, mut count) = (0, 0);
    while let Some(length) = segments.next_length() {
        assert!(length <= packet.len());
        segments.write(packet, &mut out[..length]);
        total += length;
        count += 1;
    }
    // Each has the headers, which are shorter than the packet, and the payload is there once.
    let more = total - packet.len();
    assert!(if count == 1 { more == 0 } else { more % (count - 1) == 0 });
});
