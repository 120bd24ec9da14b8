"""Captures of a link in a namespace, and what tshark reads in them.

with Capture(net.left, "veth0") as capture:
    ...
packets = dissect(capture.save(path))
"""

import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.netns import Namespace
from tests.support.requirements import program

# linux/if_ether.h: every protocol.
ETH_P_ALL = 0x0003
# A test looks at thousands of packets at most; this holds a mistake to 150 MB.
MAX_FRAMES = 100_000
SNAP_LENGTH = 65_535
LINKTYPE_ETHERNET = 1
# asm-generic/socket.h: a buffer over net.core.rmem_max. Some 10,000 full frames with what the
# kernel counts beside them, where the longest transfer of a capture is of a tenth.
SO_RCVBUFFORCE = 33
RECEIVE_BUFFER = 32 << 20

# tshark -T fields separates with TAB; of a field that occurs twice it gives both.
FIELDS = (
    "frame.number",
    "wg.type",
    "wg.counter",
    "wg.keepalive",
    "wg.handshake_ok",
    "icmp.type",
    "icmpv6.type",
    "_ws.malformed",
    "_ws.expert.message",
    "wg.bad_packet_length",
    "wg.decryption_error",
)


class Capture:
    """The frames of one link, both directions, from `with` to its end."""

    def __init__(self, namespace: Namespace, link: str) -> None:
        self.frames: list[tuple[float, bytes]] = []
        self.overflow = False
        namespace.disable_offloads(link)
        self._socket = namespace.inside(lambda: _packet_socket(link))
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._take, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join()
        self._socket.close()

    def _take(self) -> None:
        """Take frames until the end, and then what the socket still holds."""
        while True:
            try:
                frame = self._socket.recv(SNAP_LENGTH)
            except TimeoutError:
                if self._ending.is_set():
                    return
                continue
            if len(self.frames) == MAX_FRAMES:
                self.overflow = True
                return
            self.frames.append((time.time(), frame))

    def save(self, path: Path) -> Path:
        """Write the frames as a pcap file and return its path."""
        assert not self.overflow, f"more than {MAX_FRAMES} frames were captured"
        return write_pcap(path, self.frames)


def _packet_socket(link: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    # What comes while another program has the processor waits here, and is not lost.
    made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    made.bind((link, ETH_P_ALL))
    # How long the end of a capture waits for the last frame.
    made.settimeout(0.1)
    return made


def write_pcap(path: Path, frames: Iterable[tuple[float, bytes]]) -> Path:
    """Write (Unix time, Ethernet frame) pairs in the classic pcap format; returns the path."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, SNAP_LENGTH, LINKTYPE_ETHERNET))
        for when, frame in frames:
            seconds, fraction = divmod(when, 1)
            length = len(frame)
            file.write(struct.pack("<IIII", int(seconds), int(fraction * 1e6), length, length))
            file.write(frame)
    return path


def udp_frame(source: tuple[str, int], target: tuple[str, int], payload: bytes) -> bytes:
    """An Ethernet frame with a UDP datagram over IPv4, for captures made by hand.

    The UDP checksum is absent (0), which IPv4 allows; the IPv4 one is right.
    """
    udp = struct.pack(">HHHH", source[1], target[1], 8 + len(payload), 0) + payload
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
    # Version and header length, TOS, length, id, fragment, TTL, protocol 17, checksum.
    start = struct.pack(">BBHHHBB", 0x45, 0, 20 + len(udp), 0, 0, 64, 17)
    total = sum(struct.unpack(">9H", start + addresses))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF)
    return bytes(12) + b"\x08\x00" + start + checksum + addresses + udp


def dissect(
    capture: Path, keylog: Path | None = None, *, port: int = 51820, only: str = "wg"
) -> list[dict[str, str]]:
    """What tshark reads: FIELDS of every packet that the display filter `only` takes.

    A field that a packet has not got is empty; of one that it has twice, inner and outer, both
    are there, with a comma between. `keylog` is a key log for the WireGuard dissector.
    """
    command = [program("tshark"), "-n", "-r", str(capture), "-Y", only, "-T", "fields"]
    # Both passes: an answer to a packet is linked only in the second.
    command += ["-2", "-d", f"udp.port=={port},wg"]
    if keylog is not None:
        command += ["-o", f"wg.keylog_file:{keylog}"]
    for name in FIELDS:
        command += ["-e", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"tshark failed: {done.stderr.strip()}"
    return [dict(zip(FIELDS, line.split("\t"), strict=True)) for line in done.stdout.splitlines()]


def complaints(packets: Iterable[dict[str, str]], *, decrypted: bool = False) -> list[str]:
    """What the dissector found wrong: malformed packets, expert messages, wrong lengths.

    Of a `decrypted` capture expert messages are not asked for: they would be those of the inner
    packets as well (a ping without an answer); that decryption failed is, in their place.
    """
    names = ["_ws.malformed", "wg.bad_packet_length"]
    names.append("wg.decryption_error" if decrypted else "_ws.expert.message")
    return [
        f"packet {packet['frame.number']}: {name} {packet[name]}"
        for packet in packets
        for name in names
        if packet[name]
    ]
