"""What comes on one socket beside WireGuard: STUN from whom it may come, and nothing else's."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.memory_path import MemoryPath, join
from tests.support.packets import ip_packet
from wgpy.datapath.contract import Datagram, DataPathError, Endpoint, FilterRule
from wgpy.datapath.demux import STUN_HEADER_LENGTH, STUN_QUEUE_LENGTH, is_stun
from wgpy.datapath.endpoint import Route

COOKIE = bytes.fromhex("2112a442")
KEY = bytes(32)
PACKET = ip_packet(17, b"payload")
SERVER = Route(("198.51.100.1", 3478))
SERVER6 = Route(("2001:db8::1", 3478, 0, 0))
LINK_LOCAL = Route(("fe80::1%eth0", 3478, 0, 2))


def stun(body: bytes = b"", kind: int = 0x0101, cookie: bytes = COOKIE) -> bytes:
    return kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + cookie + bytes(12) + body


@pytest.fixture
def path(engine):
    made = engine()
    made.set_filter([FilterRule(1, 148, mac1_offset=116), FilterRule(0x10, 40, exact=False)], KEY)
    made.set_stun_sources([("198.51.100.1", 3478), ("2001:db8::0001", 3478), ("fe80::1", 3478)])
    return made


# --- STUN ---


@pytest.mark.parametrize("where", [SERVER, SERVER6, LINK_LOCAL], ids=lambda route: route.address[0])
@pytest.mark.parametrize("body", [b"", bytes(12), bytes(1000)], ids=len)
def test_stun_goes_up_with_place_and_time(path, where, body):
    path.take(stun(body), where)
    (event,) = path.drain(9)
    assert isinstance(event, Datagram)
    assert (event.data, event.when) == (stun(body), path.now)
    assert event.endpoint.address == where.address[0].partition("%")[0]
    assert event.endpoint.port == 3478
    assert path.counters() == {}


@pytest.mark.parametrize(
    "where",
    [
        Route(("198.51.100.1", 3479)),
        Route(("198.51.100.2", 3478)),
        Route(("2001:db8::2", 3478, 0, 0)),
    ],
    ids=lambda route: f"{route.address[0]} {route.address[1]}",
)
def test_stun_of_strangers_stays_out(path, where):
    path.take(stun(bytes(8)), where)
    assert path.drain(9) == []
    assert path.counters() == {"unknown_stun": 1}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (stun()[:-1], "unknown_type"),
        (stun() + b"\0", "unknown_type"),
        (stun(bytes(8))[:-1], "unknown_type"),
        (stun(bytes(8)) + b"\0", "unknown_type"),
        (stun(bytes(8), cookie=bytes(4)), "unknown_type"),
        (stun(bytes(8), cookie=COOKIE[::-1]), "unknown_type"),
        (b"\4" + stun(bytes(8))[1:], "unknown_type"),
        (b"\x40" + stun(bytes(8))[1:], "unknown_relay"),
        (b"\xff" + stun(bytes(8))[1:], "unknown_type"),
        (stun()[:3], "too_short"),
    ],
)
def test_what_only_resembles_stun_is_none(path, data, reason):
    path.take(data, SERVER)
    assert path.drain(9) == []
    assert sum(path.counters().values()) == path.counters().get(reason, 0) == 1


@pytest.mark.parametrize("kind", [0x0001, 0x0101, 0x0111, 0x0200, 0x0300, 0x03FF])
def test_every_type_of_stun_may_come(path, kind):
    for body in (b"", bytes(4), bytes(16)):
        path.take(stun(body, kind), SERVER)
    assert len(path.drain(9)) == 3


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_a_handshake_message_whose_index_reads_as_the_cookie_is_no_stun(path, kind):
    """The sender's index is the sender's choice, and other implementations may take this one."""
    length = {1: 148, 2: 92, 3: 64}[kind]
    path.set_filter([FilterRule(kind, length)], KEY)
    message = bytes((kind, 0, 0, 0)) + COOKIE + bytes(length - 8)
    path.take(message, SERVER)
    (event,) = path.drain(9)
    assert event.data == message
    path.set_stun_sources([])
    path.take(message, SERVER)
    assert len(path.drain(9)) == 1
    assert path.counters() == {}


def test_a_transport_message_for_an_index_like_the_cookie_is_looked_up(path):
    path.take(b"\4\0\0\0" + COOKIE + bytes(60), SERVER)
    assert path.counters() == {"unknown_index": 1}


def test_no_index_of_ours_is_the_cookie(engine):
    made = engine()
    draws = iter([COOKIE, b"good"])
    if isinstance(made, MemoryPath):
        made._random = lambda size: next(draws)
        assert made.reserve_index() == int.from_bytes(b"good", "little")
    else:
        indices = [int.from_bytes(draw, "little") for draw in draws]
        assert made._inner.reserve_index(indices) == indices[1]


def test_the_sources_are_replaced(path):
    path.set_stun_sources([("192.0.2.7", 5349)])
    path.take(stun(), SERVER)
    path.take(stun(), Route(("192.0.2.7", 5349)))
    assert [event.endpoint for event in path.drain(9)] == [Endpoint("192.0.2.7", 5349)]
    path.set_stun_sources([])
    path.take(stun(), Route(("192.0.2.7", 5349)))
    assert path.counters() == {"unknown_stun": 2}


@pytest.mark.parametrize("number", [64, 65])
def test_there_are_64_sources_at_the_most(path, number):
    places = [("192.0.2.1", port) for port in range(number)]
    if number > 64:
        with pytest.raises(DataPathError, match="65 STUN servers are more than 64"):
            path.set_stun_sources(places)
        places = [("198.51.100.1", 3478)]
    else:
        path.set_stun_sources(places)
    path.take(stun(), Route(places[-1]))
    assert len(path.drain(9)) == 1


def test_a_source_is_a_numeric_address(path):
    with pytest.raises(DataPathError, match=r"'stun\.example' is not an IP address"):
        path.set_stun_sources([("stun.example", 3478)])
    path.take(stun(), SERVER)
    assert len(path.drain(9)) == 1


# --- Its queue ---


def test_the_queue_is_bounded_and_apart_from_the_others(path):
    for number in range(STUN_QUEUE_LENGTH + 5):
        path.take(stun(number.to_bytes(4, "big")), SERVER)
    assert path.counters() == {"stun_queue_full": 5}
    assert path.queue_depth() == 0
    path.take(b"\x10\0\0\0" + bytes(40))
    assert path.queue_depth() == 1
    events = path.drain(10)
    assert [event.data[0] for event in events] == [0x10] + [1] * 9
    numbers = [int.from_bytes(event.data[20:], "big") for event in events[1:]]
    assert numbers == list(range(9))
    while path.drain(50):
        pass
    path.take(stun(), SERVER)
    assert len(path.drain(9)) == 1


def test_stun_has_a_quarter_of_what_is_drained(path):
    for _ in range(50):
        path.take(b"\x10\0\0\0" + bytes(40))
        path.take(stun(), SERVER)
    assert [event.data[0] for event in path.drain(8)] == [0x10] * 6 + [1] * 2
    assert [event.data[0] for event in path.drain(1)] == [1]
    assert len(path.drain(1000)) == 91


def test_it_rings():
    made = MemoryPath()
    made.set_stun_sources([("198.51.100.1", 3478)])
    before = made.rings
    made.take(stun(), SERVER)
    assert made.rings == before + 1


# --- Both at once ---


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=60), at=st.integers(0, 4), spoil=st.integers(0, 255))
@example(data=stun(), at=0, spoil=0)
def test_is_stun_says_what_the_rfc_says(data, at, spoil):
    """Against the sentence in the contract, whatever stands around the datagram in its buffer."""
    message = bytearray(stun(data))
    if message:
        message[spoil % len(message)] ^= 1 << at
    for candidate in (bytes(message), data):
        wanted = (
            len(candidate) >= STUN_HEADER_LENGTH
            and candidate[0] < 4
            and candidate[4:8] == COOKIE
            and len(candidate) == 20 + int.from_bytes(candidate[2:4], "big")
        )
        buffer = memoryview(b"\1" * at + candidate + COOKIE)
        assert is_stun(buffer, at, at + len(candidate)) == wanted


@pytest.mark.parametrize("low", range(0x40, 0x50))
def test_a_type_that_would_be_a_channel_is_refused(path, low):
    for kind in (low, 0x12345600 + low):
        with pytest.raises(DataPathError, match="ChannelData"):
            path.set_filter([FilterRule(kind, 40)], KEY)
    path.set_filter([FilterRule(0x3F, 40), FilterRule(0x50, 40), FilterRule(0x4010, 40)], KEY)


# --- Identifiers of paths ---


PATHS = [bytes((number,)) * 8 for number in range(1, 5)]
PROBES = (
    FilterRule(0x12, 60, exact=False, path_offset=4, longest=1200),
    FilterRule(0x13, 60, path_offset=4),
    FilterRule(0x14, 60, path_offset=52),
)


def probe(path_id: bytes, kind: int = 0x12, size: int = 60, at: int = 4) -> bytes:
    body = bytearray(kind.to_bytes(4, "little") + bytes(size - 4))
    body[at : at + 8] = path_id
    return bytes(body)


@pytest.fixture
def probed(engine):
    made = engine()
    made.set_filter(PROBES, KEY)
    made.set_path_ids(PATHS)
    return made


def test_probes_of_our_paths_go_up(probed):
    wanted = [probe(PATHS[0]), probe(PATHS[3], 0x13), probe(PATHS[1], size=1200)]
    wanted.append(probe(PATHS[2], 0x14, at=52))
    for data in wanted:
        probed.take(data)
    assert [event.data for event in probed.drain(9)] == wanted
    assert probed.counters() == {}


@pytest.mark.parametrize("kind", [0x12, 0x13])
def test_probes_of_other_paths_never_reach_python(probed, kind):
    for unknown in (bytes(8), PATHS[0][:7] + b"\2", b"\2" + PATHS[0][1:]):
        probed.take(probe(unknown, kind))
    assert probed.counters() == {"unknown_path": 3}
    assert probed.queue_depth() == 0


def test_length_comes_before_the_path(probed):
    probed.take(probe(PATHS[0])[:-1])
    probed.take(probe(PATHS[0], size=1201))
    assert probed.counters() == {"wrong_length": 2}


def test_identifiers_are_replaced_and_rules_keep_them(probed):
    probed.set_filter(PROBES[:1], KEY)
    probed.take(probe(PATHS[0]))
    assert len(probed.drain(9)) == 1
    probed.set_path_ids([b"12345678"])
    probed.take(probe(PATHS[0]))
    probed.take(probe(b"12345678"))
    assert [event.data for event in probed.drain(9)] == [probe(b"12345678")]
    probed.set_path_ids([])
    probed.take(probe(b"12345678"))
    assert probed.counters() == {"unknown_path": 2}


def test_identifiers_have_eight_bytes_and_a_bound(probed):
    for wrong in (b"", b"1234567", b"123456789"):
        with pytest.raises(DataPathError, match="8 bytes"):
            probed.set_path_ids([*PATHS, wrong])
    many = [number.to_bytes(8, "big") for number in range(65_537)]
    with pytest.raises(DataPathError, match="65537 path identifiers"):
        probed.set_path_ids(many)
    probed.take(probe(PATHS[0]))
    assert len(probed.drain(9)) == 1
    probed.set_path_ids(many[1:])
    probed.take(probe(many[-1]))
    assert len(probed.drain(9)) == 1


@pytest.mark.parametrize(
    "rule", [FilterRule(9, 11, path_offset=4), FilterRule(9, 11, False, path_offset=4)]
)
def test_a_path_lies_within_the_least_length(probed, rule):
    with pytest.raises(DataPathError, match="looks past its length"):
        probed.set_filter([rule], KEY)
    probed.set_filter([rule._replace(length=12)], KEY)


def test_a_peer_where_a_stun_server_is_is_heard(engine):
    here, there = engine(), engine()
    join(here, there)
    there.set_stun_sources([("198.51.100.1", 3478)])
    here.write(PACKET)
    there.take(here.sent[0][0], SERVER)
    assert there.packets() == [PACKET]
    assert there.counters() == {}
