"""How often our NAT's mapping is to be used: measured once a day in each network (lifetime.py).

The search has a side socket of its own, so that the tunnel's own mapping is never at risk. What was
found in a network is remembered for when the machine is there again.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

from wgpy.nat.errands import Office, Socket
from wgpy.nat.lifetime import Lifetime
from wgpy.nat.place import Place

# Networks that are remembered: at home, at work, on the way, and a few more.
MAX_NETWORKS: Final = 8
# A network that is left sooner is not worth a search, and other things are to be done there first.
SETTLED_SECONDS: Final = 60.0
# What the search's client calls its only socket.
_SIDE: Final = -1


class Keeper:
    """`interval` is how often a mapping needs a packet, in seconds. `random` gives random bytes."""

    def __init__(self, office: Office, random: Callable[[int], bytes]) -> None:
        self._office = office
        self._random = random
        self._networks: dict[tuple[str, ...], Lifetime] = {}
        self._current = self._of(())
        # When a search may begin here.
        self._after = float("inf")
        self._socket: Socket | None = None

    def _of(self, network: tuple[str, ...]) -> Lifetime:
        found = self._networks.pop(network, None) or Lifetime(self._random)
        while len(self._networks) >= MAX_NETWORKS:
            del self._networks[next(iter(self._networks))]
        self._networks[network] = found
        return found

    @property
    def interval(self) -> float:
        """Seconds between two packets, by what is known of this network."""
        return self._current.interval

    @property
    def counters(self) -> Counter[str]:
        """What the searches counted, under `lifetime_`."""
        found: Counter[str] = Counter()
        for lifetime in self._networks.values():
            found.update({f"lifetime_{name}": n for name, n in lifetime.counters.items()})
        return found

    def network(self, ways_out: tuple[str, ...], now: float) -> None:
        """The machine is in the network with these ways outside."""
        found = self._of(ways_out)
        if found is not self._current or self._after == float("inf"):
            self.stop()
            self._current = found
            self._after = now + SETTLED_SECONDS

    def stop(self) -> None:
        """Search no further."""
        self._current.break_off()
        self._close()
        self._after = float("inf")

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def tick(self, server: Place | None, now: float) -> None:
        """Do what is due. `server` is a STUN server of IPv4 that answers through a NAT, if there
        is one."""
        lifetime = self._current
        if server is not None and now >= self._after and lifetime.may_begin(now):
            # In vain or not, not at every tick: without a socket it is tried a minute later.
            self._after = now + SETTLED_SECONDS
            self._socket = self._office.open_socket(4, self._came)
            if self._socket is not None:
                lifetime.begin(server._replace(via=_SIDE), now)
        lifetime.tick(now)
        self._send()

    def _came(self, data: bytes, source: Place) -> None:
        self._current.receive(data, source._replace(via=_SIDE), self._office.now())
        self._send()

    def _send(self) -> None:
        for order in self._current.take():
            if self._socket is not None:
                self._socket.send(order.data, order.to, order.ttl, order.whole)
        if not self._current.is_searching:
            self._close()

    def due(self, server: Place | None, now: float) -> float | None:
        """When `tick` has something to do."""
        begin = self._current.may_begin_at()
        moments = [self._current.due()]
        if server is not None and begin is not None and self._after != float("inf"):
            moments.append(max(self._after, begin, now))
        return min((each for each in moments if each is not None), default=None)
