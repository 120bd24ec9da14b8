"""`wgpy ping`: ICMP echoes through the tunnel to a node, and by which path each answer came.

Exit codes are those of ping(8): 0 when answers came, 1 when none did, 2 for everything else.
"""

import argparse
import json
import os
import select
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Final

from wgpy.cli import print_error, status, status_view, style
from wgpy.cli.errors import CommandError
from wgpy.cli.show_nat import path_json, path_text
from wgpy.cli.status_view import Node
from wgpy.demo import echo
from wgpy.device.paths import PathKind, PathState
from wgpy.ip import Prefix, parse_prefix

# As ping(8): one a second; the last ones are waited for while a handshake or a punch may go on.
INTERVAL: Final = 1.0
PATIENCE: Final = 5.0
_FAILED: Final = 2
_SEQUENCES: Final = 1 << 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `wgpy ping`."""
    parser.add_argument(
        "-c", dest="count", metavar="COUNT", type=_count, help="stop after so many echoes"
    )
    parser.add_argument(
        "-6", dest="version6", action="store_true", help="to the node's IPv6 address"
    )
    parser.add_argument(
        "--until-direct", action="store_true", help="stop when an answer came by a direct path"
    )
    parser.add_argument("--interface", metavar="INTERFACE", help="look for the node there only")
    parser.add_argument(
        "--json", action="store_true", help="a line of JSON for each answer, and one at the end"
    )
    parser.add_argument(
        "node", metavar="NODE", help="a name, an address in the tunnel, or a public key"
    )


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < _SEQUENCES:
        raise argparse.ArgumentTypeError(f"a number from 1 to {_SEQUENCES - 1} is wanted")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Ping; returns the exit code."""
    try:
        views = status.collect(args.interface)
        interface, node = find(views, args.node)
        address = address_of(node, args.node, 6 if args.version6 else None)
        pinger = Pinger(interface, node, address, args.count, args.until_direct, args.json)
        return pinger.run()
    except (CommandError, OSError) as error:
        print_error(str(error) if isinstance(error, CommandError) else error.strerror or str(error))
        return _FAILED


# --- Whom ---


def find(views: list[status_view.View], wanted: str) -> tuple[str, Node]:
    """The interface and the node of this name, address or key. Raises CommandError."""
    for matches in (_is_named, _has_address):
        found = [(x.interface, node) for x in views for node in x.nodes if matches(node, wanted)]
        if len(found) == 1:
            return found[0]
        if found:
            several = ", ".join(f"{node.name or node.key} on {name}" for name, node in found)
            raise CommandError(f"{wanted} is {several}; give the whole name, or --interface")
    own = [x.mesh.get("name") for x in views if x.mesh is not None]
    if any(isinstance(name, str) and _is_called(name, wanted) for name in own):
        raise CommandError(f"{wanted} is this machine")
    problems = "".join(f"; {x.problem}" for x in views if x.problem)
    raise CommandError(f"there is no node {wanted}; `wgpy status` lists them{problems}")


def _is_named(node: Node, wanted: str) -> bool:
    return node.key == wanted or (node.name != "" and _is_called(node.name, wanted))


def _is_called(name: str, wanted: str) -> bool:
    """The whole name, or its first label."""
    word = wanted.lower().rstrip(".")
    return name == word or ("." not in word and name.partition(".")[0] == word)


def _has_address(node: Node, wanted: str) -> bool:
    target = _prefix(wanted)
    return target is not None and any(
        prefix is not None and _contains(prefix, target) for prefix in map(_prefix, node.addresses)
    )


def _prefix(text: str) -> Prefix | None:
    try:
        return parse_prefix(text)
    except ValueError:
        return None


def _contains(outer: Prefix, inner: Prefix) -> bool:
    if len(outer.address) != len(inner.address) or inner.length != 8 * len(inner.address):
        return False
    cut = 8 * len(outer.address) - outer.length
    return (
        int.from_bytes(outer.address, "big") >> cut == int.from_bytes(inner.address, "big") >> cut
    )


def address_of(node: Node, wanted: str, version: int | None) -> str:
    """The address to ping: the one that was asked for, else the node's own. Raises CommandError."""
    if _has_address(node, wanted):
        return wanted
    whole = [
        text.partition("/")[0]
        for text in node.addresses
        if (prefix := _prefix(text)) is not None and prefix.length == 8 * len(prefix.address)
    ]
    for address in whole:
        if version is None or (":" in address) == (version == 6):
            return address
    kind = "" if version is None else f" IPv{version}"
    raise CommandError(f"{wanted} has no{kind} address of its own; give an address to ping")


# --- The echoes ---


@dataclass(slots=True)
class Tally:
    """What was sent and what came back: round trips in seconds, in the order of the answers."""

    sent: int = 0
    times: list[float] = field(default_factory=list)
    by_direct: int = 0

    def as_json(self) -> dict[str, Any]:
        """The last line of `--json`."""
        times = self.times
        return {
            "sent": self.sent,
            "received": len(times),
            "direct": self.by_direct,
            "least": min(times, default=None),
            "mean": sum(times) / len(times) if times else None,
            "most": max(times, default=None),
        }

    def text(self, name: str) -> str:
        """What is printed at the end."""
        received = len(self.times)
        lost = 1 - received / self.sent if self.sent else 0
        lines = [
            f"--- {name} ---",
            f"{self.sent} sent, {received} answered, {lost:.0%} lost, {self.by_direct} by a direct "
            "path",
        ]
        if received:
            mean = sum(self.times) / received
            values = " / ".join(f"{1000 * x:.1f}" for x in (min(self.times), mean, max(self.times)))
            lines.append(f"round trip least / mean / most: {values} ms")
        return "\n".join(lines)


def answer_text(name: str, address: str, sequence: int, taken: float, path: PathState) -> str:
    """One answer: `laptop.mesh (100.64.0.2): 1, 23.1 ms, direct 203.0.113.7:51820`."""
    # Its own round trip is that of a probe, which is not asked for here.
    bare = PathState(path.kind, path.place, path.relay, loss=path.loss, reason=path.reason)
    return f"{name} ({address}): {sequence}, {1000 * taken:.1f} ms, {path_text(bare)}"


class Pinger:
    """Sends and receives in one thread; the daemon is asked for the path at each answer."""

    def __init__(
        self,
        interface: str,
        node: Node,
        address: str,
        count: int | None,
        until_direct: bool,
        as_json: bool,
    ) -> None:
        self._interface = interface
        self._node = node
        self._name = node.name or node.key
        self._address = address
        self._count = count
        self._until_direct = until_direct
        self._as_json = as_json
        self._tally = Tally()
        self._pending: dict[int, float] = {}
        self._identifier = os.getpid() & 0xFFFF

    def run(self) -> int:
        """Ping until there is no more to do, or Ctrl-C; returns the exit code. Raises OSError."""
        version = 6 if ":" in self._address else 4
        if not self._as_json:
            self._print(f"{self._name} ({self._address}) through {self._interface}")
        with echo.open_socket(version) as raw:
            # What leaves elsewhere, by another route, would say nothing of the tunnel.
            raw.setsockopt(
                socket.SOL_SOCKET, socket.SO_BINDTODEVICE, os.fsencode(self._interface) + b"\0"
            )
            raw.connect((self._address, 0))
            raw.setblocking(False)
            try:
                self._loop(raw, version)
            except KeyboardInterrupt:
                # The terminal shows ^C there.
                self._print("")
        if self._as_json:
            self._print(json.dumps(self._tally.as_json()))
        else:
            self._print(self._tally.text(self._name))
        good = self._tally.by_direct if self._until_direct else len(self._tally.times)
        return 0 if good else 1

    def _loop(self, raw: socket.socket, version: int) -> None:
        following = time.monotonic()
        while True:
            now = time.monotonic()
            all_sent = self._count is not None and self._tally.sent >= self._count
            if not all_sent and now >= following:
                self._send(raw, version, now)
                following = max(following + INTERVAL, now)
                continue
            self._forget(now)
            if all_sent and not self._pending:
                return
            until = min(self._pending.values()) + PATIENCE if all_sent else following
            if select.select([raw], [], [], max(0.0, until - now))[0]:
                self._receive(raw, version)
                if self._until_direct and self._tally.by_direct:
                    return

    def _send(self, raw: socket.socket, version: int, now: float) -> None:
        self._tally.sent += 1
        sequence = self._tally.sent % _SEQUENCES
        self._pending[sequence] = now
        try:
            raw.send(echo.request(version, self._identifier, sequence))
        except OSError as error:
            self._failed(error)

    def _receive(self, raw: socket.socket, version: int) -> None:
        try:
            packet = raw.recv(2048)
        except BlockingIOError:
            return
        except OSError as error:
            # An ICMP error about an earlier one: the tunnel has no way to the node yet.
            self._failed(error)
            return
        now = time.monotonic()
        found = echo.reply(version, packet)
        if found is None or found[0] != self._identifier or found[1] not in self._pending:
            return
        taken = now - self._pending.pop(found[1])
        path = self._path()
        self._tally.times.append(taken)
        self._tally.by_direct += path.kind is PathKind.DIRECT
        if self._as_json:
            line = {"sequence": found[1], "time": taken, "path": path_json(path)}
            self._print(json.dumps(line))
        else:
            self._print(answer_text(self._name, self._address, found[1], taken, path))

    def _path(self) -> PathState:
        """The path to the node now; that it cannot be told ends no ping."""
        for node in status.look(self._interface).nodes:
            if node.key == self._node.key:
                return node.path
        return PathState(PathKind.NONE, reason="the daemon does not know the node now")

    def _forget(self, now: float) -> None:
        """Those that are not waited for any more."""
        for sequence in [x for x, sent in self._pending.items() if now - sent >= PATIENCE]:
            del self._pending[sequence]
            if not self._as_json:
                self._print(f"{self._name} ({self._address}): {sequence}, no answer")

    def _failed(self, error: OSError) -> None:
        if not self._as_json:
            self._print(f"{self._name} ({self._address}): {error.strerror or error}")

    def _print(self, text: str) -> None:
        sys.stdout.write(style.finish(text) + "\n")
        sys.stdout.flush()
