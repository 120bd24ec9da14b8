"""The replay window of one key pair (RFC 6479; whitepaper 5.4.6)."""

from wgpy.protocol.constants import REPLAY_WINDOW_BITS, REPLAY_WINDOW_USABLE

_WORD_BITS = 64
_WORDS = REPLAY_WINDOW_BITS // _WORD_BITS
_WORD_MASK = _WORDS - 1


class ReplayWindow:
    """Which counters were seen: a ring of 64-bit words, so that moving on clears whole words.

    Ask only after the packet was authenticated; otherwise a forger could close the window.
    """

    __slots__ = ("_greatest", "_words")

    def __init__(self) -> None:
        self._greatest = -1
        self._words = [0] * _WORDS

    def accept(self, counter: int) -> bool:
        """Whether `counter` (0 to 2^64-1) is new, and remember it."""
        word = counter >> 6
        greatest = self._greatest
        if counter > greatest:
            former = greatest >> 6
            for offset in range(1, min(word - former, _WORDS) + 1):
                self._words[(former + offset) & _WORD_MASK] = 0
            self._greatest = counter
        elif greatest - counter > REPLAY_WINDOW_USABLE:
            return False
        bit = 1 << (counter & 63)
        slot = word & _WORD_MASK
        if self._words[slot] & bit:
            return False
        self._words[slot] |= bit
        return True
