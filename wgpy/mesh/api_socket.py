"""The WebSocket of a node: changes and signals to it at once, signals and reports from it."""

from typing import Final

from aiohttp import WSMsgType, web

from wgpy.mesh import api_signal, wire
from wgpy.mesh.callers import Caller
from wgpy.mesh.desk import Desk, Refuse
from wgpy.mesh.hub import Connection, frame
from wgpy.mesh.messages import Changed, Report, SignalRequest
from wgpy.mesh.wire import MAX_BODY, WireError

# Seconds between pings. Each costs a node two packets: the answer, and, since TCP acknowledges it,
# WireGuard's keepalive 10 s later. Beside them go keepalives for its NAT, and new keys each 120 s:
# in 300 s 23 packets were counted, and 33 with a ping each 24 s.
HEARTBEAT: Final = 84.0
_CLOSE_SECONDS: Final = 2.0
# A code of our own, as ENDED is (hub.py).
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
    transport = request.transport
    if transport is None:
        return socket
    connection = Connection(caller.key, transport)
    desk.hub.add(connection)
    # Whatever happened while nobody told it.
    connection.write(frame(wire.encode_event(Changed(desk.roll.revision))))
    try:
        await _read(desk, socket, connection)
    finally:
        desk.hub.remove(connection)
    return socket


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
