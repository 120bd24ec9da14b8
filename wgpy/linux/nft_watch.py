"""Hearing that somebody deleted a table of nftables, as `nft flush ruleset` does to every one.

The kernel tells each change to the group NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h).
"""

import contextlib
import errno
import socket
import struct

_NETLINK_NETFILTER = 12
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP = 270, 1
_NFNLGRP_NFTABLES = 7
_NFT_MSG_NEWTABLE, _NFT_MSG_DELTABLE = 10 << 8 | 0, 10 << 8 | 2
_NFPROTO_INET = 1
_NFTA_TABLE_NAME = 1
_HEADER = struct.Struct("=IHHII")
# struct nfgenmsg, and the first attribute, which is the table's name.
_TABLE = struct.Struct("=BBHHH")
_LENGTH = 1 << 18


class TableWatch:
    """A netlink socket (`fd`, non-blocking) that hears of one table of family inet."""

    def __init__(self, name: str) -> None:
        self._name = name.encode() + b"\0"
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER)
        # A socket that is not bound is told nothing.
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
        self.fd = self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def deleted(self) -> bool:
        """Read what waits: whether the last thing that happened to the table is its end.

        True also when events were lost, for then it may have been.
        """
        gone = False
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    data = self._socket.recv(_LENGTH)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    gone = True
                    continue
                for kind in self._ours(data):
                    gone = kind == _NFT_MSG_DELTABLE
        return gone

    def _ours(self, data: bytes) -> list[int]:
        """The kinds of the messages that speak of the table."""
        found = []
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, *_ = _HEADER.unpack_from(data, at)
            if length < _HEADER.size:
                break
            body = data[at + _HEADER.size : at + length]
            if kind in (_NFT_MSG_NEWTABLE, _NFT_MSG_DELTABLE) and len(body) >= _TABLE.size:
                family, _version, _resource, size, attribute = _TABLE.unpack_from(body)
                name = body[_TABLE.size : _TABLE.size + size - 4]
                if (family, attribute, name) == (_NFPROTO_INET, _NFTA_TABLE_NAME, self._name):
                    found.append(kind)
            at += (length + 3) & ~3
        return found
