"""A Linux kernel to boot in QEMU: Debian's cloud kernel, unpacked and never installed, and an
initramfs of busybox (its ip(8) included), wg(8) and the modules that they need.

The package is named by linux-image-cloud-amd64, which only depends on it, and is kept under
.cache/kernel/ of the repository.
"""

import lzma
import platform
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.requirements import CACHE, program

META_PACKAGE = "linux-image-cloud-amd64"
# 27 MB over a slow line.
FETCH_TIMEOUT = 300
# virtio_pci and virtio_net carry the tap; the rest is what these three say they depend on.
MODULES = ("virtio_pci", "virtio_net", "wireguard")
DIRECTORIES = ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp")


class KernelError(Exception):
    """The kernel cannot be had on this machine: one line, with the reason."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel: its image, its modules' directory, its release."""

    image: Path
    modules: Path
    release: str


def _run(*command: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=FETCH_TIMEOUT, check=True
        )
    except FileNotFoundError:
        raise KernelError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise KernelError(f"`{' '.join(command)}` took over {FETCH_TIMEOUT} s") from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines() or ["nothing"]
        raise KernelError(f"`{' '.join(command)}` failed, saying: {said[-1]}") from None
    return done.stdout


def _package() -> str:
    """The package that has today's kernel, from the package that names it."""
    shown = _run("apt-cache", "depends", META_PACKAGE)
    found = re.search(r"Depends: (linux-image-\S+)", shown)
    if found is None:
        raise KernelError(f"{META_PACKAGE} depends on no kernel; run `apt-get update`")
    return found[1]


def fetch() -> Kernel:
    """The kernel, downloaded and unpacked where the cache has not got it; KernelError if not."""
    if platform.machine() != "x86_64":
        raise KernelError(f"the kernel is booted on x86_64 only, and this is {platform.machine()}")
    directory = CACHE / "kernel"
    directory.mkdir(parents=True, exist_ok=True)
    name = _package()
    unpacked = directory / name
    if not unpacked.exists():
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            # Root downloads for itself: apt's own user may not write into the repository.
            sandbox = ("-o", "APT::Sandbox::User=root")
            _run("apt-get", "-q", *sandbox, "download", name, cwd=Path(scratch))
            (archive,) = Path(scratch).glob("*.deb")
            tree = Path(scratch, "tree")
            _run(program("dpkg"), "-x", str(archive), str(tree))
            # At once, so that a broken download is never taken for a kernel.
            tree.rename(unpacked)
        for other in directory.iterdir():
            if other != unpacked and other.name.startswith("linux-image-"):
                shutil.rmtree(other)
    (image,) = unpacked.glob("boot/vmlinuz-*")
    release = image.name.removeprefix("vmlinuz-")
    return Kernel(image, unpacked / "lib" / "modules" / release, release)


def _module_name(path: str) -> str:
    return re.sub(r"\.ko(\.xz)?$", "", path.rpartition("/")[2]).replace("-", "_")


def _module_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def modules_in_order(kernel: Kernel) -> list[tuple[str, bytes]]:
    """(name, .ko file) of MODULES and what they depend on, each after what it needs.

    The dependencies are read from the modules themselves (the `depends=` string of their
    .modinfo section): the package has no modules.dep before it is installed.
    """
    listed = (kernel.modules / "modules.builtin").read_text().split()
    built_in = {_module_name(path) for path in listed}
    files = {_module_name(path.name): path for path in kernel.modules.rglob("*.ko*")}
    order: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in order or name in built_in:
            return
        if name not in files:
            raise KernelError(f"kernel {kernel.release} has no module {name}")
        data = _module_bytes(files[name])
        found = re.search(rb"\0depends=([^\0]*)\0", data)
        for needed in found[1].decode().split(",") if found else []:
            if needed:
                add(needed.replace("-", "_"))
        order[name] = data

    for name in MODULES:
        add(name)
    return list(order.items())


def _libraries(binary: str) -> list[Path]:
    """The shared libraries and the loader of a program, as ldd(1) finds them."""
    return [Path(found) for found in re.findall(r"(/\S+) \(0x", _run("ldd", binary))]


def _entry(number: int, name: str, mode: int, data: bytes) -> Iterator[bytes]:
    """One file of a cpio archive in the newc format (linux: early-userspace/buffer-format)."""
    path = name.encode() + b"\0"
    # inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name size, check
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    header = b"070701" + b"".join(b"%08X" % value for value in fields) + path
    for part in (header, data):
        yield part
        yield bytes(-len(part) % 4)


def initramfs(kernel: Kernel, init: str) -> bytes:
    """An initramfs whose /init is the shell script `init`; modules are in /lib/modules, in the
    order of the file /lib/modules/order."""
    files: dict[str, tuple[int, bytes]] = {}

    def put(name: str, data: bytes, mode: int = stat.S_IFREG | 0o755) -> None:
        parent = name.rpartition("/")[0]
        if parent and parent not in files:
            put(parent, b"", stat.S_IFDIR | 0o755)
        files.setdefault(name, (mode, data))

    for directory in DIRECTORIES:
        put(directory, b"", stat.S_IFDIR | 0o755)
    put("bin/busybox", Path(program("busybox")).read_bytes())
    wg = program("wg")
    put("bin/wg", Path(wg).resolve().read_bytes())
    for library in _libraries(wg):
        put(str(library).lstrip("/"), library.resolve().read_bytes())
    modules = modules_in_order(kernel)
    for name, data in modules:
        put(f"lib/modules/{name}.ko", data)
    put("lib/modules/order", "".join(f"{name}\n" for name, _ in modules).encode())
    put("init", init.encode())
    archive = bytearray()
    for number, (name, (mode, data)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))]):
        for part in _entry(number, name, mode, data):
            archive += part
    return bytes(archive)
