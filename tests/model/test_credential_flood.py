"""Sessions that stand go on in a flood of forged initiations with a credential."""

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

# At once, each second: the bucket of those that proved nothing is dry for a while after.
BURST = 200


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
    number = 0
    for second in range(200):
        for _ in range(BURST):
            number += 1
            source = address_text((0x0A800000 + number).to_bytes(4, "big"))
            gate.datapath.arrive(Sent(float(second), source, gate.address, forged))
        sent.append(laptop.send(gate))
        world.run(1)
    assert gate.datapath.delivered == sent, "nothing was lost"
    # The first key lasts 180 s; it was renewed in time, with the cookie that the flood made needed.
    assert len(world.sent(TYPE_CREDENTIAL_RESPONSE, gate)) == 2
    assert any(
        each.kind == TYPE_COOKIE_REPLY and each.target == laptop.address for each in world.log
    )
    assert list(admitted(gate)) == [laptop.private.public()]
    assert counter(gate, "shed_unproven") > 150 * 200
