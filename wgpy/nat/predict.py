"""Which port a NAT will take next, where its mappings depend on the destination.

Some allocate in order: each new mapping gets the port of the last one and a step. Then the port for
the peer is a little beyond the one that a STUN server saw a moment ago, and whoever else is behind
the NAT has taken few in between. Others keep the local port where they can.
"""

from collections.abc import Iterator
from typing import Final

from wgpy.nat.candidates import MAX_CANDIDATES, Candidate, Kind
from wgpy.nat.facts import NatFacts

# The probes of one round to other candidates take ports too, and so does the neighbour's browser.
MAX_GUESSES: Final = 8
# Below are the ports of services, which no NAT gives out.
_LOWEST: Final = 1024
_HIGHEST: Final = 65535


def guesses(
    facts: NatFacts, seen: tuple[str, int], local_port: int, room: int = MAX_CANDIDATES
) -> Iterator[Candidate]:
    """At most `room` guesses for a socket with this local port, that STUN just saw as `seen`.

    None for a NAT that shows everybody the same port: there is nothing to guess.
    """
    host, port = seen
    if facts.is_sequential:
        for number in range(1, min(room, MAX_GUESSES) + 1):
            guess = port + number * facts.step
            # NATs turn round within a range that we do not know.
            if _LOWEST <= guess <= _HIGHEST:
                yield Candidate(Kind.PREDICTED, host, guess)
    elif facts.depends and room > 0 and local_port != port:
        # Taken already towards the STUN server, the local port may be free towards the peer; and a
        # router that was told to forward it does so from everywhere.
        yield Candidate(Kind.PREDICTED, host, local_port)
