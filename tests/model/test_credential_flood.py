"""Sessions that stand go on in a flood of forged initiations with a credential."""

import itertools
from pathlib import Path

import pytest

from tests.model.test_credential_life import Office, admitted, counter
from tests.support import fake_network
from tests.support.fake_network import Sent, World
from tests.support.flood import datagram
from tests.support.native_path import NativeFakeDataPath, needs_native
from wgpy.ip import address_text
from wgpy.protocol.constants import TYPE_COOKIE_REPLY, TYPE_CREDENTIAL_RESPONSE
from wgpy.protocol.cookie import mac1_key

# 2,000 a second, ten times what is let in of those that proved nothing, around a renewal.
STEPS, PER_STEP = 50, 40
FLOODED = range(116, 132)


@pytest.fixture(autouse=True, params=["portable", pytest.param("native", marks=needs_native)])
def datapath(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "native":
        monkeypatch.setattr(fake_network, "FakeDataPath", NativeFakeDataPath)


def test_a_peer_renews_its_keys_in_a_flood(tmp_path: Path) -> None:
    office = Office(World(), tmp_path)
    gate, world = office.gate, office.world
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    sent = [laptop.send(gate)]
    world.run(1)
    assert len(admitted(gate)) == 1
    forged = datagram(mac1_key(gate.private.public()))
    sources = (address_text((0x0A800000 + n).to_bytes(4, "big")) for n in itertools.count())
    for second in range(1, 200):
        sent.append(laptop.send(gate))
        for _ in range(STEPS):
            for _ in range(PER_STEP if second in FLOODED else 0):
                gate.datapath.arrive(Sent(float(second), next(sources), gate.address, forged))
            world.run(1 / STEPS)
    assert gate.datapath.delivered == sent, "nothing was lost"
    # The key is renewed at 120 s. The flood makes a cookie needed, with which the next try comes.
    first, second = world.sent(TYPE_CREDENTIAL_RESPONSE, gate)
    assert 120 < second - first < 128
    assert any(
        each.kind == TYPE_COOKIE_REPLY and each.target == laptop.address for each in world.log
    )
    assert list(admitted(gate)) == [laptop.private.public()]
    assert counter(gate, "shed_unproven") > 20_000
