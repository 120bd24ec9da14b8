"""The asyncio server of the userspace API: one Unix socket, one interface behind it.

    server = UapiServer(device)
    server.listen(socket_path("wg0"))     # before the daemon goes to the background
    await server.start()                  # in its event loop
    await server.removed()                # the daemon's sign to end, as `ip link del` is
    await server.close()

The socket is for root alone (mode 0600 in a directory of 0755), so a client is not an attacker;
but it may be broken, slow or gone, and none of that may stop or hold up the daemon.
"""

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import socket
import stat
from pathlib import Path
from typing import Final, Protocol

from wgpy.device.uapi import SOCKET_DIRECTORY, DeviceChange, DeviceState, UapiError
from wgpy.device.uapi_codec import format_errno, format_state
from wgpy.device.uapi_framing import BadRequest, Framer, GetRequest, Request
from wgpy.keys import PublicKey

# A client asks and goes; monitors and a few scripts at once stay far below this. Each may hold
# one request of 64 MiB while it is read, so the number is also what bounds the memory.
MAX_CONNECTIONS: Final = 16
# Seconds in which a client must say something, and in which it must take an answer.
IDLE_TIMEOUT: Final = 60.0
# One read, 1,200 lines or so: parsing it takes some 3 ms, then others have their turn.
_READ_SIZE: Final = 1 << 16
# Connections that wait to be accepted while the loop is busy with a large request.
_BACKLOG: Final = 64
# See `removed`.
_POLL_INTERVAL: Final = 1.0

_log = logging.getLogger(__name__)


class SocketInUseError(FileExistsError):
    """The socket's place is taken: by a daemon that answers, or by what is no socket."""


class UapiInterface(Protocol):
    """What the server serves."""

    def apply(self, change: DeviceChange) -> None:
        """Do what a complete and well-formed request says. Raises UapiError to refuse it."""

    def state(self, only: PublicKey | None = None) -> DeviceState:
        """What is now; with `only`, of that peer and no others."""


def socket_path(interface: str) -> Path:
    """Where the socket of an interface is looked for by every client."""
    return Path(SOCKET_DIRECTORY, f"{interface}.sock")


class UapiServer:
    """Serves one interface on one Unix socket."""

    def __init__(self, interface: UapiInterface) -> None:
        self._interface = interface
        self._socket: socket.socket | None = None
        self._path: Path | None = None
        self._inode: tuple[int, int] | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        # Connections closed at once because there were MAX_CONNECTIONS.
        self.refused_connections = 0

    def listen(self, path: Path) -> None:
        """Bind the socket, replacing one that a dead daemon left. Needs no event loop.

        Sets the process's umask for a moment: call it before there are threads. Raises
        SocketInUseError, and OSError.
        """
        _make_directory(path.parent)
        _clear(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # wg(8) removes a socket that refuses it, as one does between bind() and listen(). So it
        # gets its name when it listens.
        unborn = path.with_name(f".{secrets.token_hex(4)}")
        umask = os.umask(0o077)
        try:
            listener.bind(str(unborn))
            listener.listen(_BACKLOG)
            os.link(unborn, path)
        except OSError as error:
            listener.close()
            if error.errno == errno.EEXIST:
                raise SocketInUseError(f"{path}: another daemon was faster") from None
            raise
        finally:
            os.umask(umask)
            unborn.unlink(missing_ok=True)
        self._adopt(listener, path)

    def from_fd(self, fd: int) -> None:
        """Take over a socket that listens already (WG_UAPI_FD). Raises OSError if it is none."""
        listener = socket.socket(fileno=fd)
        try:
            listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if listener.family != socket.AF_UNIX or not listening:
                raise OSError(errno.EINVAL, f"descriptor {fd} is no listening Unix socket")
            name = listener.getsockname()
        except BaseException:
            # It was not ours to close.
            listener.detach()
            raise
        listener.set_inheritable(False)
        # A socket without a name, or in the abstract name space (bytes), has no file to watch.
        self._adopt(listener, Path(name) if isinstance(name, str) and name else None)

    def _adopt(self, listener: socket.socket, path: Path | None) -> None:
        listener.setblocking(False)
        self._socket = listener
        self._path = path
        self._inode = None if path is None else _inode(path)

    def fileno(self) -> int:
        """The listening socket's descriptor. Raises ValueError when there is none."""
        if self._socket is None:
            raise ValueError("the server listens on no socket")
        return self._socket.fileno()

    def socket_present(self) -> bool:
        """Whether the socket's file is still the one that was bound; true if it never had one."""
        return self._path is None or _inode(self._path) == self._inode is not None

    async def removed(self) -> None:
        """Return when the socket's file is gone or replaced.

        It looks once a second. inotify would tell sooner, but its instances are scarce (128 for
        all programs of a user), it misses bind mounts, and Python reaches it through ctypes only;
        a stat of two microseconds a second costs nothing and cannot fail.
        """
        while self.socket_present():
            await asyncio.sleep(_POLL_INTERVAL)

    async def start(self) -> None:
        """Begin to accept. Call after `listen` or `from_fd`. Raises ValueError before."""
        if self._socket is None:
            raise ValueError("the server listens on no socket")
        self._server = await asyncio.start_unix_server(
            self._connected, sock=self._socket, limit=_READ_SIZE, backlog=_BACKLOG
        )

    async def close(self) -> None:
        """Stop, drop every connection, and remove the socket's file if it is still ours."""
        if self._path is not None and self.socket_present():
            self._path.unlink(missing_ok=True)
        listener, self._socket = self._socket, None
        if listener is not None:
            # asyncio's Server fails over connections that it has accepted and not made yet when it
            # is closed. So accept no more, and let `_connected` refuse those first.
            asyncio.get_running_loop().remove_reader(listener)
            await _turns()
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        # A transport closes its socket in the turn of the loop after it is told to.
        await _turns()
        if listener is not None:
            listener.close()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._socket is None:  # it was accepted while `close` ran
            writer.transport.abort()
            return
        if len(self._connections) >= MAX_CONNECTIONS:
            self.refused_connections += 1
            _log.warning("UAPI: refused a connection; %d are open", len(self._connections))
            writer.close()
            return
        # A task of our own: asyncio (3.11) reports the cancellation of its as a failure.
        task = asyncio.get_running_loop().create_task(self._converse(reader, writer))
        self._connections.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            # Not in a `finally` of the task: one that is cancelled at once never gets there.
            # abort() and not close(): nothing waits for a client that does not read.
            self._connections.discard(task)
            writer.transport.abort()

        task.add_done_callback(ended)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except TimeoutError:
            _log.info("UAPI: closed a connection that was idle for %g s", IDLE_TIMEOUT)
        except OSError as error:
            # The client is gone; an answer on its way is lost with it.
            _log.debug("UAPI: connection lost: %s", error)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        framer = Framer()
        while not framer.broken:
            async with asyncio.timeout(IDLE_TIMEOUT):
                data = await reader.read(_READ_SIZE)
            if not data:
                if framer.in_request:
                    # Half a request is never applied.
                    writer.write(format_errno(errno.EPROTO).encode())
                break
            for request in framer.feed(data):
                writer.write(self._answer(request).encode())
                # One answer at a time: a client that does not read cannot pile them up here.
                async with asyncio.timeout(IDLE_TIMEOUT):
                    await writer.drain()
            # read() does not wait while bytes are there; let the device have its turn.
            await asyncio.sleep(0)
        writer.close()
        async with asyncio.timeout(IDLE_TIMEOUT):
            await writer.wait_closed()

    def _answer(self, request: Request) -> str:
        """The text that answers one request. Never raises."""
        try:
            if isinstance(request, BadRequest):
                raise request.error
            if isinstance(request, GetRequest):
                return format_state(self._interface.state(request.peer)) + format_errno(0)
            self._interface.apply(request.change)
        except UapiError as error:
            _log.warning("UAPI: refused a request: %s", error)
            own = not isinstance(request, GetRequest) and request.own
            return format_errno(error.code, error.reason if own else None)
        except Exception:
            # A fault of ours, or a system call's failure: the client hears of it, the daemon lives.
            _log.exception("UAPI: a request failed")
            return format_errno(errno.EIO)
        return format_errno(0)


async def _turns() -> None:
    """Let the loop finish what it has begun: a connection is made in three turns."""
    for _ in range(5):
        await asyncio.sleep(0)


def _make_directory(directory: Path) -> None:
    """Make it so that everyone may look into it, whatever the umask is."""
    umask = os.umask(0o022)
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    finally:
        os.umask(umask)


def _clear(path: Path) -> None:
    """Remove a socket that nobody serves. Raises SocketInUseError for anything else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketInUseError(f"{path} is no socket; remove it if nothing needs it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A live daemon with a full backlog must not make us wait: EAGAIN means that it lives.
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):  # another daemon may clear it as well
                path.unlink()
            return
        except FileNotFoundError:
            return
        except BlockingIOError:
            _log.debug("UAPI: the daemon at %s has a full backlog", path)
    name = path.name.removesuffix(".sock")
    raise SocketInUseError(
        f"a daemon serves {name} already ({path}); end it first, with `ip link delete {name}`"
    )


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
