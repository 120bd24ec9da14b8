"""Port mapping in a process with the privileges of wgpyd, for the tests of it.

    python -m tests.support.portmap_daemon PORT

Prints each change in one line, and gives the mapping back at SIGTERM.
"""

import asyncio
import signal
import sys

from wgpy.device.daemon import _restrict
from wgpy.nat.mapping import Changed
from wgpy.nat.portmap_run import PortMapper


def tell(change: Changed) -> None:
    """Print a change at once."""
    mapping = change.mapping
    print(f"{mapping.service.value} {mapping.external}" if mapping else "none", flush=True)


async def serve(port: int) -> None:
    """Keep the port until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    mapper = PortMapper(tell, secret=bytes(32))
    mapper.set_port(port)
    await ended.wait()
    await mapper.close(30.0)
    print("ended", flush=True)


if __name__ == "__main__":
    _restrict(None)
    asyncio.run(serve(int(sys.argv[1])))
