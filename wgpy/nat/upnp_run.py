"""Orders for UPnP, carried out by processes that are killed when they take too long."""

import asyncio
import contextlib
import importlib.util
import os
import sys
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from wgpy.nat.upnp import MAX_OUTCOME, Order, Outcome, order_text, parse_outcome
from wgpy.protocol.messages import ParseError

# Longer than upnp_worker.py lives by itself.
ORDER_LIMIT: Final = 20.0
# Orders that wait; more are dropped. One is under way and one undoes it, for each network left.
MAX_ORDERS: Final = 8


def why_no_upnp() -> str:
    """Why UPnP cannot be asked here; empty if it can."""
    if importlib.util.find_spec("miniupnpc") is None:
        return "miniupnpc is not installed (pip install 'wgpy[upnp]')"
    return "" if sys.executable else "no interpreter is known to run it"


class Worker:
    """Carries out orders for UPnP, one after the other; `done` is called with each outcome."""

    def __init__(self, done: Callable[[Order, Outcome], None]) -> None:
        self._done = done
        # The first is under way.
        self._orders: deque[Order] = deque()
        self._task: asyncio.Task[None] | None = None
        self.counters: Counter[str] = Counter()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._orders

    def take(self, order: Order) -> None:
        """Carry out an order when those before it are done."""
        loop = asyncio.get_running_loop()
        if len(self._orders) >= MAX_ORDERS:
            self.counters["orders dropped"] += 1
            loop.call_soon(self._done, order, Outcome(refusal="too many orders wait"))
            return
        self._orders.append(order)
        if self._task is None:
            self._task = loop.create_task(self._work())

    async def close(self) -> None:
        """Kill what is under way, and forget the rest."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._orders.clear()

    async def _work(self) -> None:
        while self._orders:
            order = self._orders[0]
            outcome = await carry_out(order)
            self._orders.popleft()
            self._done(order, outcome)
        self._task = None


async def carry_out(order: Order) -> Outcome:
    """Have one order carried out by a process (upnp_worker.py)."""
    try:
        process = await _start(order)
    except OSError as error:
        return Outcome(refusal=f"no process for UPnP: {error.strerror}")
    try:
        async with asyncio.timeout(ORDER_LIMIT):
            outcome = parse_outcome(await _read(process))
    except TimeoutError:
        return Outcome(refusal="the router answers too slowly")
    except ParseError:
        return Outcome(refusal="the process for UPnP failed")
    finally:
        if process.returncode is None:
            # It may have ended meanwhile.
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()
    return outcome


async def _start(order: Order) -> asyncio.subprocess.Process:
    # wgpyd may open nothing for writing, not even this. What miniupnpc says on standard error of
    # every closed port is refused by a descriptor that can only be read.
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return await asyncio.create_subprocess_exec(
            # Without the working directory among the places of modules.
            *(sys.executable, "-P", "-m", "wgpy.nat.upnp_worker", order_text(order)),
            stdin=null,
            stdout=asyncio.subprocess.PIPE,
            stderr=null,
        )
    finally:
        os.close(null)


async def _read(process: asyncio.subprocess.Process) -> bytes:
    """What a process prints; more than an outcome may have is cut off."""
    data = b""
    while process.stdout is not None and len(data) <= MAX_OUTCOME:
        more = await process.stdout.read(MAX_OUTCOME + 1 - len(data))
        if not more:
            await process.wait()
            break
        data += more
    return data
