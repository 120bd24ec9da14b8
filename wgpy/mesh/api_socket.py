"""The WebSocket of a node: changes and signals to it at once, signals and reports from it."""

import asyncio
import logging
from typing import Final

from aiohttp import WSMsgType, web

from wgpy.mesh import api_signal, wire
from wgpy.mesh.callers import Caller
from wgpy.mesh.desk import Desk, Refuse
from wgpy.mesh.hub import Connection
from wgpy.mesh.messages import Changed, Report, SignalRequest
from wgpy.mesh.wire import MAX_BODY, WireError

_log = logging.getLogger(__name__)

# Seconds between pings, which keep the tunnel's session alive: two of the keepalives (25 s) by
# which a node keeps its NAT's mapping, so that each falls together with one.
HEARTBEAT: Final = 50.0
# Seconds in which a node must take what is written to it.
WRITE_SECONDS: Final = 20.0
_CLOSE_SECONDS: Final = 2.0
# Codes of our own (RFC 6455 section 7.4.2): it was ended from here, for the reason beside it.
ENDED: Final = 4_000
MALFORMED: Final = 4_001
# A reason has 123 bytes at the most (RFC 6455 section 5.5).
_MAX_REASON: Final = 123


async def serve(desk: Desk, caller: Caller, request: web.BaseRequest) -> web.StreamResponse:
    """GET /v1/socket, until either side ends it."""
    if not desk.hub.has_room(caller.key):
        raise Refuse(503, "full", "too many nodes are connected, try another coordinator")
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise Refuse(400, "malformed", "this is a WebSocket")
    socket = web.WebSocketResponse(
        heartbeat=HEARTBEAT, max_msg_size=MAX_BODY, compress=False, timeout=_CLOSE_SECONDS
    )
    await socket.prepare(request)
    connection = Connection(caller.key)
    desk.hub.add(connection)
    # Whatever happened while nobody told it.
    connection.changed(wire.encode_event(Changed(desk.roll.revision)))
    writing = asyncio.create_task(_write(desk, socket, connection))
    reading = asyncio.create_task(_read(desk, socket, connection))
    try:
        await asyncio.wait((writing, reading), return_when=asyncio.FIRST_COMPLETED)
    finally:
        desk.hub.remove(connection)
        connection.end("the connection has ended")
        # A WebSocket that is being read cannot say goodbye.
        reading.cancel()
        for ended in await asyncio.gather(reading, writing, return_exceptions=True):
            if isinstance(ended, Exception):
                _log.error("a connection failed", exc_info=ended)
    if not socket.closed:
        reason = (connection.ended or "").encode()[:_MAX_REASON]
        await socket.close(code=ENDED, message=reason)
    return socket


async def _write(desk: Desk, socket: web.WebSocketResponse, connection: Connection) -> None:
    try:
        while events := await connection.next():
            async with asyncio.timeout(WRITE_SECONDS):
                for event in events:
                    await socket.send_frame(event, WSMsgType.TEXT)
    except TimeoutError:
        desk.counters["sockets_slow"] += 1
        connection.end("the node does not read")
    except (ConnectionError, RuntimeError):
        # It is closing already, and the reading side sees that.
        connection.end("the connection is lost")


async def _read(desk: Desk, socket: web.WebSocketResponse, connection: Connection) -> None:
    async for message in socket:
        if message.type is not WSMsgType.TEXT:
            break
        try:
            await _take(desk, connection, wire.decode_event(wire.SENT, message.data.encode()))
        except WireError as error:
            desk.counters["events_malformed"] += 1
            await socket.close(code=MALFORMED, message=str(error).encode()[:_MAX_REASON])
            break


async def _take(desk: Desk, connection: Connection, event: object) -> None:
    now = desk.clock()
    if not desk.signal_rate.allow(connection.key, now):
        # Signals may be lost, and reports are said again.
        desk.counters["events_too_many"] += 1
        return
    match event:
        case SignalRequest():
            await api_signal.pass_on(desk, connection.key, event)
        case Report():
            desk.reports.take(connection.key, event, desk.wall())
