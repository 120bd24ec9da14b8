"""The agent's socket, /run/wgpy/IF.mesh.sock (0600): one line of JSON in, one line out (ask.py).

    {"ask": "status"}                         who we are, whom we know, what is in the way
    {"ask": "map"}                            who reaches whom, as the coordinator was told
    {"ask": "routes", "accept"?, "exit"?, "offer"?, "masquerade"?}
    {"ask": "leave", "force"?}  {"ask": "stop"}

Root asks, for the directory lets nobody else in; still each question has a bound, and a question
that makes no sense has an answer that says so.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

# A question has some prefixes and names in it.
MAX_QUESTION: Final = 64 * 1024
# Whoever has not asked by then never will; a coordinator may take its time for an answer.
ASK_TIMEOUT: Final = 10.0
MAX_ASKING: Final = 16


class SocketError(Exception):
    """A question is refused: `word` is for programs, the text for a person."""

    def __init__(self, word: str, text: str) -> None:
        super().__init__(text)
        self.word = word


Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class AgentSocket:
    """Listens until `close`. `answer` is called with each question, and raises SocketError."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self._path = path
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._asking = 0

    async def open(self) -> None:
        """Begin. Raises OSError. One that an agent left that was killed is replaced."""
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(
                self._serve, self._path, limit=MAX_QUESTION
            )
        finally:
            os.umask(mask)

    async def close(self) -> None:
        """End, and remove the socket. Whoever has asked is answered first."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._asking += 1
        try:
            async with asyncio.timeout(ASK_TIMEOUT):
                line = await reader.readline()
            answer = await self._reply(line)
            writer.write(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
            await writer.drain()
        except (TimeoutError, ValueError, OSError):
            # Too slow, too long, or gone before the answer: nobody is there to be told.
            writer.transport.abort()
        finally:
            self._asking -= 1
            writer.close()

    async def _reply(self, line: bytes) -> dict[str, Any]:
        if self._asking > MAX_ASKING:
            return _refusal("busy", f"{MAX_ASKING} others are asking")
        try:
            question = json.loads(line)
        except (ValueError, RecursionError):
            question = None
        if not isinstance(question, dict):
            return _refusal("malformed", "a question is a JSON object in one line")
        try:
            return await self._answer(question)
        except SocketError as error:
            return _refusal(error.word, str(error))


def _refusal(word: str, text: str) -> dict[str, Any]:
    return {"error": word, "message": text}
