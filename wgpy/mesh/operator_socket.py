"""The operator's socket: root of this machine asks, one line of JSON each way.

    {"ask": "invite", "name": "laptop", "groups": ["laptops"], "uses": 1, "seconds": 3600}
    {"ask": "nodes"}    {"ask": "remove", "name": "laptop"}    ..

What is refused is answered with `error`, a word, and `message`, a sentence (ask.py).
"""

import asyncio
import contextlib
import json
import logging
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from wgpy.identity.jose import JsonError, load_object
from wgpy.identity.signer import Signer
from wgpy.mesh.desk import Desk, Refuse, refusal_of
from wgpy.mesh.fields import RecordError
from wgpy.mesh.operator_acts import ACTS

# An operator and a few scripts.
MAX_CONNECTIONS: Final = 16
_MAX_LINE: Final = 1 << 18
_SECONDS: Final = 30.0

_log = logging.getLogger(__name__)

Act = Callable[[Desk, Signer, dict[str, Any]], Awaitable[dict[str, Any]]]


class OperatorSocket:
    """Serves one desk. `key` signs the tokens of joining lines."""

    def __init__(self, desk: Desk, key: Signer, path: Path) -> None:
        self._desk = desk
        self._key = key
        self._path = path
        self._server: asyncio.Server | None = None
        self._open = 0

    async def start(self) -> None:
        """Listen; a socket that a dead coordinator left is replaced. Raises OSError."""
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(self._path.lstat().st_mode):
                raise FileExistsError(None, "it is no socket", str(self._path))
            self._path.unlink()
        umask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(
                self._connected, str(self._path), limit=_MAX_LINE
            )
        finally:
            os.umask(umask)

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > MAX_CONNECTIONS:
                return
            async with asyncio.timeout(_SECONDS):
                line = await reader.readline()
            answer = await self._answer(line)
            writer.write(json.dumps(answer).encode() + b"\n")
            async with asyncio.timeout(_SECONDS):
                await writer.drain()
        except (OSError, TimeoutError, ValueError):
            # It broke off, said nothing, or too much at once: it gets no answer.
            self._desk.counters["operator_broken"] += 1
        finally:
            self._open -= 1
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            asked = load_object(line)
            act = ACTS.get(str(asked.pop("ask", None)))
            if act is None:
                raise Refuse(404, "unknown", "the coordinator knows no such request")
            return await act(self._desk, self._key, asked)
        except (JsonError, RecordError) as error:
            return {"error": "malformed", "message": f"the request cannot be: {error}"}
        except Exception as error:
            found = refusal_of(error)
            if found is None:
                _log.exception("a request of the operator failed")
                return {"error": "fault", "message": f"a fault of the coordinator: {error}"}
            return {"error": found.word, "message": str(found)}
