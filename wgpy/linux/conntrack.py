"""Forgetting the tracked connections of an address, through ctnetlink: no program is needed.

Connection tracking lets answers pass. When an address has no peer any more, or its peer may do
other things than before, what it began must not go on: its entries are deleted.

The kernel dumps the entries that an address is in (linux/netfilter/nfnetlink_conntrack.h; it
filters since 5.8, and what comes is looked at again here), and each is deleted by its tuple.
IPv6 is always dumped whole.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from wgpy.ip import Prefix, mask
from wgpy.linux.netlink_messages import (
    HEADER,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    attribute,
    attributes,
    messages,
)

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2
_NLA_F_NESTED = 0x8000

_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_ID, _CTA_ZONE, _CTA_FILTER = 1, 2, 12, 18, 25
_CTA_TUPLE_IP = 1
# CTA_IP_V4_SRC and _DST, CTA_IP_V6_SRC and _DST.
_CTA_IP: dict[int, tuple[int, int]] = {socket.AF_INET: (1, 2), socket.AF_INET6: (3, 4)}
# CTA_FILTER_ORIG_FLAGS and CTA_FILTER_REPLY_FLAGS; a bit for the source, one for the destination.
_CTA_FILTER_FLAGS = {_CTA_TUPLE_ORIG: 1, _CTA_TUPLE_REPLY: 2}

# struct nfgenmsg: family, version, resource.
_GENERIC = struct.Struct("=BBH")
_LENGTH = 1 << 18
# The kernel walks its whole hash table for each dump, whatever is in it. So there is one dump of
# everything, and only where many entries would be copied, four that the kernel filters for each
# address; with more addresses than these, one dump costs less again.
_MAX_DUMPED = 20_000
_MAX_FILTERED = 2
_COUNT = Path("/proc/sys/net/netfilter/nf_conntrack_count")
# The kernel answers at once; this is for one that is very busy.
_TIMEOUT = 5.0


class ConntrackError(Exception):
    """The kernel refused to list or to delete entries: one line."""


def forget(prefixes: Iterable[Prefix]) -> int:
    """Delete every entry with an address of these prefixes in it, and return how many they were.

    Needs CAP_NET_ADMIN, and works on the network namespace of the thread. Raises ConntrackError.
    """
    wanted = set(prefixes)
    tracked = _tracked()
    if not wanted or tracked == 0:
        return 0
    lengths: dict[int, set[int]] = {}
    for address, length in wanted:
        lengths.setdefault(len(address), set()).add(length)
    with _Ctnetlink() as kernel:
        entries: set[tuple[int, bytes]] = set()
        for family, body in kernel.candidates(wanted, filtered=tracked > _MAX_DUMPED):
            found = attributes(body)
            original = found.get(_CTA_TUPLE_ORIG, b"")
            reply = found.get(_CTA_TUPLE_REPLY, b"")
            ends = (*_addresses(original, family), *_addresses(reply, family))
            if any(_within(address, wanted, lengths) for address in ends):
                entries.add((family, _deletion(found)))
        return sum(kernel.delete(family, entry) for family, entry in entries)


def _tracked() -> int:
    """How many entries there are in this namespace; many if the kernel does not say."""
    try:
        return int(_COUNT.read_text())
    except FileNotFoundError:
        return _MAX_DUMPED + 1


class _Ctnetlink:
    """One netlink socket, open while the `with` block runs."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        try:
            self._socket = socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER)
        except OSError as error:
            raise ConntrackError(f"no connection tracking: {error.strerror}") from None
        self._socket.settimeout(_TIMEOUT)
        self._sequence = 0

    def __enter__(self) -> "_Ctnetlink":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def candidates(self, prefixes: set[Prefix], *, filtered: bool) -> Iterator[tuple[int, bytes]]:
        """Family and attributes of each entry that may be one to delete."""
        whole = [p.address for p in prefixes if (len(p.address), p.length) == (4, 32)]
        # For IPv6 the kernel's filter (seen with 6.18) leaves out the very entries that fit.
        if not filtered or len(whole) < len(prefixes) or len(whole) > _MAX_FILTERED:
            yield from self._ask(_GET, NLM_F_DUMP, socket.AF_UNSPEC, b"")
            return
        for address in whole:
            for tuple_kind, flag in _CTA_FILTER_FLAGS.items():
                for bit, address_kind in enumerate(_CTA_IP[socket.AF_INET]):
                    inner = _nested(_CTA_TUPLE_IP, attribute(address_kind, address))
                    flags = attribute(flag, struct.pack("=I", 1 << bit))
                    query = _nested(tuple_kind, inner) + _nested(_CTA_FILTER, flags)
                    yield from self._ask(_GET, NLM_F_DUMP, socket.AF_INET, query)

    def delete(self, family: int, entry: bytes) -> bool:
        """Delete one entry; False if it ended by itself meanwhile."""
        try:
            list(self._ask(_DELETE, NLM_F_ACK, family, entry))
        except _KernelError as error:
            if error.code == errno.ENOENT:
                return False
            raise
        return True

    def _ask(self, kind: int, flags: int, family: int, body: bytes) -> Iterator[tuple[int, bytes]]:
        """Ask, and yield the family and the attributes of each answer."""
        self._sequence += 1
        length = HEADER.size + _GENERIC.size + len(body)
        header = HEADER.pack(length, kind, NLM_F_REQUEST | flags, self._sequence, 0)
        try:
            self._socket.send(header + _GENERIC.pack(family, 0, 0) + body)
            while True:
                for answer, content in self._answers(self._socket.recv(_LENGTH)):
                    if answer == NLMSG_DONE:
                        return
                    if answer == NLMSG_ERROR:
                        (code,) = struct.unpack_from("=i", content)
                        if code:
                            raise _KernelError(-code)
                        return
                    yield content[0], content[_GENERIC.size :]
        except TimeoutError:
            raise ConntrackError("connection tracking does not answer") from None
        except OSError as error:
            raise _KernelError(error.errno or errno.EIO) from None

    def _answers(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        yield from messages(data, self._sequence)


class _KernelError(ConntrackError):
    """An errno of the kernel's."""

    def __init__(self, code: int) -> None:
        super().__init__(f"connection tracking refuses: {os.strerror(code)}")
        self.code = code


def _deletion(found: dict[int, bytes]) -> bytes:
    """What names an entry: its tuple, its zone, and the number that no later one has."""
    text = _nested(_CTA_TUPLE_ORIG, found[_CTA_TUPLE_ORIG])
    for kind in (_CTA_ZONE, _CTA_ID):
        if kind in found:
            text += attribute(kind, found[kind])
    return text


def _addresses(tuple_body: bytes, family: int) -> list[bytes]:
    """The source and the destination of a tuple."""
    inner = attributes(attributes(tuple_body).get(_CTA_TUPLE_IP, b""))
    return [inner[kind] for kind in _CTA_IP.get(family, ()) if kind in inner]


def _within(address: bytes, prefixes: set[Prefix], lengths: dict[int, set[int]]) -> bool:
    """Whether one of the prefixes, which have these lengths by size of address, has it."""
    return any(
        Prefix(mask(address, length), length) in prefixes
        for length in lengths.get(len(address), ())
    )


def _nested(kind: int, value: bytes) -> bytes:
    return attribute(kind | _NLA_F_NESTED, value)
