"""Who speaks, as a daemon says: a real server of the UAPI, and what it tells of a peer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import key
from tests.unit.device.fake_interface import FakeInterface, served
from wgpy.device.uapi import ClaimsSummary, PeerState
from wgpy.identity.claims import Kind
from wgpy.ip import parse_address, parse_prefix
from wgpy.mesh import callers
from wgpy.mesh.callers import Caller, CallersError, DaemonCallers

OWN, NODE, JOINER, PLAIN = (key(x) for x in range(4))
HOME = parse_address("10.7.0.1")


def claims(kind: Kind, name: str, serial: str) -> ClaimsSummary:
    """What a session rests on."""
    return ClaimsSummary(kind, name, (), serial, bytes(32), 1_900_000_000)


class Clock:
    """One that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def interface() -> FakeInterface:
    """An interface with a member, somebody in quarantine, and a peer without a credential."""
    made = FakeInterface()
    made.now.peers = [
        PeerState(
            NODE,
            last_handshake=(5, 0),
            allowed_ips=[parse_prefix("10.7.0.2"), parse_prefix("192.168.0.0/16")],
            claims=claims(Kind.CERTIFICATE, "laptop.mesh", "0a"),
        ),
        PeerState(
            JOINER,
            last_handshake=(6, 0),
            allowed_ips=[parse_prefix("fd00::7")],
            claims=claims(Kind.ENROLMENT, "new.mesh", "a jti"),
        ),
        PeerState(PLAIN, last_handshake=(7, 0), allowed_ips=[parse_prefix("10.7.0.9")]),
    ]
    return made


@pytest.fixture
def clock() -> Clock:
    """The callers' clock."""
    return Clock()


@pytest.fixture
def asked(interface: FakeInterface, clock: Clock, tmp_path: Path) -> Iterator[DaemonCallers]:
    """Callers of that interface, which a server serves."""
    with served(interface, tmp_path / "wg7.sock"):
        yield DaemonCallers("wg7", OWN, [HOME], directory=str(tmp_path), clock=clock)


def test_who_has_an_address(asked: DaemonCallers) -> None:
    assert asked.of(NODE, parse_address("10.7.0.2")) == Caller(NODE)
    assert asked.of(JOINER, parse_address("fd00::7")) == Caller(JOINER, "a jti", "new.mesh")
    assert asked.of(OWN, HOME) == Caller(OWN)


@pytest.mark.parametrize(
    ("who", "address"),
    [
        (NODE, "10.7.0.3"),
        # A network that it routes is not its own address.
        (NODE, "192.168.0.0"),
        (NODE, "10.7.0.1"),
        (OWN, "10.7.0.2"),
        (JOINER, "10.7.0.2"),
        # It shook hands with no credential.
        (PLAIN, "10.7.0.9"),
        (key(9), "10.7.0.2"),
    ],
)
def test_who_has_not(asked: DaemonCallers, who: object, address: str) -> None:
    assert asked.of(who, parse_address(address)) is None  # type: ignore[arg-type]


def test_an_answer_is_kept_for_a_moment(
    asked: DaemonCallers, interface: FakeInterface, clock: Clock
) -> None:
    address = parse_address("10.7.0.2")
    assert asked.of(NODE, address) == Caller(NODE)
    peers, interface.now.peers = interface.now.peers, []
    clock.now = callers.KEEP - 0.1
    assert asked.of(NODE, address) == Caller(NODE)
    clock.now = callers.KEEP
    assert asked.of(NODE, address) is None
    # That nobody is there is not kept.
    interface.now.peers = peers
    assert asked.of(NODE, address) == Caller(NODE)


def test_a_session_lives_while_handshakes_follow_one_another(
    asked: DaemonCallers, interface: FakeInterface, clock: Clock
) -> None:
    assert asked.live() == {OWN, NODE, JOINER}
    clock.now = callers.SESSION - 1
    interface.now.peers[1].last_handshake = (100, 0)
    assert asked.live() == {OWN, NODE, JOINER}
    clock.now = callers.SESSION + 1
    assert asked.live() == {OWN, JOINER}
    # The wall clock was set back: that is another handshake too.
    interface.now.peers[0].last_handshake = (1, 0)
    assert asked.live() == {OWN, NODE, JOINER}


def test_a_daemon_that_is_not_there(tmp_path: Path) -> None:
    gone = DaemonCallers("wg7", OWN, [HOME], directory=str(tmp_path))
    assert gone.of(OWN, HOME) == Caller(OWN)
    with pytest.raises(CallersError, match="wg7"):
        gone.of(NODE, HOME[:3] + b"\x05")
    with pytest.raises(CallersError):
        gone.live()
