"""How long managed peers wait until it is known where we may be found."""

import os
from typing import Any, cast

from wgpy.keys import PrivateKey, PublicKey
from wgpy.nat.candidates import Candidate, Kind
from wgpy.nat.charge import Hands, Standing
from wgpy.nat.charges import PATIENCE, Charges
from wgpy.protocol.handshake import Local, Remote

OURS = Local(PrivateKey(bytes(range(32))))
THEIRS = PrivateKey(bytes(range(1, 33))).public()
START = 1000.0
STANDING = Standing((Candidate(Kind.HOST, "192.168.1.2", 51820),))


class Roads:
    """What a charge asks of the device."""

    def remote(self, key: PublicKey) -> Remote:
        return Remote(OURS, key, None)

    def activity(self, key: PublicKey) -> None:
        del key

    def set_path_ids(self, ids: object) -> None:
        del ids


class Office:
    def wall(self) -> float:
        return 1.79e9


class Node:
    """The charges of a node with one peer, and what they sent it."""

    def __init__(self) -> None:
        self.posted: list[bytes] = []
        self.said: list[str] = []
        names = ["send", "outward", "want_sockets", "drop_sockets"]
        names += ["remote", "doubt_relay", "observed", "mtu"]
        hands = Hands(
            **cast("Any", dict.fromkeys(names, lambda *_: None)),
            post=lambda key, data: self.posted.append(data),
            path_ids=lambda key, ids: self.charges.set_path_ids(key, ids),
            log=self.said.append,
        )
        self.charges = Charges(cast("Any", Roads()), cast("Any", Office()), os.urandom, hands)
        self.charges.standing = STANDING
        self.charges.is_settled = False
        self.charges.network_changed(START)
        self.charges.add(THEIRS)
        charge = self.charges.get(THEIRS)
        assert charge is not None
        self.charge = charge


def test_who_is_wanted_at_the_start_waits_for_the_servers():
    node = Node()
    node.charges.begin(node.charge, START + 0.1)
    assert not node.posted
    assert node.charges.next_at() == START + PATIENCE
    node.charges.work(START + PATIENCE)
    assert len(node.posted) == 1


def test_nobody_waits_longer_than_the_first_one():
    node = Node()
    node.charges.begin(node.charge, START + PATIENCE + 0.1)
    assert len(node.posted) == 1


def test_nobody_waits_when_all_is_known():
    node = Node()
    node.charges.begin(node.charge, START + 0.1)
    node.charges.is_settled = True
    node.charges.tell(START + 0.2)
    assert len(node.posted) == 1


def test_what_is_told_to_people_begins_with_the_peer_and_says_no_word_twice():
    node = Node()
    node.charges.begin(node.charge, START + PATIENCE)
    assert node.said == [f"{THEIRS.base64()[:8]}: looking for a way"]
