"""`wgpy netcheck` with sockets of its own, names to look up, and what is looked at beside STUN.

It blocks until all is seen: some seconds, and six minutes more if the lifetime is measured.
"""

import dataclasses
import errno
import logging
import os
import selectors
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Final, NamedTuple, TypeVar

from wgpy.device.servers import format_server
from wgpy.linux.timerfd import boottime
from wgpy.nat.netcheck import LIFETIME_SOCKETS, Netcheck
from wgpy.nat.netcheck_family import MAX_SERVERS, SOCKETS, Socket, Target
from wgpy.nat.netcheck_report import PortMapper, Report, Server
from wgpy.nat.place import Place

_log = logging.getLogger(__name__)

Found = TypeVar("Found")

# Longer than any answer of a STUN server.
_READ: Final = 2048
# Datagrams read from one socket before the others have their turn.
_AT_ONCE: Final = 16
# A server that takes connections does so within one lost SYN (Linux sends again after 1 s).
_TCP_WAIT: Final = 3.0
_HTTP_WAIT: Final = 5.0


class Options(NamedTuple):
    """What is wanted. `mark` is the firewall mark of our sockets, so that they pass by a tunnel.

    `portal_url` is a page that answers 204 where nothing stands in between; `port_mapper` looks for
    services that forward ports.
    """

    lifetime: bool = False
    mark: int = 0
    portal_url: str | None = None
    port_mapper: PortMapper | None = None


def check(servers: Sequence[tuple[str, int]], options: Options) -> Report:
    """Look at the way to these servers, by name or address and port, MAX_SERVERS at the most.

    Raises OSError if no socket can be made at all.
    """
    servers = servers[:MAX_SERVERS]
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(MAX_SERVERS + 2))
        portal = pool.submit(is_portal, options.portal_url) if options.portal_url else None
        mapper = pool.submit(options.port_mapper) if options.port_mapper else None
        found = list(pool.map(lambda x: look_up(*x), servers))
        targets = [target for names in found for target in names]
        report, counted = _drive(targets, options)
    lost = tuple(
        Server(format_server(host, port), "", None, "the name has no address")
        for (host, port), names in zip(servers, found, strict=True)
        if not names
    )
    return dataclasses.replace(
        report,
        servers=report.servers + lost,
        tcp_works=None if report.udp or not targets else takes_tcp(targets, options.mark),
        is_portal=_result(portal),
        port_mappings=_result(mapper),
        counters={**report.counters, **counted},
    )


def _result(future: Future[Found] | None) -> Found | None:
    """What was found beside; None if it was not looked for, or the machine did not let us."""
    if future is None:
        return None
    try:
        return future.result()
    except OSError as error:
        _log.info("not looked at: %s", error)
        return None


def look_up(host: str, port: int) -> list[Target]:
    """A server's first IPv4 and first IPv6 address; none if there are none."""
    try:
        # As bytes: for text Python would apply IDNA, which fails in ways of its own.
        found = socket.getaddrinfo(host.encode("ascii", "replace"), port, type=socket.SOCK_DGRAM)
    except OSError:
        return []
    name = format_server(host, port)
    first: dict[int, Target] = {}
    for family, _, _, _, address in found:
        # With a scope it is on this very link, where there is no NAT.
        if "%" not in str(address[0]):
            first.setdefault(family, Target(name, Place(str(address[0]), int(address[1]))))
    return list(first.values())


# --- STUN ---


class _Sockets:
    """Our sockets, by handle."""

    def __init__(self, mark: int) -> None:
        self._mark = mark
        self._by_via: dict[int, socket.socket] = {}
        self.selector = selectors.DefaultSelector()

    def close(self) -> None:
        self.selector.close()
        for sock in self._by_via.values():
            sock.close()

    def open(self, version: int, to: Place, count: int) -> list[Socket]:
        """So many sockets; none if there is no way to a server by this version of IP."""
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        try:
            with self._make(family) as probe:
                # Nothing is sent: the kernel chooses the address that we would send from.
                probe.connect(to[:2])
                host = probe.getsockname()[0]
        except OSError:
            return []
        return [self._bind(family, host) for _ in range(count)]

    def _make(self, family: socket.AddressFamily) -> socket.socket:
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        sock = socket.socket(family, kind)
        if self._mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._mark)
        return sock

    def _bind(self, family: socket.AddressFamily, host: str) -> Socket:
        sock = self._make(family)
        via = len(self._by_via) + 1
        self._by_via[via] = sock
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(("::" if family == socket.AF_INET6 else "", 0))
        self.selector.register(sock, selectors.EVENT_READ, via)
        return Socket(via, (host, sock.getsockname()[1]))

    def send(self, via: int, data: bytes, to: Place) -> None:
        """Raises OSError."""
        self._by_via[via].sendto(data, to[:2])

    def receive(self, via: int) -> Iterator[tuple[bytes, Place]]:
        """What has come to one socket."""
        for _ in range(_AT_ONCE):
            try:
                data, address = self._by_via[via].recvfrom(_READ)
            except OSError:
                # Nothing more, or an ICMP error for what we sent: the client asks again.
                return
            yield data, Place(address[0].partition("%")[0], address[1], via=via)


@contextmanager
def _sockets(mark: int) -> Iterator[_Sockets]:
    made = _Sockets(mark)
    try:
        yield made
    finally:
        made.close()


def _drive(targets: Sequence[Target], options: Options) -> tuple[Report, Counter[str]]:
    counted: Counter[str] = Counter()
    with _sockets(options.mark) as sockets:
        ours: dict[int, list[Socket]] = {}
        for version in (4, 6):
            to = next((x.place for x in targets if x.place.is_v6 == (version == 6)), None)
            if to is None:
                continue
            wants = options.lifetime and not ours
            count = SOCKETS + (LIFETIME_SOCKETS if wants else 0)
            if opened := sockets.open(version, to, count):
                ours[version] = opened
        check = Netcheck(targets, ours, boottime(), os.urandom, lifetime=options.lifetime)
        _send(check, sockets, counted)
        while not check.done:
            due = check.due()
            wait = None if due is None else max(0.0, due - boottime())
            for key, _ in sockets.selector.select(wait):
                for data, source in sockets.receive(key.data):
                    check.receive(data, source, boottime())
            check.tick(boottime())
            _send(check, sockets, counted)
        return check.report(), counted


def _send(check: Netcheck, sockets: _Sockets, counted: Counter[str]) -> None:
    for send in check.take():
        try:
            sockets.send(send.to.via, send.data, send.to)
        except OSError:
            # A firewall's rule, or a route that is gone: it is as if the datagram were lost.
            counted["not_sent"] += 1


# --- What else there is ---


def takes_tcp(targets: Sequence[Target], mark: int) -> bool:
    """Whether one of the servers takes a TCP connection on its port."""
    with ExitStack() as stack:
        waiting = stack.enter_context(selectors.DefaultSelector())
        for target in targets:
            family = socket.AF_INET6 if target.place.is_v6 else socket.AF_INET
            sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            sock.setblocking(False)
            if mark:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            failed = sock.connect_ex(target.place[:2])
            if not failed:
                return True
            if failed == errno.EINPROGRESS:
                waiting.register(sock, selectors.EVENT_WRITE, sock)
        until = time.monotonic() + _TCP_WAIT
        while waiting.get_map() and (left := until - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                if key.data.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    return True
                waiting.unregister(key.fileobj)
    return False


def is_portal(url: str) -> bool | None:
    """Whether something else answers for a page that has nothing to say (204); None for no answer.

    That is what a captive portal does to send a browser to its own page.
    """
    import http.client
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_HTTP_WAIT)
    try:
        connection.request("GET", parts.path or "/")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return status != http.client.NO_CONTENT
