"""A machine of its own as far as names go: its /usr with a resolver that is not installed, its /etc
and /run, in a mount namespace, and in a network namespace of the test's.

    with Home(space, unpacked("openresolv", "dnsmasq-base"), tmp_path) as home:
        home.run("getent", "hosts", "laptop.mesh")

Debian's packages are unpacked under .cache/resolvers/ of the repository: to install them would
change the resolver of the machine that tests.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.commands import Process
from tests.support.netns import Namespace, wait_until
from tests.support.requirements import CACHE, program

# A few MB over a slow line.
FETCH_TIMEOUT = 120.0
# What runs first: $1 is the unpacked /usr, $2 a directory for /etc, $3 the file that says ready.
# What other tests have in /etc/netns comes and goes meanwhile.
SETUP = """
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$1:/usr" /usr
mount -t tmpfs tmpfs "$2"
tar -C /etc --exclude=./netns -cf - . | tar -C "$2" -xf -
rm -f "$2/resolv.conf"
printf '127.0.0.1\\tlocalhost\\n' >"$2/hosts"
printf 'passwd: files\\ngroup: files\\nhosts: files dns\\n' >"$2/nsswitch.conf"
printf 'nameserver 127.0.0.9\\n' >"$2/resolv.conf"
grep -q ^systemd-resolve: /etc/passwd || {
    echo systemd-resolve:x:990:990::/:/usr/sbin/nologin >>"$2/passwd"
    echo systemd-resolve:x:990: >>"$2/group"
}
mount --bind "$2" /etc
mount -t tmpfs tmpfs /run
echo ready >"$3"
exec sleep 600
"""


class ResolverError(Exception):
    """The packages cannot be had on this machine: one line."""


def unpacked(*packages: str) -> Path:
    """The /usr that these packages make, downloaded and unpacked where the cache has not got it.

    Raises ResolverError.
    """
    directory = CACHE / "resolvers"
    directory.mkdir(parents=True, exist_ok=True)
    made = directory / "+".join(packages)
    if made.exists():
        return made / "usr"
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        tree = Path(scratch, "tree")
        # Root downloads for itself: apt's own user may not write into the repository.
        _run(scratch, "apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *packages)
        for archive in Path(scratch).glob("*.deb"):
            _run(scratch, program("dpkg"), "-x", str(archive), str(tree))
        for name in ("bin", "sbin", "lib"):
            # As the machine has them: links into /usr.
            if (tree / name).is_dir():
                shutil.copytree(tree / name, tree / "usr" / name, symlinks=True, dirs_exist_ok=True)
        # Another test may have been quicker.
        with contextlib.suppress(OSError):
            tree.rename(made)
    return made / "usr"


def _run(where: str, *command: str) -> None:
    try:
        subprocess.run(
            command, cwd=where, capture_output=True, timeout=FETCH_TIMEOUT, check=True, text=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise ResolverError(f"`{' '.join(command)}` failed: {said[-1]}") from None


class Home:
    """The machine; a context manager. Its programs end with the network namespace."""

    def __init__(self, space: Namespace, usr: Path, directory: Path) -> None:
        self.space = space
        # Seen from outside; inside it is /etc.
        (directory / "etc").mkdir()
        words = (str(usr), str(directory / "etc"), str(directory / "ready"))
        self._holder = space.popen("unshare", "-m", "sh", "-c", SETUP, "sh", *words, life=600)
        try:
            wait_until((directory / "ready").exists, "the machine")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self._holder.output()}") from None

    def __enter__(self) -> "Home":
        return self

    def __exit__(self, *_error: object) -> None:
        self._holder.close()

    def words(self, *command: str) -> list[str]:
        """The command line that runs a command inside, from within the network namespace."""
        return ["nsenter", "-t", str(self._holder.pid), "-m", "--", *command]

    def run(
        self, *command: str, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        return self.space.run(*self.words(*command), check=check, stdin=stdin)

    def popen(self, *command: str) -> Process:
        """Start a program inside."""
        return self.space.popen(*self.words(*command))

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside."""
        self.run("sh", "-c", f'cat >"{path}" && chmod {mode:o} "{path}"', stdin=text)

    def read(self, path: str) -> str:
        """Read a file inside."""
        return self.run("cat", path).stdout

    def addresses(self, name: str) -> list[str]:
        """What getent(1) finds for a name, as every program would; sorted."""
        found = self.run("getent", "ahosts", name, check=False).stdout.splitlines()
        return sorted({line.split()[0] for line in found})

    def name(self, address: str) -> str:
        """What getent(1) finds for an address; "" for nothing."""
        found = self.run("getent", "hosts", address, check=False).stdout.split()
        return found[1] if found else ""


@contextlib.contextmanager
def system_bus(home: Home) -> Iterator[None]:
    """dbus-daemon inside, with what systemd-resolved is allowed there."""
    home.run("mkdir", "-p", "/run/dbus", "/etc/dbus-1/system.d")
    policy = "/usr/share/dbus-1/system.d/org.freedesktop.resolve1.conf"
    home.run("cp", policy, "/etc/dbus-1/system.d/")
    bus = home.popen(program("dbus-daemon"), "--system", "--nofork", "--nopidfile")
    try:
        there = lambda: home.run("test", "-S", "/run/dbus/system_bus_socket", check=False)  # noqa: E731
        wait_until(lambda: there().returncode == 0, "the system bus")
        yield
    finally:
        bus.close()


def is_possible() -> bool:
    """Whether this machine lays one file system over another; some containers do not."""
    script = "mount -t overlay overlay -o lowerdir=/usr/bin:/usr/sbin /mnt"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, check=False)
    return os.geteuid() == 0 and done.returncode == 0
