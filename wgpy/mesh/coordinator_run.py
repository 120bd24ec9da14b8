"""Runs the coordinator of an interface in the foreground, from its files."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wgpy.identity.ca import DAY
from wgpy.keys import KeyFormatError, PrivateKey, read_key_text
from wgpy.mesh import coordinator_files, events
from wgpy.mesh.api import Listens
from wgpy.mesh.ask import operator_socket
from wgpy.mesh.callers import DaemonCallers
from wgpy.mesh.coordinator import Coordinator
from wgpy.mesh.coordinator_files import RUN_DIRECTORY, STATE_DIRECTORY, FilesError
from wgpy.mesh.desk import Desk
from wgpy.mesh.issuer import Issuer, IssuerError
from wgpy.mesh.operator_socket import OperatorSocket
from wgpy.mesh.records import NodeRecord, NodeState
from wgpy.mesh.store import NoNetwork, Store, StoreError, StoreUnavailable

# Seconds between attempts to reach a store, or a signer, that is away.
RETRY: Final = 2.0
# Certificates are valid for 7 days, and whoever has the root may be away for a while.
WARN: Final = 60 * DAY

_log = logging.getLogger(__name__)


async def serve(
    interface: str,
    store: str | None = None,
    *,
    state: Path = STATE_DIRECTORY,
    run: Path = RUN_DIRECTORY,
) -> None:
    """Coordinate until SIGTERM or SIGINT. `store` takes the place of the one in coordinator.json.

    Raises FilesError for what a person has to mend.
    """
    files = coordinator_files.read(interface, state)
    own = _own_key(interface, state)
    tokens = coordinator_files.open_tokens(files)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    opened = await _opened(store or files.store, ended)
    if opened is None:
        return
    with contextlib.closing(opened):
        issuer = await _issuer(files, ended)
        node = await _own_node(opened, own, ended)
        if issuer is None or node is None:
            return
        addresses = tuple(x.address for x in node.addresses)
        callers = DaemonCallers(interface, own.public(), addresses)
        ours = issuer.authority.der
        others = tuple(x for x in coordinator_files.others(files) if x != ours)
        desk = Desk(opened, issuer, callers, own, others=others)
        _warn_of_the_end(issuer)
        coordinator = Coordinator(
            desk,
            Listens(addresses, files.port, node.name),
            state / f"{interface}.mesh" / "crl",
        )
        operator = OperatorSocket(desk, tokens, Path(operator_socket(interface, str(run))))
        with contextlib.closing(desk):
            await _until(coordinator, operator, ended, opened)


async def _until(
    coordinator: Coordinator, operator: OperatorSocket, ended: asyncio.Event, store: Store
) -> None:
    """Run until the end is wanted, or something fails that nobody here can mend."""
    running = asyncio.create_task(coordinator.run())
    waiting = asyncio.create_task(ended.wait())
    ready = asyncio.create_task(coordinator.ready.wait())
    try:
        await operator.start()
        await asyncio.wait({running, waiting, ready}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            domain = coordinator.desk.settings.domain
            _log.info("%s", events.coordinator_starts(domain, coordinator.places, store.place))
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
    finally:
        await operator.close()
        for task in (running, waiting, ready):
            task.cancel()
        await asyncio.gather(running, waiting, ready, return_exceptions=True)


def _own_key(interface: str, state: Path) -> PrivateKey:
    path = state / f"{interface}.mesh" / "node.key"
    try:
        return PrivateKey.from_base64(read_key_text(path))
    except OSError as error:
        raise FilesError(f"{path}: {error.strerror}") from None
    except KeyFormatError as error:
        raise FilesError(f"{path}: {error}") from None


async def _opened(url: str, ended: asyncio.Event) -> Store | None:
    """The store, once it is there; None if the end is wanted before."""
    said = False
    while not ended.is_set():
        try:
            return await asyncio.to_thread(Store, url)
        except StoreUnavailable as error:
            if not said:
                _log.warning("%s", events.store_away(str(error)))
            said = True
        except StoreError as error:
            raise FilesError(str(error)) from None
        await _pause(ended)
    return None


async def _issuer(files: coordinator_files.CoordinatorFiles, ended: asyncio.Event) -> Issuer | None:
    """The same for a signer that is another process."""
    said = ""
    while not ended.is_set():
        try:
            return await asyncio.to_thread(coordinator_files.open_issuer, files)
        except IssuerError as error:
            if str(error) != said:
                said = str(error)
                _log.warning("%s", events.clean(said))
        await _pause(ended)
    return None


async def _own_node(store: Store, own: PrivateKey, ended: asyncio.Event) -> NodeRecord | None:
    """What the network knows of us. Raises FilesError where it knows nothing."""
    while not ended.is_set():
        try:
            found = await asyncio.to_thread(store.node_of, own.public())
        except StoreUnavailable:
            await _pause(ended)
            continue
        except NoNetwork:
            found = None
        if found is None or found.state is not NodeState.ACTIVE:
            raise FilesError(f"{store.place}: this machine is no node of the network in there")
        return found
    return None


def _warn_of_the_end(issuer: Issuer) -> None:
    """Say in time that the intermediate has to be replaced."""
    left = issuer.authority.not_after - time.time()
    if left < WARN:
        _log.warning(
            "the authority that signs certificates ends in %.0f days: make its successor with the "
            "root (`wgpy ca init --parent`)",
            max(0.0, left) / DAY,
        )


async def _pause(ended: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(ended.wait(), RETRY)


@contextlib.contextmanager
def logging_to_stderr() -> Iterator[None]:
    """One line for each thing, as journals take them; what a library says is a warning at least."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    logging.getLogger("wgpy").setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
