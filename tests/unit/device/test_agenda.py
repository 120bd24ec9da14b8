"""When the timers of which peer are looked at."""

from wgpy.device.agenda import Agenda
from wgpy.device.peer import PeerEntry, PeerTable
from wgpy.keys import PrivateKey, PublicKey
from wgpy.protocol.handshake import Local
from wgpy.protocol.peer import Peer

LOCAL = Local(PrivateKey(bytes(range(32))))


class Kit:
    """An agenda, and a table of peers that it knows."""

    def __init__(self) -> None:
        self.peers = PeerTable()
        self.agenda = Agenda(self.peers)

    def peer(self, number: int) -> PeerEntry:
        key = PublicKey(bytes([number]) * 32)
        entry = PeerEntry(key, number, Peer(LOCAL, key, None, lambda: 0.0))
        self.peers.add(entry)
        return entry

    def due(self, now: float) -> list[int]:
        found = []
        while (entry := self.agenda.due(now)) is not None:
            found.append(entry.handle)
        return found


def test_peers_come_in_their_order_and_not_before_their_time() -> None:
    kit = Kit()
    one, two, three = (kit.peer(n) for n in (1, 2, 3))
    kit.agenda.note(one, 30.0)
    kit.agenda.note(two, 10.0)
    kit.agenda.note(three, 20.0)
    assert kit.agenda.next_at() == 10.0
    assert kit.due(9.9) == []
    assert kit.due(20.0) == [2, 3]
    assert kit.due(100.0) == [1]
    assert kit.agenda.next_at() is None


def test_an_earlier_moment_counts_and_a_later_one_waits_for_its_look() -> None:
    kit = Kit()
    one = kit.peer(1)
    kit.agenda.note(one, 20.0)
    kit.agenda.note(one, 10.0)
    kit.agenda.note(one, 30.0)
    assert kit.due(10.0) == [1]
    assert kit.due(100.0) == [], "once, and not again for the moment that was noted first"


def test_a_peer_that_has_nothing_to_do_or_has_gone_is_passed_over() -> None:
    kit = Kit()
    one, two = kit.peer(1), kit.peer(2)
    kit.agenda.note(one, 10.0)
    kit.agenda.note(one, None)
    kit.agenda.note(two, 10.0)
    kit.peers.remove(two)
    assert kit.due(100.0) == []
    assert kit.agenda.next_at() is None


def test_a_new_peer_does_not_take_over_the_moment_of_one_that_has_gone() -> None:
    kit = Kit()
    old = kit.peer(1)
    kit.agenda.note(old, 10.0)
    kit.peers.remove(old)
    new = kit.peer(2)
    kit.agenda.note(new, 50.0)
    assert kit.due(20.0) == []
    assert kit.due(50.0) == [2]


def test_clear_forgets_everybody() -> None:
    kit = Kit()
    one = kit.peer(1)
    kit.agenda.note(one, 10.0)
    kit.agenda.clear()
    assert kit.agenda.next_at() is None
    assert one.look_at is None
    kit.agenda.note(one, 40.0)
    assert kit.due(40.0) == [1]
