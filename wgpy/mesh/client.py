"""Asks one coordinator by its API, inside the tunnel: each request is signed (auth.py).

The tunnel encrypts, and proves to us who answers; the signature proves to the coordinator that this
node asks, and not somebody else behind its address. Sockets are bound to the tunnel's link, so that
nothing of this ever goes out by another one, whatever the machine's routes are.
"""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aiohttp
from yarl import URL

from wgpy.ip import address_text
from wgpy.keys import PrivateKey, PublicKey
from wgpy.mesh import auth, messages, wire
from wgpy.mesh.messages import Changed, Refusal, Signalled
from wgpy.mesh.wire import WireError

# A handshake that is lost is tried again after 5 s; then comes TCP's own.
CONNECT_TIMEOUT: Final = 8.0
# A coordinator answers in milliseconds, and waits for its database for 15 s.
ANSWER_TIMEOUT: Final = 20.0
# It sends a ping 84 s after the last that it heard of us (api_socket.py): that is missed, and had
# time to be sent again. What we send puts the ping off, and must be acknowledged by TCP instead.
SILENCE: Final = 100.0
# What we say and nobody acknowledges: the way is gone, and another coordinator is better.
UNACKNOWLEDGED_MS: Final = 15_000
# One message: a page of the directory is the longest.
_MAX_EVENT: Final = wire.MAX_ANSWER

_T = TypeVar("_T")


class ApiError(Exception):
    """A coordinator cannot be asked, or answers what makes no sense: one line."""


class RefusedError(ApiError):
    """A coordinator says no: `word` is for programs, the text for a person."""

    def __init__(self, status: int, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.status = status
        self.word = refusal.error


class Client:
    """One coordinator, at `address` (4 or 16 bytes) inside the tunnel. A context manager.

    `wall` is our clock; how far the coordinator's is from it is found out. `link` is the tunnel's
    interface, None where the coordinator is this very node. The methods raise ApiError.
    """

    def __init__(
        self,
        key: PrivateKey,
        coordinator: PublicKey,
        address: bytes,
        *,
        link: str | None,
        wall: Callable[[], float] = time.time,
        port: int = wire.PORT,
    ) -> None:
        self._own = key.public()
        self._mac_key = auth.api_key(key.shared_secret(coordinator), self._own, coordinator)
        self._wall = wall
        self._link = link
        # What the coordinator's clock has more than ours, in seconds; None until it told.
        self.ahead: float | None = None
        host = address_text(address)
        self._base = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=4, socket_factory=self._socket),
            # Nothing of other people's: no cookies, no proxies, no compression.
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT, sock_connect=CONNECT_TIMEOUT),
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        made = socket.socket(info[0], info[1], info[2])
        try:
            if self._link is not None:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._link.encode())
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
        except BaseException:
            made.close()
            raise
        return made

    # --- Questions ---

    async def enrol(self, hostname: str, name: str | None) -> messages.Joined | messages.Waiting:
        """Ask to be let in, from within quarantine."""
        body = wire.encode(messages.EnrolRequest(hostname, name))
        status, raw = await self._ask("POST", "/v1/enrol", body)
        if status == 202:
            return self._read(messages.Waiting, raw)
        return self._read(messages.Joined, raw)

    async def renew(self, *, force: bool = False) -> messages.Joined:
        """A new certificate, and whom to trust."""
        return await self._post(messages.Joined, "/v1/renew", messages.RenewRequest(force))

    async def directory(self, since: int) -> messages.Directory:
        """The next page of what has changed."""
        _, raw = await self._ask("GET", f"/v1/directory?since={since}")
        return self._read(messages.Directory, raw)

    async def offer(self, request: messages.OfferRequest) -> messages.NodeView:
        """Say what we would route."""
        return await self._post(messages.NodeView, "/v1/offer", request)

    async def leave(self) -> None:
        """Be no node any more."""
        await self._post(messages.Done, "/v1/leave", messages.Done())

    async def map(self) -> messages.Map:
        """Who reaches whom, and how."""
        _, raw = await self._ask("GET", "/v1/map")
        return self._read(messages.Map, raw)

    async def turn(self) -> messages.TurnCredentials:
        """What opens the network's relays for a while."""
        _, raw = await self._ask("GET", "/v1/turn")
        return self._read(messages.TurnCredentials, raw)

    async def _post(self, kind: type[_T], path: str, message: object) -> _T:
        return self._read(kind, (await self._ask("POST", path, wire.encode(message)))[1])

    # --- How they are asked ---

    async def _ask(self, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body, if it is no refusal. Asks once more if only the clock was wrong."""
        status, raw = await self._exchange(method, target, body)
        if status == 401 and self._learn_time(raw):
            status, raw = await self._exchange(method, target, body)
        if status not in (200, 202):
            raise RefusedError(status, self._read(Refusal, raw))
        return status, raw

    async def _exchange(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        try:
            async with self._session.request(
                method,
                URL(self._base + target, encoded=True),
                data=body or None,
                headers=self._headers(method, target, body)
                | ({"Content-Type": "application/json"} if body else {}),
                allow_redirects=False,
            ) as answer:
                return answer.status, await _bounded(answer.content)
        except TimeoutError:
            raise ApiError("it does not answer") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ApiError(_line(error)) from None

    def _headers(self, method: str, target: str, body: bytes = b"") -> dict[str, str]:
        return auth.sign(
            self._mac_key,
            self._own,
            method,
            target,
            body,
            now=self._wall() + (self.ahead or 0.0),
            nonce=os.urandom(auth.NONCE_LENGTH),
        )

    def _learn_time(self, raw: bytes) -> bool:
        """Whether a refusal told a clock that makes a difference."""
        told = self._read(Refusal, raw).time
        if told is None:
            return False
        former, self.ahead = self.ahead, told - self._wall()
        return abs(self.ahead - (former or 0.0)) > auth.WINDOW / 2

    def _read(self, kind: type[_T], raw: bytes) -> _T:
        try:
            return wire.decode(kind, raw)
        except WireError as error:
            raise ApiError(f"its answer makes no sense: {error}") from None

    # --- The WebSocket ---

    async def open(self) -> "Channel":
        """The WebSocket, over which the coordinator tells news at once."""
        target = "/v1/socket"
        for again in (False, True):
            try:
                opened = await asyncio.wait_for(
                    self._session.ws_connect(
                        URL(self._base + target, encoded=True),
                        headers=self._headers("GET", target),
                        timeout=aiohttp.ClientWSTimeout(ws_receive=SILENCE, ws_close=2.0),
                        max_msg_size=_MAX_EVENT,
                    ),
                    ANSWER_TIMEOUT,
                )
            except aiohttp.WSServerHandshakeError as error:
                if error.status != 401 or again:
                    raise ApiError(f"it opens no WebSocket: status {error.status}") from None
                # Its body is not to be had: any question learns the clock.
                self.ahead = (await self._time()) - self._wall()
                continue
            except TimeoutError:
                raise ApiError("it does not answer") from None
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise ApiError(_line(error)) from None
            return Channel(opened)
        raise ApiError("it opens no WebSocket")

    async def _time(self) -> float:
        status, raw = await self._exchange("GET", "/v1/time", b"")
        if status != 200:
            raise RefusedError(status, self._read(Refusal, raw))
        return self._read(messages.Clock, raw).time


class Channel:
    """A WebSocket that is open. The methods raise ApiError when it is not any more."""

    def __init__(self, opened: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = opened
        self._sent_at = time.monotonic()

    async def events(self) -> AsyncIterator[Changed | Signalled]:
        """What the coordinator says, until it is silent for too long or ends."""
        while True:
            try:
                message = await self._socket.receive()
            except TimeoutError:
                if time.monotonic() - self._sent_at < SILENCE:
                    continue
                raise ApiError("it is silent") from None
            except (aiohttp.ClientError, OSError) as error:
                raise ApiError(_line(error)) from None
            if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                raise ApiError("it closed the connection")
            raw = message.data.encode() if isinstance(message.data, str) else message.data
            try:
                yield wire.decode_event(wire.PUSHED, raw)
            except WireError as error:
                raise ApiError(f"what it says makes no sense: {error}") from None

    async def send(self, message: messages.SignalRequest | messages.Report) -> None:
        """Say something."""
        self._sent_at = time.monotonic()
        try:
            await self._socket.send_str(wire.encode_event(message).decode())
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError(_line(error)) from None

    async def close(self) -> None:
        """End it."""
        await self._socket.close()


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    """A whole body. Raises ValueError for one that is longer than any answer."""
    found = bytearray()
    async for part in content.iter_chunked(1 << 16):
        found += part
        if len(found) > wire.MAX_ANSWER:
            raise ValueError("its answer is too long")
    return bytes(found)


def _line(error: Exception) -> str:
    """A failure in one line."""
    os_error = getattr(error, "os_error", None)
    if isinstance(os_error, OSError) and os_error.strerror:
        return os_error.strerror
    return " ".join(str(error).split()) or type(error).__name__
