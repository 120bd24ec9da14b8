"""The three places for a peer's key pairs and how pairs move through them.

The rules are those of the kernel's add_new_keypair and received_with_keypair (whitepaper 6.3).
"""

from typing import Generic, TypeVar

T = TypeVar("T")


class KeyPairs(Generic[T]):
    """previous: packets under way may still use it. current: what is sealed with. next: we
    answered an initiation, and its sender has not yet shown that the answer arrived.

    Each move returns the pairs that fell out, for the caller to wipe; never one still in a place.
    """

    __slots__ = ("current", "next", "previous")

    def __init__(self) -> None:
        self.previous: T | None = None
        self.current: T | None = None
        self.next: T | None = None

    def pairs(self) -> list[T]:
        """The pairs held now: previous, current, next, as far as there are any."""
        return _present(self.previous, self.current, self.next)

    def install_current(self, pair: T) -> list[T]:
        """Called as the initiator, when the response was accepted: both sides have the pair."""
        if self.next is None:
            dropped = _present(self.previous)
            self.previous = self.current
        else:
            # Both sides began at once. The peer, initiator of `next`, may be sealing with it
            # already, so it outlives the older current pair.
            dropped = _present(self.previous, self.current)
            self.previous, self.next = self.next, None
        self.current = pair
        return dropped

    def install_next(self, pair: T) -> list[T]:
        """Called as the responder, before the response is sent."""
        dropped = _present(self.next, self.previous)
        self.next, self.previous = pair, None
        return dropped

    def confirm(self, pair: T) -> list[T]:
        """Called when a packet was opened with `pair`: if it is the next one, it moves up."""
        if self.next is None or pair is not self.next:
            return []
        dropped = _present(self.previous)
        self.previous, self.current, self.next = self.current, self.next, None
        return dropped

    def clear(self) -> list[T]:
        """Called when every key is to go; returns them all."""
        dropped = self.pairs()
        self.previous = self.current = self.next = None
        return dropped


def _present(*pairs: T | None) -> list[T]:
    return [pair for pair in pairs if pair is not None]
