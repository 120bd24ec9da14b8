"""Connections, rates and reports: one of each, and never more than there is room for."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.stores import key
from wgpy.mesh import hub, reports
from wgpy.mesh.hub import Connection, Hub, frame
from wgpy.mesh.messages import Path, PathKind, Report
from wgpy.mesh.rates import Rates
from wgpy.mesh.reports import Reports


class Wire(asyncio.WriteTransport):
    """A transport that keeps what is written, and says how much waits."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.waiting = 0
        self.aborted = False

    def write(self, data: object) -> None:
        """Keep it."""
        self.written.append(bytes(data))  # type: ignore[call-overload]

    def get_write_buffer_size(self) -> int:
        """What the test says."""
        return self.waiting

    def is_closing(self) -> bool:
        """After an abort."""
        return self.aborted

    def abort(self) -> None:
        """End it."""
        self.aborted = True


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536, 70_000])
def test_frames_are_those_of_a_server(length: int) -> None:
    """Read back by the letter of RFC 6455 section 5.2."""
    found = frame(b"x" * length)
    # FIN and opcode 1; no mask bit.
    assert found[0] == 0x81
    assert found[1] < 0x80
    sizes = {126: 2, 127: 8}
    extra = sizes.get(found[1], 0)
    said = int.from_bytes(found[2 : 2 + extra], "big") if extra else found[1]
    assert said == length
    # The shortest of the three forms.
    assert extra == (0 if length < 126 else 2 if length < 65_536 else 8)
    assert found[2 + extra :] == b"x" * length


def connected(most: int = 3) -> tuple[Hub, Counter[str]]:
    """A hub of a few connections."""
    counters: Counter[str] = Counter()
    return Hub(counters, most), counters


def test_a_push_is_written_to_everybody_and_who_does_not_read_is_cut_off() -> None:
    async def what() -> None:
        hubs, counters = connected()
        wires = [Wire() for _ in range(3)]
        for number, wire in enumerate(wires):
            hubs.add(Connection(key(number), wire))
        wires[1].waiting = hub.MAX_WAITING + 1
        hubs.push(b"news")
        assert wires[0].written == wires[2].written == [frame(b"news")]
        assert wires[1].written[0][0] == 0x88
        assert b"does not read" in wires[1].written[0]
        assert counters == {"sockets_slow": 1, "pushes": 2}
        hubs.push(b"more")
        assert len(wires[1].written) == 1

    asyncio.run(what())


def test_who_says_no_goodbye_is_gone_in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "FAREWELL", 0.01)

    async def what() -> None:
        hubs, _ = connected()
        wire = Wire()
        hubs.add(Connection(key(1), wire))
        hubs.drop(key(1), "for a reason")
        hubs.drop(key(1), "again")
        assert len(wire.written) == 1
        await asyncio.sleep(0.05)
        assert wire.aborted

    asyncio.run(what())


def test_a_newer_connection_takes_the_place() -> None:
    async def what() -> None:
        hubs, counters = connected(1)
        first, second = Connection(key(1), Wire()), Connection(key(1), Wire())
        hubs.add(first)
        assert hubs.has_room(key(1))
        assert not hubs.has_room(key(2))
        hubs.add(second)
        hubs.remove(first)
        assert len(hubs) == 1
        assert first.ended is not None
        hubs.remove(second)
        assert len(hubs) == 0
        assert counters["sockets_replaced"] == 1

    asyncio.run(what())


def test_a_session_that_ended_ends_only_what_was_there_when_it_was_asked() -> None:
    async def what() -> None:
        hubs, _ = connected()
        old, fresh, alive = (Connection(key(x), Wire()) for x in (1, 2, 3))
        hubs.add(old)
        hubs.add(alive)
        present = hubs.connections()
        hubs.add(fresh)
        hubs.keep(present, {key(3)})
        assert (old.ended is not None, fresh.ended, alive.ended) == (True, None, None)

    asyncio.run(what())


def test_signals_leave_room_for_news() -> None:
    async def what() -> None:
        hubs, counters = connected()
        wire = Wire()
        hubs.add(Connection(key(1), wire))
        assert hubs.signal(key(1), b"one")
        wire.waiting = hub.MAX_SIGNALS + 1
        assert not hubs.signal(key(1), b"two")
        assert not hubs.signal(key(2), b"nobody")
        hubs.push(b"news")
        assert wire.written == [frame(b"one"), frame(b"news")]
        assert (counters["signals"], counters["signals_full"]) == (1, 1)

    asyncio.run(what())


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 3)), max_size=80),
    st.integers(1, 5),
    st.integers(1, 10),
)
def test_rates_are_as_a_naive_bucket_says(
    uses: list[tuple[int, float]], rate: int, burst: int
) -> None:
    rates = Rates(rate, burst, 10)
    left: dict[int, float] = {}
    at: dict[int, float] = {}
    now = 0.0
    for who, wait in uses:
        now += wait
        level = min(burst, left.get(who, burst) + rate * (now - at.get(who, now)))
        expected = level >= 1
        left[who], at[who] = level - expected, now
        assert rates.allow(who, now) == expected


def test_buckets_are_bounded() -> None:
    rates = Rates(1.0, 1.0, 4)
    for number in range(50):
        assert rates.allow(number, 0.0)
    assert len(rates) == 4


@given(
    st.lists(st.tuples(st.integers(0, 4), st.lists(st.integers(0, 30), max_size=12)), max_size=30)
)
def test_reports_are_bounded(said: list[tuple[int, list[int]]]) -> None:
    kept = Reports(most=20, of_node=8)
    for now, (of, whom) in enumerate(said):
        paths = tuple(Path(key(x), PathKind.DIRECT, rtt_ms=float(now)) for x in whom)
        kept.take(key(of), Report(paths), float(now))
        found = kept.paths(float(now))
        assert len(found) == len(kept) <= 20
        mine = [x for x in found if x.of == key(of)]
        assert len(mine) <= 8
        # What was said last is there.
        assert {key(x) for x in whom[-8:]} <= {x.path.key for x in mine}


def test_reports_that_are_old_are_not_told() -> None:
    kept = Reports()
    kept.take(key(1), Report((Path(key(2), PathKind.DIRECT),)), 5.0)
    assert len(kept.paths(5.0 + reports.KEEP)) == 1
    assert kept.paths(5.1 + reports.KEEP) == ()
    kept.forget(key(1))
    assert len(kept) == 0
