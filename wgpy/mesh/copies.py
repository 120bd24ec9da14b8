"""Copies of a node, and of a coordinator with its store: made while it runs, and put back.

A copy is a tar archive with the files of /var/lib/wgpy/IF.mesh/ by their names below /var/lib/wgpy.
The store in it, if it is a file, is as it was at one moment. Whoever has it can be that node, and
of a coordinator any node of the network.
"""

import contextlib
import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wgpy.mesh import coordinator_files
from wgpy.mesh.coordinator_files import STATE_DIRECTORY, FilesError
from wgpy.mesh.store import Store, StoreError

# What a store leaves beside itself while it is open.
_STORE: Final = "store.sqlite"
# A node's largest file is its directory, of 2 kB for each node.
_MAX_FILE: Final = 256 << 20


class CopyError(Exception):
    """No copy, or none that can be put back: one line."""


def make(interface: str, target: Path, state: Path = STATE_DIRECTORY) -> str | None:
    """Write a copy into a new file, mode 0600. Returns where the store is if it is not in there.

    Raises CopyError; then there is no file.
    """
    directory = state / f"{interface}.mesh"
    if not (directory / "mesh.json").exists():
        raise CopyError(f"{interface} is in no mesh: there is no {directory / 'mesh.json'}")
    url = _store_of(interface, state)
    apart = url if url is not None and "://" in url else None
    with (
        _new(target) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        tar.add(directory, arcname=directory.name, recursive=False)
        # The store first: what it promises is signed with keys that come after.
        if url is not None and apart is None:
            _add_store(tar, Path(url), state)
        for path in sorted(directory.rglob("*")):
            _add(tar, path, state)
    return apart


def _store_of(interface: str, state: Path) -> str | None:
    if not (state / f"{interface}.mesh" / "coordinator.json").exists():
        return None
    try:
        return coordinator_files.read(interface, state).store
    except FilesError as error:
        raise CopyError(str(error)) from None


@contextlib.contextmanager
def _new(target: Path) -> Iterator[io.BufferedWriter]:
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CopyError(f"{target}: {error.strerror}") from None
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except (OSError, tarfile.TarError) as error:
        target.unlink(missing_ok=True)
        raise CopyError(f"{target}: no copy was made: {error}") from None
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _add_store(tar: tarfile.TarFile, store: Path, state: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="wgpy-copy-", dir=store.parent) as scratch:
        copy = Path(scratch, _STORE)
        try:
            with contextlib.closing(Store(str(store))) as opened:
                opened.backup(str(copy))
        except StoreError as error:
            raise CopyError(str(error)) from None
        tar.add(copy, arcname=str(store.relative_to(state)), recursive=False)


def _add(tar: tarfile.TarFile, path: Path, state: Path) -> None:
    """A regular file or a directory, as it is at this moment; each file is written whole."""
    # The store itself, its journal, and copies of it that are under way.
    if path.name.startswith(_STORE) or path.parent.name.startswith("wgpy-copy-"):
        return
    name = str(path.relative_to(state))
    try:
        if path.is_dir():
            if not path.name.startswith("wgpy-copy-"):
                tar.add(path, arcname=name, recursive=False)
            return
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
            info = tar.gettarinfo(arcname=name, fileobj=file)
    except FileNotFoundError:
        # A temporary file that has its right name by now.
        return
    if len(data) > _MAX_FILE:
        raise CopyError(f"{path} has more than {_MAX_FILE} bytes")
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def restored(interface: str, now: float, joined: int, state: Path = STATE_DIRECTORY) -> str:
    """Make a store that was put back fit to go on (store_restore.py); returns where it is.

    Raises CopyError.
    """
    try:
        url = coordinator_files.read(interface, state).store
        with contextlib.closing(Store(url)) as store:
            store.restored(now, joined)
            return store.place
    except (FilesError, StoreError) as error:
        raise CopyError(str(error)) from None
