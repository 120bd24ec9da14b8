"""Daemons behind every pair of NATs: direct where that is possible, by the relay where it is not.

Nobody is told where anybody is. A real coturn is the STUN and TURN server, signals go by a
directory, and any two are 30 ms apart.
"""

from collections.abc import Iterator

import pytest

from tests.support.managed import PORTABLE
from tests.support.natlab import Lab, Nat
from tests.support.natlab.cells import KINDS, is_direct, left, right, street
from tests.support.natlab.site import Site, exchange
from tests.support.programs import WGPY, Implementation
from wgpy.device.paths import PathKind, Transport

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("ip"),
    pytest.mark.tool("nft"),
    pytest.mark.tool("ping"),
    pytest.mark.tool("wg"),
    pytest.mark.tool("wgpyd"),
    pytest.mark.tool("turnserver"),
    pytest.mark.tool("openssl"),
    pytest.mark.tool("carrier"),
    pytest.mark.usefixtures("clean_machine"),
]

CELLS = [(one, other) for one in KINDS for other in KINDS]
# Beyond the matrix: what is guessed, and the router that remembers what came too early.
OTHERS = [
    (Nat.SYMSEQ, Nat.PORT, PathKind.DIRECT),
    (Nat.PORT, Nat.SYMSEQ, PathKind.DIRECT),
    (Nat.SYMSEQ, Nat.SYM, PathKind.RELAY),
    (Nat.NAIVE, Nat.PORT, PathKind.DIRECT),
    (Nat.PORT, Nat.NAIVE, PathKind.DIRECT),
    (Nat.NAIVE, Nat.NAIVE, PathKind.DIRECT),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with (
        Lab(*street((*KINDS, Nat.SYMSEQ, Nat.NAIVE))) as lab,
        Site(lab, tmp_path_factory.mktemp("site")) as made,
    ):
        yield made


def meet(
    site: Site,
    one: Nat,
    other: Nat,
    expected: PathKind,
    *,
    extra: str = "",
    ours: Implementation = WGPY,
) -> None:
    """The first one wants the other, and both find the way that is expected; data proves it."""
    with site.up(left(one), right(other), ours=ours) as (alice, bob):
        site.introduce(alice, bob, turn="any", extra=extra)
        alice.host.namespace.ping(bob.inner, wait=20)
        found = site.wait_for(alice, bob, expected)
        exchange(alice, bob)
        # It stayed so.
        back = site.wait_for(bob, alice, expected)
        assert found.place is not None
        assert back.place is not None
        if expected is PathKind.DIRECT:
            routers = site.lab.routers
            assert found.place.host == routers[right(other)].wan_ip
            assert back.place.host == routers[left(one)].wan_ip
        else:
            for nat, path in ((one, found), (other, back)):
                transport = Transport.TCP if nat is Nat.BLOCKED else Transport.UDP
                assert path.relay is not None
                assert path.relay.transport is transport


@pytest.mark.parametrize(("one", "other"), CELLS, ids=lambda nat: nat.value)
def test_every_pair_of_the_matrix(site: Site, one: Nat, other: Nat) -> None:
    meet(site, one, other, PathKind.DIRECT if is_direct(one, other) else PathKind.RELAY)


@pytest.mark.parametrize(("one", "other", "expected"), OTHERS, ids=lambda each: each.value)
def test_guesses_and_routers_that_remember(
    site: Site, one: Nat, other: Nat, expected: PathKind
) -> None:
    meet(site, one, other, expected)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Nat.PORT, Nat.PORT, PathKind.DIRECT),
        (Nat.SYMSEQ, Nat.PORT, PathKind.DIRECT),
        (Nat.PORT, Nat.SYM, PathKind.RELAY),
        (Nat.BLOCKED, Nat.PORT, PathKind.RELAY),
    ],
    ids=lambda each: each.value,
)
def test_one_of_each_kind_on_the_portable_data_path(
    site: Site, one: Nat, other: Nat, expected: PathKind
) -> None:
    meet(site, one, other, expected, ours=PORTABLE)


def test_the_birthday_method_finds_one_of_many_ports(site: Site) -> None:
    # One probe of 1,024 hits one of 256 ports with 98 %: of three tries all fail once in 10^5.
    for _ in range(3):
        try:
            meet(site, Nat.SYM, Nat.PORT, PathKind.DIRECT, extra="birthday = true")
        except AssertionError as error:
            failure = error
        else:
            return
    raise failure
