"""Control datagrams with a right mac1 from made-up IPv4 addresses, at a steady rate.

    python -m tests.support.flood PUBLIC_KEY TARGET PORT RATE SECONDS

Each is of type 0x10, 1,200 bytes long, with random bytes where a sender has its ephemeral key: what
whoever knows the public key can make. It needs a raw socket, and belongs inside a namespace of a
test's own. It prints how many it sent, and how many of them a full socket did not take.
"""

import os
import random
import socket
import struct
import sys
import time

from wgpy.keys import PublicKey
from wgpy.protocol.cookie import mac1_key
from wgpy.protocol.hashes import mac

TYPE = 0x10
LENGTH = 1200
# Made before the clock starts, and sent round and round: to the receiver each is new work.
DIFFERENT = 4096
# One burst each two milliseconds: at 10,000 a second it is 20, less than a receive buffer's worth.
STEP = 0.002


def datagram(key: bytes, *, mac2: bytes = bytes(16)) -> bytes:
    """One whose mac1 is right under the filter's key, and nothing else."""
    body = struct.pack("<I", TYPE) + os.urandom(LENGTH - 36)
    return body + mac(key, body) + mac2


def packet(payload: bytes, target: str, port: int) -> bytes:
    """A whole IPv4 packet from somewhere in 10.128.0.0/9; the kernel fills in its checksum."""
    source = (0x0A800000 | random.getrandbits(23)).to_bytes(4, "big")
    udp = struct.pack("!HHHH", random.randint(1024, 65535), port, 8 + len(payload), 0)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(payload), 0, 0, 64, socket.IPPROTO_UDP, 0)
    return head + source + socket.inet_aton(target) + udp + payload


def flood(key: bytes, target: str, port: int, rate: float, seconds: float) -> tuple[int, int]:
    """Send for so long. How many went out, and how many did not."""
    packets = [packet(datagram(key, mac2=os.urandom(16)), target, port) for _ in range(DIFFERENT)]
    sent = refused = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.setblocking(False)
        begin = time.monotonic()
        while (passed := time.monotonic() - begin) < seconds:
            while sent + refused < passed * rate:
                try:
                    raw.sendto(packets[sent % DIFFERENT], (target, 0))
                    sent += 1
                except BlockingIOError:
                    refused += 1
            time.sleep(STEP)
    return sent, refused


if __name__ == "__main__":
    public, where, number, per_second, duration = sys.argv[1:]
    counts = flood(
        mac1_key(PublicKey.from_base64(public)),
        where,
        int(number),
        float(per_second),
        float(duration),
    )
    print(*counts)
