"""Somebody sets the wall clock while sessions live: what docs/protocol.md and docs/threat-model.md
say of it, on both data paths. Each machine has a wall clock of its own; the boot clock goes on."""

from pathlib import Path

import pytest

from tests.support import fake_network
from tests.support.fake_network import Machine, World
from tests.support.native_path import NativeFakeDataPath, needs_native
from tests.support.office import DAY, START, Office, admitted, counter
from wgpy.protocol.constants import TYPE_CREDENTIAL_RESPONSE

MINUTE, HOUR = 60.0, 3600.0
# Live sessions are looked at once a minute, for nobody tells when the clock is set.
LOOK = 61.0
# A session without new keys is over (whitepaper 6.1), and a little more.
REJECT = 185.0


@pytest.fixture(autouse=True, params=["portable", pytest.param("native", marks=needs_native)])
def datapath(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "native":
        monkeypatch.setattr(fake_network, "FakeDataPath", NativeFakeDataPath)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(World(), tmp_path)


def laptop_in(office: Office, *, until: float = START + DAY) -> Machine:
    """A machine that has just come in."""
    laptop = office.machine("192.0.2.2", "laptop.mesh", not_after=until)
    office.knows_gate(laptop)
    laptop.send(office.gate)
    office.world.run(1)
    assert len(admitted(office.gate)) == 1
    return laptop


def talk(office: Office, laptop: Machine, seconds: float) -> int:
    """A packet each ten seconds: how many of them did not arrive."""
    before = len(office.gate.datapath.delivered)
    sent = int(seconds / 10)
    for _ in range(sent):
        laptop.send(office.gate)
        office.world.run(10)
    return sent - (len(office.gate.datapath.delivered) - before)


def renewals(office: Office) -> int:
    return len(office.world.sent(TYPE_CREDENTIAL_RESPONSE, office.gate))


def test_set_forward_past_the_end_it_ends_within_a_minute(office: Office) -> None:
    laptop = laptop_in(office)
    office.gate.wall_step = 2 * DAY
    office.world.run(LOOK)
    assert admitted(office.gate) == {}
    assert office.gate.session_count() == 0
    assert counter(office.gate, "credential_ended_expired") == 1
    # By that clock it is over: it is refused, and by its own certificate the gate as well.
    assert talk(office, laptop, 60) == 6
    assert admitted(office.gate) == {}
    # Set right again, it may come in again, for nothing was written that says otherwise.
    office.gate.wall_step = 0.0
    office.world.run(2 * MINUTE)
    talk(office, laptop, 60)
    assert len(admitted(office.gate)) == 1
    assert talk(office, laptop, 60) == 0


def test_set_forward_within_its_life_it_ends_so_much_sooner(office: Office) -> None:
    laptop = laptop_in(office, until=START + 2 * HOUR)
    office.gate.wall_step = HOUR
    assert talk(office, laptop, 50 * MINUTE) == 0
    assert renewals(office) > 20
    office.world.run(10 * MINUTE)
    assert admitted(office.gate) == {}
    assert counter(office.gate, "credential_ended_expired") == 1


@pytest.mark.parametrize("back", [4 * MINUTE, HOUR, 30 * DAY])
def test_set_back_it_ends_no_later(office: Office, back: float) -> None:
    """The boot clock has counted; and in the minute after it nothing comes in."""
    laptop = laptop_in(office, until=START + 170)
    office.gate.wall_step = -back
    assert talk(office, laptop, 160) == 0
    office.world.run(15)
    assert admitted(office.gate) == {}
    assert office.gate.session_count() == 0
    assert counter(office.gate, "credential_ended_expired") == 1


def test_set_back_by_less_than_five_minutes_keys_are_renewed_as_ever(office: Office) -> None:
    laptop = laptop_in(office)
    office.gate.wall_step = -4 * MINUTE
    assert talk(office, laptop, 20 * MINUTE) == 0
    assert renewals(office) >= 10
    assert counter(office.gate, "credential_future_timestamp") == 0


def test_set_back_by_more_it_answers_nobody_and_has_to_call(office: Office) -> None:
    """The stamps of everybody else come from the future then. Its own are good, so whoever it has
    something for stays; a newcomer is outside until the clock is right."""
    laptop = laptop_in(office)
    office.gate.wall_step = -HOUR
    talk(office, laptop, REJECT)
    assert counter(office.gate, "credential_future_timestamp") > 0
    assert talk(office, laptop, 10 * MINUTE) == 0
    other = office.machine("192.0.2.3", "desk.mesh")
    office.knows_gate(other)
    other.send(office.gate)
    office.world.run(MINUTE)
    assert renewals(office) == 1
    assert list(admitted(office.gate)) == [laptop.private.public()]
    office.gate.wall_step = 0.0
    other.send(office.gate)
    office.world.run(MINUTE)
    assert len(admitted(office.gate)) == 2
    assert talk(office, laptop, 10 * MINUTE) == 0


def test_who_calls_may_have_a_clock_that_was_set_back(office: Office) -> None:
    """Its stamps go on above the last one, and the gate's certificate is judged as of its own."""
    laptop = laptop_in(office)
    laptop.wall_step = -30 * DAY
    assert talk(office, laptop, 20 * MINUTE) == 0
    assert renewals(office) >= 10


@pytest.mark.parametrize("ahead", [4 * MINUTE, HOUR, 200 * DAY])
def test_who_calls_with_a_clock_that_was_ahead_is_heard_when_it_is_right(
    office: Office, ahead: float
) -> None:
    laptop = laptop_in(office, until=START + 300 * DAY)
    laptop.wall_step = ahead
    talk(office, laptop, REJECT)
    assert (counter(office.gate, "credential_future_timestamp") > 0) == (ahead > 5 * MINUTE)
    # The gate may call instead, as long as its certificate is not over by that clock.
    assert talk(office, laptop, 5 * MINUTE) == (30 if ahead > DAY else 0)
    laptop.wall_step = 0.0
    # It may wait for its turn to try again.
    talk(office, laptop, MINUTE)
    assert talk(office, laptop, 10 * MINUTE) == 0
