"""A process that the agent keeps beside it: started, and started again when it ends."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Sequence
from typing import Final

from wgpy.linux.sandbox import ended_with_parent
from wgpy.mesh import events

_log = logging.getLogger(__name__)

LEAST_PAUSE: Final = 1.0
MOST_PAUSE: Final = 60.0
# Who ran for so long had begun: the next pause is the first.
STEADY: Final = 60.0
# From SIGTERM to SIGKILL: a coordinator ends its transactions.
_GRACE: Final = 10.0


class Child:
    """Keeps the program of these words running while `run` is."""

    def __init__(self, what: str, words: Sequence[str]) -> None:
        self._what = what
        self._words = tuple(words)
        self.pid: int | None = None

    async def run(self) -> None:
        """Until cancelled; then the program is ended."""
        pause = LEAST_PAUSE
        while True:
            began = time.monotonic()
            code = await self._once()
            pause = LEAST_PAUSE if time.monotonic() - began >= STEADY else pause
            _log.error("%s", events.child_ended(self._what, code, pause))
            await asyncio.sleep(pause)
            pause = min(MOST_PAUSE, 2 * pause)

    async def _once(self) -> int:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._words,
                stdin=asyncio.subprocess.DEVNULL,
                # Were we killed, it would hold its port, and the next agent could start no other.
                preexec_fn=ended_with_parent(signal.SIGTERM),
            )
        except OSError as error:
            _log.error("%s: %s", self._words[0], error.strerror)
            return 127
        self.pid = process.pid
        try:
            return await process.wait()
        finally:
            self.pid = None
            if process.returncode is None:
                await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            process.send_signal(number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _GRACE)
            return
