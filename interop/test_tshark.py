"""tshark's WireGuard dissector reads wgpy's traffic, and decrypts it with wgpy's key log."""

import base64
import struct
from pathlib import Path

import pytest

from interop.checks import OURS, ours
from tests.support import whitepaper
from tests.support.capture import Capture, complaints, dissect, udp_frame, write_pcap
from tests.support.netns import Pair
from tests.support.programs import WGPY, WIREGUARD_GO
from tests.support.tunnel import transfer, tunnel

pytestmark = [pytest.mark.tool("tshark")]

LEFT = ("10.91.0.1", 51820)
RIGHT = ("10.91.0.2", 51820)
# Private keys, a pre-shared key and ephemeral keys of a session that never was.
LEFT_STATIC, RIGHT_STATIC = bytes([1]) * 32, bytes([2]) * 32
LEFT_EPHEMERAL, RIGHT_EPHEMERAL = bytes([3]) * 32, bytes([4]) * 32
PSK = bytes([5]) * 32
# TAI64N: the label of 1970 (2^62) and a second of 2020; twelve bytes.
TIMESTAMP = struct.pack(">QI", (1 << 62) + 1_600_000_000, 0)
# An ICMP echo request, 28 bytes, padded to 32.
ECHO = (
    struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 1, 0, b"\x0a\x4d\0\1", b"\x0a\x4d\0\2")
    + struct.pack(">BBHHH", 8, 0, 0xF7FD, 1, 1)
    + bytes(4)
)


def _line(name: str, key: bytes) -> str:
    return f"{name} = {base64.b64encode(key).decode()}\n"


def _log_of(side: str) -> str:
    """A key log by either side, as the dissector takes it: a pre-shared key belongs to the
    ephemeral key on the line before it, and counts for nothing in any other place."""
    static, remote, ephemeral = (
        (LEFT_STATIC, RIGHT_STATIC, LEFT_EPHEMERAL)
        if side == "initiator"
        else (RIGHT_STATIC, LEFT_STATIC, RIGHT_EPHEMERAL)
    )
    return (
        _line("LOCAL_STATIC_PRIVATE_KEY", static)
        + _line("REMOTE_STATIC_PUBLIC_KEY", whitepaper.dh_public(remote))
        + _line("LOCAL_EPHEMERAL_PRIVATE_KEY", ephemeral)
        + _line("PRESHARED_KEY", PSK)
    )


@pytest.fixture
def handmade(tmp_path: Path) -> Path:
    """A capture of one handshake and one echo request, by the whitepaper alone."""
    right_public = whitepaper.dh_public(RIGHT_STATIC)
    initiation, _ = whitepaper.make_initiation(
        LEFT_STATIC, right_public, LEFT_EPHEMERAL, 17, TIMESTAMP
    )
    left_public, _, state = whitepaper.read_initiation(RIGHT_STATIC, initiation)
    response, _, receive = whitepaper.make_response(
        state, initiation, left_public, RIGHT_EPHEMERAL, 18, PSK
    )
    data = struct.pack("<IIQ", 4, 18, 0) + whitepaper.aead(receive, 0, ECHO, b"")
    frames = [
        (1.0, udp_frame(LEFT, RIGHT, initiation)),
        (1.1, udp_frame(RIGHT, LEFT, response)),
        (1.2, udp_frame(LEFT, RIGHT, data)),
    ]
    return write_pcap(tmp_path / "handmade.pcap", frames)


@pytest.mark.parametrize("side", ["initiator", "responder"])
def test_key_log_format(handmade: Path, tmp_path: Path, side: str) -> None:
    """The format and order of lines that the dissector takes, from a session made by hand."""
    keylog = tmp_path / "keys"
    keylog.write_text(_log_of(side))
    packets = dissect(handmade, keylog)
    assert [packet["wg.type"] for packet in packets] == ["1", "2", "4"]
    assert complaints(packets, decrypted=True) == []
    assert packets[1]["wg.handshake_ok"] == "1"
    assert packets[2]["icmp.type"] == "8"


def test_key_log_with_psk_first(handmade: Path, tmp_path: Path) -> None:
    """A pre-shared key before its ephemeral key is not used: the order is part of the format."""
    keylog = tmp_path / "keys"
    static, remote, ephemeral, psk = _log_of("initiator").splitlines(keepends=True)
    keylog.write_text(static + remote + psk + ephemeral)
    packets = dissect(handmade, keylog)
    assert packets[1]["wg.handshake_ok"] == "0"
    assert packets[2]["icmp.type"] == ""


def test_without_keys_nothing_is_read(handmade: Path) -> None:
    """The same capture without a key log: three well-formed messages, and no inner packet."""
    packets = dissect(handmade)
    assert [packet["wg.type"] for packet in packets] == ["1", "2", "4"]
    assert complaints(packets) == []
    assert packets[2]["icmp.type"] == ""


@pytest.mark.root
@pytest.mark.tool("wg")
@pytest.mark.tool("wireguard-go")
@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
def test_every_packet_is_well_formed(net: Pair, tmp_path: Path, family: int) -> None:
    """Handshakes by both sides, pings, keepalives and TCP: the dissector complains of nothing."""
    with Capture(net.left, net.left.link) as capture:
        # Frames of full size from the other side, too, come as they go over a wire.
        net.right.disable_offloads(net.right.link)
        with tunnel(net, ours(), WIREGUARD_GO, psk=True, family=family) as made:
            made.ping_both_ways()
            made.right.restart_sessions()
            net.right.ping(made.left.address)
            transfer(net.left, net.right, made.right.address, 500_000)
            transfer(net.right, net.left, made.left.address6, 500_000)
    packets = dissect(capture.save(tmp_path / "capture.pcap"), only="udp")
    assert complaints(packets) == []
    kinds = [packet["wg.type"] for packet in packets]
    assert set(kinds) == {"1", "2", "4"}, "all UDP on this wire is WireGuard's"
    assert kinds.count("1") == kinds.count("2") >= 2
    assert kinds.count("4") > 700


@pytest.mark.root
@pytest.mark.tool("wg")
@pytest.mark.tool("wireguard-go")
@pytest.mark.skipif(OURS is not WGPY, reason="only wgpy writes a key log")
@pytest.mark.parametrize("initiator", ["ours", "theirs"])
@pytest.mark.parametrize("psk", [False, True], ids=["no-psk", "psk"])
def test_decrypts_with_our_key_log(net: Pair, tmp_path: Path, initiator: str, psk: bool) -> None:
    """With `wgpyd --keylog FILE` the dissector reads the pings inside, over two sessions."""
    keylog = tmp_path / "keys"
    first = initiator == "ours"
    with (
        Capture(net.left, net.left.link) as capture,
        tunnel(
            net,
            ours(),
            WIREGUARD_GO,
            psk=psk,
            endpoints=(first, not first),
            left_options=("--keylog", str(keylog)),
        ) as made,
    ):
        here, there = (made.left, made.right) if first else (made.right, made.left)
        for _ in range(2):
            here.namespace.ping(there.address, 2)
            made.ping_both_ways(1)
            here.restart_sessions()
    assert keylog.stat().st_mode & 0o777 == 0o600
    packets = dissect(capture.save(tmp_path / "capture.pcap"), keylog)
    assert complaints(packets, decrypted=True) == []
    responses = [packet for packet in packets if packet["wg.type"] == "2"]
    assert len(responses) == 2
    assert all(packet["wg.handshake_ok"] == "1" for packet in responses)
    data = [packet for packet in packets if packet["wg.type"] == "4"]
    # Each round: three echo requests over IPv4 with their answers, two over IPv6 (128, 129).
    # ping sends one more where the first answer waited for the handshake.
    for name, request, answer, least in (("icmp", "8", "0", 8), ("icmpv6", "128", "129", 4)):
        seen = [packet[f"{name}.type"] for packet in data]
        assert seen.count(request) == seen.count(answer) >= least
