"""What is merged and what ends a merged packet. Its model is in tests/model."""

from dataclasses import replace

import pytest

from tests.model.test_coalesce_model import FLOWS, coalesce
from tests.support.packets import (
    ACK,
    ECE,
    FIN,
    MORE_FRAGMENTS,
    PSH,
    SYN,
    URG,
    V4,
    V6,
    Segment,
    ip_packet,
)


def flow(count, *, size=1000, base=FLOWS[0], start=0):
    """`count` segments that follow one another."""
    return [
        replace(
            base,
            payload=bytes([n % 256]) * size,
            sequence=(start + n * size) % 2**32,
            ident=0 if len(base.source) == 16 else n,
        )
        for n in range(count)
    ]


def written(segments):
    """How many frames come of them; what the kernel gets is checked on the way."""
    packets = [bytes(segment) for segment in segments]
    frames, arrived = coalesce(packets)
    assert arrived == packets
    return len(frames)


@pytest.mark.parametrize("base", FLOWS)
def test_a_flow_becomes_one_frame(base):
    assert written(flow(30, base=base)) == 1


@pytest.mark.parametrize("base", FLOWS)
def test_the_sequence_number_may_wrap(base):
    assert written(flow(5, base=base, start=2**32 - 1500)) == 1


@pytest.mark.parametrize("source", [V4, V6])
def test_no_frame_is_longer_than_its_length_field_can_say(source):
    base = Segment(source=source[0], target=source[1])
    assert written(flow(100, size=1460, base=base)) == 3


def test_a_shorter_segment_is_the_last():
    one, two, three = flow(3)
    short = replace(two, payload=two.payload[:-1])
    after = replace(three, sequence=short.sequence + 999)
    assert written([one, short, after]) == 2


def test_a_longer_segment_begins_anew():
    one, two, _ = flow(3)
    assert written([one, replace(two, payload=two.payload + b"x")]) == 2


def test_a_push_is_the_last_and_is_kept():
    one, two, three = flow(3)
    assert written([one, replace(two, flags=ACK | PSH), three]) == 2


def test_a_push_at_the_start_stands_alone():
    one, two, _ = flow(3)
    assert written([replace(one, flags=ACK | PSH), two]) == 2


def test_another_flow_ends_the_first():
    one, two, _ = flow(3)
    stranger = replace(FLOWS[2], payload=b"y" * 1000)
    assert written([one, stranger, two]) == 3


def test_a_gap_is_not_closed():
    one, _, three = flow(3)
    assert written([one, three]) == 2


def test_a_repeated_segment_is_written_again():
    one, *_ = flow(3)
    assert written([one, one]) == 2


def test_acknowledgments_pass_alone():
    assert written([Segment(acknowledged=n) for n in range(5)]) == 5


@pytest.mark.parametrize(
    "difference",
    [
        {"flags": ACK | FIN},
        {"flags": ACK | SYN},
        {"flags": ACK | URG},
        {"flags": ACK | ECE},
        {"flags": 0},
        {"urgent": 1},
        {"ttl": 63},
        {"tos": 1},
        {"window": 1},
        {"acknowledged": 1},
        {"options": b"\1" * 12},
        {"options": b""},
        {"ip_options": b"\1\1\1\0"},
        {"fragment": 0},
        {"fragment": MORE_FRAGMENTS},
        {"spoil": 1},
        {"spoil_ip": 1},
        {"source": bytes((10, 0, 0, 7))},
        {"target": bytes((10, 0, 0, 7))},
        {"ports": (1, 80)},
        {"ports": (40000, 1)},
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_packet_that_differs_is_not_merged(difference, place):
    pair = flow(2)
    pair[place] = replace(pair[place], **difference)
    assert written(pair) == 2


def test_fragments_of_one_packet_are_not_merged():
    pair = [replace(segment, fragment=MORE_FRAGMENTS) for segment in flow(2)]
    assert written(pair) == 2


def test_other_protocols_are_not_merged():
    packets = [ip_packet(17, bytes(40)), ip_packet(17, bytes(40))]
    frames, arrived = coalesce(packets)
    assert len(frames) == 2
    assert arrived == packets
