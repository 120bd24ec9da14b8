"""What the native data path has beyond the portable one: offloads that fail, and how it is chosen.

That it does the same to every packet is tests/model/test_differential.py's to show.
"""

import errno
import struct

import pytest

from tests.support.memory_path import HERE, THERE, MemoryPath, join
from tests.support.native_path import NativeMemoryPath, needs_native
from tests.support.packets import ACK, PSH, UDP, Segment, ip_packet, kernel_receives
from wgpy.datapath import choose
from wgpy.datapath.contract import AllowedIpOperation, DataPathError, Endpoint, Offload
from wgpy.datapath.endpoint import to_route
from wgpy.ip import parse_prefix
from wgpy.protocol.constants import TRANSPORT_OVERHEAD

pytestmark = needs_native


def sealed(path, *packets):
    for packet in packets:
        path.write(packet)
    taken = [data for data, _ in path.sent]
    path.sent.clear()
    return taken


@pytest.fixture
def joined():
    here, there = NativeMemoryPath(), NativeMemoryPath()
    return here, there, join(here, there)


def test_packets_that_the_tun_refuses_as_one_go_one_by_one(joined):
    here, there, _peers = joined
    whole = Segment(payload=bytes(5000), flags=ACK | PSH)
    pieces = [bytes(piece) for piece in whole.split(1000)]
    messages = sealed(here, *pieces)
    there.refuse_large(errno.EINVAL)
    there.take_batch([(message, 0, to_route(HERE)) for message in messages])
    # The very packets, PSH on none but the last.
    assert there.packets() == pieces
    assert there.counters() == {"merge_fallback": 1}
    assert Offload("tun_tcp_merge", False, errno.EINVAL) in there.drain(0)
    assert there.offloads()["tun_tcp_merge"] is False
    # The next ones are not tried.
    there.take_batch([(message, 0, to_route(HERE)) for message in sealed(here, *pieces)])
    assert there.packets() == pieces
    assert there.counters() == {"merge_fallback": 1}


def test_packets_of_one_batch_are_merged_over_its_datagrams(joined):
    here, there, _peers = joined
    pieces = [bytes(piece) for piece in Segment(payload=bytes(5000)).split(1000)]
    there.take_batch([(message, 0, to_route(HERE)) for message in sealed(here, *pieces)])
    (frame,) = there.delivered
    assert kernel_receives(frame) == [bytes(p) for p in Segment(payload=bytes(5000)).split(1000)]


def test_equal_packets_read_one_by_one_leave_in_one_train(joined):
    here, _there, _peers = joined
    packet = ip_packet(UDP, bytes(100))
    shorter = ip_packet(UDP, bytes(10))
    # A shorter one ends a train; 64 datagrams are the most that one holds.
    here.write_batch(
        [(packet, bytes(10))] * 3 + [(shorter, bytes(10))] + [(packet, bytes(10))] * 70
    )
    assert here.trains == [4, 64, 6]
    sizes = [len(data) for data, _ in here.sent]
    assert sizes == [128 + TRANSPORT_OVERHEAD] * 3 + [32 + TRANSPORT_OVERHEAD] + [160] * 70
    assert [struct.unpack_from("<Q", data, 8)[0] for data, _ in here.sent] == list(range(74))


def test_trains_are_of_one_peer():
    path = NativeMemoryPath()
    other = MemoryPath()
    join(path, other)
    second = path.peer("10.0.0.9", at=Endpoint("192.0.2.9", 9))
    path.set_allowed_ips([AllowedIpOperation("add", second, parse_prefix("10.0.0.9"))])
    one = ip_packet(UDP, bytes(100))
    unknown = ip_packet(UDP, bytes(100), target=bytes((10, 0, 0, 9)))
    path.write_batch([(one, bytes(10)), (unknown, bytes(10)), (one, bytes(10))])
    # What waits for a handshake leaves no gap in the train of those that do not.
    assert path.trains == [2]
    assert {route for _, route in path.sent} == {to_route(THERE)}
    assert path.activity(second).staged == 1


def test_a_read_shorter_than_its_vnet_header(joined):
    here, _there, _peers = joined
    for length in range(11):
        here._inner.write([bytes(length)])
    assert here.counters() == {"not_ip": 11}


@pytest.mark.parametrize(
    ("text", "off"),
    [
        ("", []),
        ("all", []),
        ("udp_segment", ["tun_tso", "tun_uso", "tun_tcp_merge", "tun_udp_merge"]),
        ("tun_tso, tun_uso", ["tun_tcp_merge", "tun_udp_merge", "udp_segment"]),
    ],
)
def test_offloads_are_switched_by_name(text, off):
    from wgpy.datapath.native import unwanted_offloads

    assert unwanted_offloads(text) == off


def test_an_unknown_offload_is_refused():
    from wgpy.datapath.native import OFFLOADS, unwanted_offloads

    assert unwanted_offloads("none") == list(OFFLOADS)
    with pytest.raises(DataPathError, match="WGPY_OFFLOADS: 'gso' is no offload"):
        unwanted_offloads("tun_tso,gso")


@pytest.mark.parametrize(
    ("choice", "name"), [("auto", "native"), ("native", "native"), ("portable", "portable")]
)
def test_auto_takes_the_native_one(monkeypatch, choice, name):
    monkeypatch.setenv(choose.VARIABLE, choice)
    assert choose.chosen_name() == name


def test_without_the_module(monkeypatch):
    monkeypatch.setattr(choose, "has_native", lambda: False)
    monkeypatch.setenv(choose.VARIABLE, "auto")
    assert choose.chosen_name() == "portable"
    monkeypatch.setenv(choose.VARIABLE, "native")
    with pytest.raises(DataPathError, match="no native data path"):
        choose.chosen_name()
