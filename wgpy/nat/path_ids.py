"""Path identifiers: 8 random bytes at the head of each probe, which say whose it is.

Each side gives out four in a signal. They stand in the clear, so whoever sees one node on two
networks could tell by them that it is the same: a fresh one is used on each local network. After
the fourth the last one stays in use until the next signal brings new ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from wgpy.nat.probe import Window
from wgpy.protocol.constants import PATH_ID_LENGTH

IDS_IN_SIGNAL: Final = 4
# Sets that were given out and are still listened to: the one in use, the one before it, of which
# datagrams may be under way, and one or two in signals that may or may not have arrived.
MAX_SETS: Final = 4


@dataclass(eq=False, slots=True)
class IdSet:
    """What one signal gave out. Each set has a window of its own, so a peer that began to count
    anew, with the ids of a new signal, is heard, and what was recorded dies with its set.

    `confirmed`: the peer has used it.
    """

    ids: tuple[bytes, ...]
    window: Window = field(default_factory=Window)
    confirmed: bool = False


class OurIds:
    """Those by which the peer calls us."""

    __slots__ = ("_random", "_sets")

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._sets: list[IdSet] = []

    def all(self) -> tuple[bytes, ...]:
        """Everything that we listen to, at most 16."""
        return tuple(each for found in self._sets for each in found.ids)

    def to_tell(self, *, new: bool = False) -> IdSet:
        """The set for the next signal: the last one, if the peer has not used it, else a new one.

        `new`: a new one in any case, since the local network has changed, or its use is to tell
        something. What the peer uses is never given up for one that it may never have got.
        """
        if self._sets and not self._sets[-1].confirmed and not new:
            return self._sets[-1]
        made = IdSet(tuple(self._random(PATH_ID_LENGTH) for _ in range(IDS_IN_SIGNAL)))
        if len(self._sets) == MAX_SETS:
            unused = [found for found in self._sets if not found.confirmed]
            self._sets.remove(unused[0] if unused else self._sets[0])
        self._sets.append(made)
        return made

    def find(self, path_id: bytes) -> tuple[IdSet, int] | None:
        """The set that an id is of, and which of the four it is."""
        for found in self._sets:
            if path_id in found.ids:
                return found, found.ids.index(path_id)
        return None

    def confirm(self, used: IdSet) -> None:
        """Called when the peer sent something authentic to this set. Of the sets before it the last
        one that was used stays."""
        if used.confirmed:
            return
        used.confirmed = True
        place = self._sets.index(used)
        before = [found for found in self._sets[:place] if found.confirmed][-1:]
        self._sets = [*before, *self._sets[place:]]


class TheirIds:
    """Those by which we call the peer: one at a time."""

    __slots__ = ("_ids", "_used", "spent")

    def __init__(self) -> None:
        self._ids: tuple[bytes, ...] = ()
        self._used = 0
        # How often a fresh one was wanted and none was left.
        self.spent = 0

    @property
    def current(self) -> bytes | None:
        """The one to use now, None before the first signal."""
        return self._ids[self._used] if self._ids else None

    def told(self, ids: tuple[bytes, ...]) -> None:
        """A signal brought these."""
        if ids != self._ids:
            self._ids, self._used = ids, 0

    def advance(self) -> None:
        """Called when our local network changed: a fresh one from now on."""
        if not self._ids:
            return
        if self._used + 1 < len(self._ids):
            self._used += 1
        else:
            self.spent += 1

    def follow(self, index: int) -> bool:
        """Called when the peer used that one of ours: if that is further on than where we are, its
        network has changed, and what we send there must not carry what it had before. True then."""
        if not self._ids or index <= self._used:
            return False
        self._used = min(index, len(self._ids) - 1)
        return True
