"""The virtio_net_hdr that a TUN with IFF_VNET_HDR puts before each packet."""

import struct

VNET_HEADER_LENGTH = 10

# flags, gso_type, hdr_len, gso_size, csum_start, csum_offset; little endian on every machine that
# this runs on, since a TUN uses the machine's own order unless told otherwise.
VNET_HEADER = struct.Struct("=BBHHHH")

FLAG_NEEDS_CSUM = 1
GSO_NONE = 0
GSO_TCPV4 = 1
GSO_TCPV6 = 4
# Set beside the type when the packet carries congestion marks (RFC 3168).
GSO_ECN = 0x80
