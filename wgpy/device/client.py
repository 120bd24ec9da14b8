"""The client of the userspace API: blocking, and light to import, for commands that run briefly.

It works with every implementation that serves the API (wgpyd, wireguard-go, boringtun). Each
function connects, asks one thing and disconnects. Failures are UapiError, one line for a person.
"""

import dataclasses
import errno
import os
import socket
from typing import Final

from wgpy.device.uapi import (
    SOCKET_DIRECTORY,
    Cleared,
    DeviceChange,
    DeviceState,
    PeerChange,
    UapiError,
)
from wgpy.device.uapi_codec import format_change, parse_errno, parse_state
from wgpy.identity.settings import Expectation
from wgpy.keys import PublicKey

_SUFFIX: Final = ".sock"

# Seconds without a byte from the daemon. Applying 10,000 peers takes a few seconds.
TIMEOUT: Final = 60.0
# An answer with a million IPv6 prefixes has 60 MB; what goes on for longer is no answer.
MAX_ANSWER_LENGTH: Final = 256 << 20
_READ_SIZE: Final = 1 << 18
# Linux: IFNAMSIZ less its zero byte.
_MAX_NAME_LENGTH: Final = 15


def list_interfaces(directory: str = SOCKET_DIRECTORY) -> list[str]:
    """The interfaces that have a daemon, in the directory's order, as wg(8) lists them.

    A socket whose daemon died is left out; it stays for the next daemon to replace. Raises
    UapiError if the directory cannot be read; that there is none means no interfaces.
    """
    try:
        entries = os.listdir(directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _refused(error, "Unable to list interfaces") from None
    names = [entry.removesuffix(_SUFFIX) for entry in entries if entry.endswith(_SUFFIX)]
    return [name for name in names if name and _is_served(name, directory)]


def get(
    name: str, directory: str = SOCKET_DIRECTORY, *, peer: PublicKey | None = None
) -> DeviceState:
    """The state of an interface, with all peers, or one: that is for wgpyd alone. Raises UapiError.

    With `peer` there is only that one in the answer, or none if it is no peer.
    """
    what = f"Unable to access interface {name}"
    question = "get=1\n\n" if peer is None else f"get=1\nwgpy_peer={peer.hex()}\n\n"
    answer = _ask(name, question.encode(), directory, what)
    try:
        return parse_state(answer)
    except UapiError as error:
        raise UapiError(error.code, f"{what}: {error.reason}") from None


def apply(name: str, change: DeviceChange, directory: str = SOCKET_DIRECTORY) -> None:
    """Change an interface. Raises UapiError.

    Keys of wgpy's own, which another daemon would refuse, are sent only to wgpyd. Elsewhere names
    of endpoints are left out, and credentials, rules and ways through NATs are refused: without
    them the interface would not do what was asked.
    """
    what = f"Unable to modify interface {name}"
    if _has_own_keys(change):
        state = get(name, directory)
        try:
            change = _for_daemon(change, state)
        except UapiError as error:
            raise UapiError(error.code, f"{what}: {error.reason}") from None
    answer = _ask(name, format_change(change).encode(), directory, what)
    try:
        parse_errno(answer)
    except UapiError as error:
        raise UapiError(
            error.code, f"{what}: {error.reason}{_advice(error.code, change)}"
        ) from None


def _has_own_keys(change: DeviceChange) -> bool:
    return (
        change.authority is not None
        or change.identity is not None
        or change.firewall is not None
        or change.nat is not None
        or any(peer.endpoint_name or peer.expectation for peer in change.peers)
        or any(_about_nat(peer) for peer in change.peers)
    )


def _about_nat(peer: PeerChange) -> bool:
    return peer.nat is not None or peer.offer or peer.answer is not None


def _for_daemon(change: DeviceChange, state: DeviceState) -> DeviceChange:
    """What to send to the daemon that has this state. To clear what it lacks needs no key."""
    if isinstance(change.authority, Cleared) and state.authority is None:
        change = dataclasses.replace(change, authority=None)
    if isinstance(change.identity, Cleared) and state.identity is None:
        change = dataclasses.replace(change, identity=None)
    if isinstance(change.nat, Cleared) and state.nat is None:
        change = dataclasses.replace(change, nat=None)
    if state.wgpy_version is not None:
        return change
    peers = change.peers
    if (
        change.authority is not None
        or change.identity is not None
        or any(isinstance(peer.expectation, Expectation) for peer in peers)
    ):
        raise UapiError(
            errno.EOPNOTSUPP,
            "its daemon knows no credentials; only wgpyd takes [authority], [identity] and "
            "`credential`",
        )
    if change.firewall is not None and change.firewall.rules:
        reason = "its daemon has no firewall: take the rules out, or let wgpyd serve it"
        raise UapiError(errno.EOPNOTSUPP, reason)
    if change.nat is not None or any(peer.nat or peer.offer or peer.answer for peer in peers):
        reason = "its daemon finds no ways through NATs; only wgpyd takes [nat] and `nat = true`"
        raise UapiError(errno.EOPNOTSUPP, reason)
    peers = [
        dataclasses.replace(peer, endpoint_name=None, expectation=None, nat=None) for peer in peers
    ]
    return dataclasses.replace(change, peers=peers, firewall=None)


def _advice(code: int, change: DeviceChange) -> str:
    if code == errno.EADDRINUSE:
        return "; choose another listen port, or end what has this one"
    # Whoever sent keys of wgpy's own was told the reason.
    edits = any(not peer.remove for peer in change.peers)
    if code == errno.EPERM and edits and not _has_own_keys(change):
        return "; a peer that came in by its credential can be removed, and not changed"
    removes = any(allowed.remove for peer in change.peers for allowed in peer.allowed_ips)
    if code == errno.EINVAL and removes:
        return "; its daemon may be too old to remove single allowed IPs: give the whole list"
    return ""


def _ask(name: str, request: bytes, directory: str, what: str) -> str:
    """Send one request and return the whole answer, to its empty line or the connection's end."""
    with _connect(name, directory, what) as connection:
        try:
            connection.sendall(request)
        except TimeoutError:
            raise UapiError(errno.ETIMEDOUT, f"{what}: the daemon takes no requests") from None
        except OSError as error:
            # It may have refused a request half way, and closed: its answer says why.
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise _refused(error, what) from None
        try:
            return _receive(connection).decode("utf-8", "replace")
        except TimeoutError:
            raise UapiError(errno.ETIMEDOUT, f"{what}: the daemon does not answer") from None
        except OSError as error:
            raise _refused(error, what) from None


def _receive(connection: socket.socket) -> bytes:
    answer = bytearray()
    # Nothing follows the empty line: one request was sent.
    while not answer.endswith(b"\n\n"):
        data = connection.recv(_READ_SIZE)
        if not data:
            break
        answer += data
        if len(answer) > MAX_ANSWER_LENGTH:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
    return bytes(answer)


def _connect(name: str, directory: str, what: str) -> socket.socket:
    if not name or "/" in name or "\0" in name or len(os.fsencode(name)) > _MAX_NAME_LENGTH:
        raise UapiError(errno.EINVAL, f"{what}: that is no name of an interface")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(TIMEOUT)
    try:
        connection.connect(f"{directory}/{name}{_SUFFIX}")
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        if os.path.exists(f"/sys/class/net/{name}"):
            raise UapiError(
                errno.EPROTONOSUPPORT,
                f"{what}: no daemon serves it; wgpy drives userspace implementations, wg(8) the "
                "kernel's",
            ) from None
        raise UapiError(
            errno.ENODEV, f"{what}: No such device; `wgpy up {name}` makes it"
        ) from None
    except OSError as error:
        connection.close()
        raise _refused(error, what) from None
    return connection


def _refused(error: OSError, what: str) -> UapiError:
    code = error.errno or errno.EIO
    advice = "; run it as root" if code in (errno.EACCES, errno.EPERM) else ""
    return UapiError(code, f"{what}: {os.strerror(code)}{advice}")


def _is_served(name: str, directory: str) -> bool:
    """Whether somebody listens. One whom we may not ask counts, as with wg(8)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A daemon that is busy answers EAGAIN at once, and lives.
        probe.setblocking(False)
        try:
            probe.connect(f"{directory}/{name}{_SUFFIX}")
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError as error:
            return error.errno in (errno.EAGAIN, errno.EACCES, errno.EPERM)
    return True
