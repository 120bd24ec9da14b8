"""Cuts the bytes of one UAPI connection into requests. No sockets here: bytes in, requests out."""

import errno
from dataclasses import dataclass
from typing import Final

from wgpy.device.uapi import DeviceChange, UapiError
from wgpy.device.uapi_codec import MAX_LINE_LENGTH, ChangeParser
from wgpy.keys import KeyFormatError, PublicKey


@dataclass(frozen=True, slots=True)
class GetRequest:
    """`get=1`: the state is wanted, with every peer, or with `peer` alone if there is one.

    A single peer is asked for by a key of our own, `wgpy_peer=HEX`: a coordinator asks at each
    request who speaks from an address, and a thousand others are no part of the answer.
    """

    peer: PublicKey | None = None


@dataclass(frozen=True, slots=True)
class SetRequest:
    """`set=1`, read to its empty line and free of errors. `own`: with keys of wgpy's own."""

    change: DeviceChange
    own: bool = False


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A request that is refused; nothing of it may be applied."""

    error: UapiError
    own: bool = False


Request = GetRequest | SetRequest | BadRequest

_SET: Final = "set=1"
_GET: Final = "get=1"
_PEER: Final = "wgpy_peer="


class Framer:
    """The reading side of one connection.

    An error in a request refuses that request: the rest of it, to its empty line, is skipped, and
    the next one is read. What cannot be skipped safely (an operation that is none, a line without
    end) sets `broken`, after which nothing more is read, as in wireguard-go.
    """

    __slots__ = ("_error", "_operation", "_parser", "_peer", "_pending", "broken")

    def __init__(self) -> None:
        self.broken = False
        self._pending = b""
        self._operation: str | None = None
        self._parser = ChangeParser()
        self._error: UapiError | None = None
        self._peer: PublicKey | None = None

    @property
    def in_request(self) -> bool:
        """Whether the bytes so far end within a request."""
        return self._operation is not None or bool(self._pending)

    def feed(self, data: bytes) -> list[Request]:
        """Take some more bytes; the requests that they complete, in order."""
        if self.broken:
            return []
        whole, line_feed, self._pending = (self._pending + data).rpartition(b"\n")
        # Bytes that are no UTF-8 become U+FFFD, which no key and no value can hold.
        lines = whole.decode("utf-8", "replace").split("\n") if line_feed else []
        requests: list[Request] = []
        start = 0
        while start < len(lines) and not self.broken:
            if self._operation is None:
                self._begin(lines[start])
                start += 1
                continue
            try:
                end = lines.index("", start)
            except ValueError:
                self._take(lines[start:])
                break
            self._take(lines[start:end])
            requests.append(self._finish())
            start = end + 1
        if len(self._pending) > MAX_LINE_LENGTH and not self.broken:
            self.broken = True
            if self._operation is not None:
                reason = f"a line is over {MAX_LINE_LENGTH} characters"
                requests.append(BadRequest(UapiError(errno.EIO, reason)))
        return requests

    def _begin(self, operation: str) -> None:
        if operation not in (_SET, _GET):
            # Whoever says something else speaks another protocol: there is no end to skip to.
            self.broken = True
            return
        self._operation = operation
        self._parser = ChangeParser()
        self._error = None
        self._peer = None

    def _take(self, lines: list[str]) -> None:
        if self._error is not None or not lines:
            return
        if self._operation == _GET:
            self._take_peer(lines)
            return
        try:
            self._parser.feed(lines)
        except UapiError as error:
            self._error = error
            # Release what was read of a request that may have been large.
            own, self._parser = self._parser.own, ChangeParser()
            self._parser.own = own

    def _take_peer(self, lines: list[str]) -> None:
        """What may follow `get=1`: one line with the key of one peer."""
        found = lines[0].partition(_PEER)
        try:
            if len(lines) > 1 or self._peer is not None or found[0] or not found[1]:
                raise UapiError(errno.EINVAL, "`get=1` is followed by something")
            self._peer = PublicKey.from_hex(found[2])
        except KeyFormatError as error:
            self._error = UapiError(errno.EINVAL, f"wgpy_peer: {error}")
        except UapiError as error:
            self._error = error

    def _finish(self) -> Request:
        operation, self._operation = self._operation, None
        if self._error is not None:
            return BadRequest(self._error, self._parser.own)
        if operation == _GET:
            return GetRequest(self._peer)
        return SetRequest(self._parser.finish(), self._parser.own)
