"""Forgetting every tracked connection of a namespace at once, as a router does that is restarted.

One message of ctnetlink (linux/netfilter/nfnetlink_conntrack.h): IPCTNL_MSG_CT_DELETE, that names
no entry. `conntrack -F` does the same, and is not needed.
"""

import os
import socket
import struct

_NETLINK_NETFILTER = 12
_DELETE = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
_REQUEST_ACK = 0x1 | 0x4  # NLM_F_REQUEST, NLM_F_ACK
# struct nlmsghdr: length, type, flags, sequence, port; struct nfgenmsg: family, version, resource.
_MESSAGE = struct.Struct("=IHHIIBBH")
# struct nlmsgerr begins with the negative errno, behind a header of 16 bytes.
_HEADER = 16


def flush() -> None:
    """Do it in the network namespace of this thread. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as kernel:
        kernel.settimeout(5)
        order = _MESSAGE.pack(_MESSAGE.size, _DELETE, _REQUEST_ACK, 1, 0, socket.AF_UNSPEC, 0, 0)
        kernel.send(order)
        (code,) = struct.unpack_from("=i", kernel.recv(4096), _HEADER)
    if code:
        raise OSError(-code, f"connection tracking: {os.strerror(-code)}")
