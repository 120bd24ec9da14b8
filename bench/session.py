"""What a run keeps between its samples: a tunnel of each contender for the length of a round, and
what was found so far, where the next search of the same thing begins."""

import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from bench.contenders import Contender
from bench.lab import Road, bare_road, road_through, tunnel_of
from bench.search import Start
from tests.support.netns import Pair
from tests.support.tunnel import Tunnel

# The first step of a search from what the same contender had in the round before, and from what it
# had at another packet size in this one. Samples of a machine at rest differ by some percent; rates
# in packets differ between sizes by some tens of percent.
KNOWN_STEP = 1.06
RELATED_STEP = 1.25


class Session:
    """A context manager: at its end no tunnel is left.

    The tunnels of all contenders stand side by side, in namespaces of their own, so that samples
    of the same measure follow one another at once. Whoever is not measured has nothing to do.
    """

    def __init__(self) -> None:
        self._open: dict[str, contextlib.ExitStack] = {}
        self._tunnels: dict[str, tuple[Pair, Tunnel]] = {}
        self._roads: dict[str, Road] = {}
        self._found: dict[tuple[str, str], dict[float, float]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end_round()

    @contextlib.contextmanager
    def road(self, contender: Contender) -> Iterator[Road]:
        """The way through the tunnel of `tunnel`, or over the bare link."""
        if contender.is_bare:
            with self._discarding(contender.name):
                yield self._bare(contender.name)
            return
        with self.tunnel(contender):
            yield self._roads[contender.name]

    @contextlib.contextmanager
    def tunnel(self, contender: Contender) -> Iterator[tuple[Pair, Tunnel]]:
        """The contender's tunnel of this round, with a new session: both ends forgot the old one,
        and a first packet went through. One in which something failed is not used again."""
        name = contender.name
        with self._discarding(name):
            if name not in self._tunnels:
                stack = self._open[name] = contextlib.ExitStack()
                net, made = self._tunnels[name] = stack.enter_context(tunnel_of(contender))
                self._roads[name] = road_through(net, made)
            else:
                net, made = self._tunnels[name]
                # No key is renewed in the midst of a sample: that is after 120 s.
                made.right.restart_sessions()
                made.left.restart_sessions()
                net.left.ping(made.right.address)
            yield net, made

    def _bare(self, name: str) -> Road:
        if name not in self._roads:
            stack = self._open[name] = contextlib.ExitStack()
            self._roads[name] = stack.enter_context(bare_road())
        return self._roads[name]

    @contextlib.contextmanager
    def _discarding(self, name: str) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._close(name)
            raise

    def _close(self, name: str) -> None:
        self._tunnels.pop(name, None)
        self._roads.pop(name, None)
        if (stack := self._open.pop(name, None)) is not None:
            stack.close()

    def end_round(self) -> None:
        """Take down every tunnel: the next round has fresh ones."""
        for name in list(self._open):
            self._close(name)

    def start(self, contender: Contender, what: str, size: float) -> Start | None:
        """Where to begin to search `what` at a packet size; None where nothing is known of it."""
        found = self._found.get((contender.name, what), {})
        if size in found:
            return Start(found[size], KNOWN_STEP)
        if not found:
            return None
        nearest = min(found, key=lambda other: abs(other - size))
        return Start(found[nearest], RELATED_STEP)

    def remember(self, contender: Contender, what: str, size: float, value: float) -> None:
        """That a search of `what` ended here."""
        if value > 0:
            self._found.setdefault((contender.name, what), {})[size] = value
