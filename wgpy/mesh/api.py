"""The coordinator's API: aiohttp on its tunnel addresses, and who may ask for what.

Before a handler sees a request, in this order: it came from an address of the network, `Host` is
ours, there is no `Origin`, its sender does not ask too often, it is short, it has a MAC by the key
that it names, and the daemon says that this key has the address. docs/protocol.md has the requests.
"""

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from wgpy.identity.profile import within
from wgpy.ip import Prefix, address_text, parse_address
from wgpy.keys import KeyFormatError, PublicKey
from wgpy.mesh import api_directory, api_enrol, api_signal, api_socket, auth, wire
from wgpy.mesh.auth import AuthError, Nonces
from wgpy.mesh.callers import Caller
from wgpy.mesh.desk import Desk, Refuse, refusal_of
from wgpy.mesh.messages import Clock, Refusal
from wgpy.mesh.rates import Rates
from wgpy.mesh.records import NodeState
from wgpy.mesh.wire import MAX_BODY, WireError

# Requests a second from one address, and at once: a node has some, and then for minutes none.
RATE: Final = 20.0
BURST: Final = 80.0
MAX_ADDRESSES: Final = 16_384
# Seconds for the whole of a request to come: 64 KiB over a slow line.
BODY_SECONDS: Final = 10.0
# TCP connections: of an agent two, and the largest network has 10,000.
MAX_CONNECTIONS: Final = 20_000
MAX_CONNECTIONS_OF_ADDRESS: Final = 16
# Seconds in which a new connection must have asked something.
SILENCE: Final = 15.0
_SWEEP: Final = 5.0
_MAX_KEYS: Final = 16_384
_log = logging.getLogger(__name__)

# Longer than a base64 key, a path and a query; headers that others need are longer than ours.
_MAX_LINE: Final = 4_096
# What a connection without a request may stay open for.
_KEEPALIVE: Final = 30.0
# Who is in quarantine may ask for the first; anybody inside for the second.
_ENROL: Final = "/v1/enrol"
_TIME: Final = "/v1/time"
_SOCKET: Final = "/v1/socket"

Handler = Callable[[Desk, Caller, dict[str, str], bytes], Awaitable[tuple[int, bytes]]]

_HANDLERS: Final[dict[tuple[str, str], Handler]] = {
    ("POST", _ENROL): api_enrol.enrol,
    ("POST", "/v1/renew"): api_enrol.renew,
    ("POST", "/v1/leave"): api_enrol.leave,
    ("GET", "/v1/directory"): api_directory.directory,
    ("POST", "/v1/offer"): api_directory.offer,
    ("POST", "/v1/report"): api_directory.report,
    ("GET", "/v1/map"): api_directory.map_,
    ("POST", "/v1/signal"): api_signal.signal,
    ("GET", "/v1/turn"): api_signal.turn,
}
_PATHS: Final = {path for _, path in _HANDLERS} | {_TIME, _SOCKET}


@dataclass(frozen=True, slots=True)
class Listens:
    """Where the API is: addresses of 4 or 16 bytes, a TCP port, and what our node is called."""

    addresses: tuple[bytes, ...]
    port: int
    name: str = ""

    def places(self) -> list[str]:
        """Each address with the port."""
        bare = (address_text(x) for x in self.addresses)
        return [f"[{x}]:{self.port}" if ":" in x else f"{x}:{self.port}" for x in bare]

    def hosts(self) -> frozenset[str]:
        """Each way to write it in a `Host` header."""
        bare = [address_text(x) for x in self.addresses]
        found = [f"[{x}]" if ":" in x else x for x in bare] + ([self.name] if self.name else [])
        return frozenset({*found, *(f"{x}:{self.port}" for x in found)})


class Api:
    """The server of one coordinator."""

    def __init__(self, desk: Desk, listens: Listens) -> None:
        self._desk = desk
        self._listens = listens
        self._hosts = listens.hosts()
        self._nonces = Nonces()
        self._rates = Rates(RATE, BURST, MAX_ADDRESSES)
        # What a node's key and ours have in common, computed once.
        self._keys: OrderedDict[PublicKey, bytes] = OrderedDict()
        self._server = web.Server(
            self._handle,
            access_log=None,
            keepalive_timeout=_KEEPALIVE,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
            auto_decompress=False,
        )
        self._runner = web.ServerRunner(self._server)
        # Connections on which something was asked.
        self._asked: set[RequestHandler] = set()
        self._since: dict[RequestHandler, float] = {}
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen on every address. Raises OSError, as for one that is not there yet."""
        await self._runner.setup()
        try:
            for address in self._listens.addresses:
                site = web.TCPSite(
                    self._runner, address_text(address), self._listens.port, backlog=1_024
                )
                await site.start()
        except OSError:
            await self._runner.cleanup()
            raise
        self._sweeping = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        """Listen no more, and drop every connection."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        await self._runner.cleanup()

    # --- Connections ---

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            self.look()

    def look(self) -> None:
        """Drop connections that say nothing, and those that are too many."""
        now = self._desk.clock()
        since: dict[RequestHandler, float] = {}
        counts: dict[bytes, int] = {}
        for handler in self._server.connections:
            if handler.transport is None:
                continue
            at = self._since.get(handler, now)
            address = _peer_of(handler.transport)
            counts[address] = counts.get(address, 0) + 1
            silent = handler not in self._asked and now - at > SILENCE
            many = counts[address] > MAX_CONNECTIONS_OF_ADDRESS or len(since) >= MAX_CONNECTIONS
            if silent or many:
                self._desk.counters["connections_dropped"] += 1
                handler.transport.abort()
            else:
                since[handler] = at
        self._since = since
        self._asked &= since.keys()

    # --- Requests ---

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._asked.add(request.protocol)
        try:
            return await self._answer(request)
        except AuthError as error:
            status = 429 if error.reason == "too-many" else 401
            refuse = Refuse(status, error.reason, str(error))
        except WireError as error:
            refuse = Refuse(400, "malformed", f"the request is not as it has to be: {error}")
        except TimeoutError:
            refuse = Refuse(408, "slow", "the request did not come in time")
        except Exception as error:
            found = refusal_of(error)
            if found is None:
                _log.exception("a request failed")
            refuse = found or Refuse(500, "fault", "the coordinator has a fault; its journal says")
        self._desk.counters[f"refused_{refuse.word}"] += 1
        return self._refused(refuse)

    def _refused(self, refuse: Refuse) -> web.Response:
        time = self._desk.wall() if refuse.status == 401 else None
        body = wire.encode(Refusal(refuse.word, _sentence(str(refuse)), time))
        response = _response(refuse.status, body)
        if refuse.status in (400, 408, 413):
            # What is left of the request is nobody's business.
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        desk = self._desk
        address = _peer_of(request.transport)
        self._check_source(request, address)
        body = await self._body(request)
        method, path = request.method, request.rel_url.raw_path
        if path not in _PATHS:
            raise Refuse(404, "unknown", "there is nothing of this name")
        if (method, path) == ("GET", _TIME):
            return _response(200, wire.encode(Clock(desk.wall())))
        handler = _HANDLERS.get((method, path))
        if handler is None and (method, path) != ("GET", _SOCKET):
            raise Refuse(405, "method", "this is asked in another way")
        caller = await self._authenticated(request, address, body)
        caller = await self._member(caller, path)
        desk.counters[f"requests_{path.rpartition('/')[2]}"] += 1
        if handler is None:
            return await api_socket.serve(desk, caller, request)
        status, text = await handler(desk, caller, dict(request.rel_url.query), body)
        return _response(status, text)

    def _check_source(self, request: web.BaseRequest, address: bytes) -> None:
        ranges = self._desk.come_from()
        if not address or not within(Prefix(address, 8 * len(address)), ranges):
            raise Refuse(403, "elsewhere", "this is for nodes of the network, inside the tunnel")
        if request.headers.get("Host", "").lower() not in self._hosts:
            raise Refuse(421, "host", "this coordinator is called otherwise")
        if "Origin" in request.headers:
            raise Refuse(403, "origin", "this is not for pages in a browser")
        if not self._rates.allow(address, self._desk.clock()):
            raise Refuse(429, "rate", "too many requests: ask again later")

    async def _body(self, request: web.BaseRequest) -> bytes:
        long = Refuse(413, "too-long", f"a request has at most {MAX_BODY:,} bytes")
        if (request.content_length or 0) > MAX_BODY:
            raise long
        if "Content-Encoding" in request.headers:
            raise Refuse(415, "encoding", "a request is not compressed")
        found = bytearray()
        async with asyncio.timeout(BODY_SECONDS):
            async for data in request.content.iter_any():
                found += data
                if len(found) > MAX_BODY:
                    raise long
        return bytes(found)

    async def _authenticated(self, request: web.BaseRequest, address: bytes, body: bytes) -> Caller:
        """Who asks: by the MAC, and by what the daemon says of the address."""
        desk = self._desk
        proof = auth.read_proof(request.headers)
        auth.verify(
            proof,
            self._key(proof.key),
            request.method,
            request.rel_url.raw_path_qs,
            body,
            wall=desk.wall(),
            now=desk.clock(),
            nonces=self._nonces,
        )
        caller = await desk.call(desk.callers.of, proof.key, address)
        if caller is None:
            raise AuthError("session", "this key has no session from the address that it asks from")
        return caller

    def _key(self, node: PublicKey) -> bytes:
        found = self._keys.get(node)
        if found is None:
            try:
                secret = self._desk.own.shared_secret(node)
            except KeyFormatError as error:
                raise AuthError("headers", str(error)) from None
            found = auth.api_key(secret, node, self._desk.public)
            self._keys[node] = found
            if len(self._keys) > _MAX_KEYS:
                self._keys.popitem(last=False)
        return found

    async def _member(self, caller: Caller, path: str) -> Caller:
        """Who is in quarantine may enrol, and nothing else; members may do the rest."""
        if caller.jti is not None:
            if path != _ENROL:
                raise Refuse(403, "quarantine", "this machine has yet to enrol")
            return caller
        desk = self._desk
        node = desk.roll.node(caller.key) or desk.recent.get(caller.key)
        if node is None or node.state is NodeState.PENDING:
            # It was let in a moment ago, maybe by another coordinator.
            node = await desk.call(desk.store.node_of, caller.key)
        if node is not None and node.state is NodeState.REMOVED:
            raise Refuse(403, "removed", f"this key was {node.name}'s, which was removed")
        if node is None or node.state is not NodeState.ACTIVE:
            raise Refuse(403, "stranger", "this key is no node's that this coordinator knows")
        if path == _ENROL:
            raise Refuse(409, "member", "this machine is in the network already: it may renew")
        return replace(caller, node=node)


def _peer_of(transport: asyncio.BaseTransport | None) -> bytes:
    """The other end's address, 4 or 16 bytes; nothing where there is none any more."""
    name: Sequence[object] | None = (
        None if transport is None else transport.get_extra_info("peername")
    )
    if not name:
        return b""
    try:
        # A zone may follow an address of one link, which none of ours is.
        return parse_address(str(name[0]).partition("%")[0])
    except ValueError:
        return b""


class _Answer(web.Response):
    """Lets go of its body when that is written: the server keeps the last answer of a connection
    for as long as the next request lasts, a WebSocket for days, and a directory has a megabyte."""

    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(data)
        self.body = None


def _response(status: int, body: bytes) -> web.Response:
    return _Answer(status=status, body=body, content_type="application/json")


def _sentence(text: str) -> str:
    """Printable, in one line, and not too long: it may be a database's own words."""
    line = " ".join(text.split())
    return json.dumps(line)[1:-1][:480] if not line.isprintable() else line[:480]
