"""What a test needs from the machine, and what is said where the machine has not got it.

A test says what it needs with the markers `root` and `tool(name)`. On a person's machine a
test whose need is not met is skipped with the reason. In CI (the environment variable CI is
set) what Debian packages must be there, so its absence is a failure.
"""

import functools
import os
import shutil
import sys
from pathlib import Path

from tests.support import cargo

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
# What interop/peers.sh builds, newer than what Debian has.
PEERS = CACHE / "peers" / "bin"

# Programs of Debian's that tests run -> the package that has them.
DEBIAN = {
    "busybox": "busybox-static",
    "dbus-daemon": "dbus-daemon",
    "dig": "bind9-dnsutils",
    "docker-compose": "docker-compose",
    "dpkg": "dpkg",
    "ip": "iproute2",
    "iperf3": "iperf3",
    "mandoc": "mandoc",
    "miniupnpd": "miniupnpd-nftables",
    "nft": "nftables",
    "openssl": "openssl",
    "pg_ctl": "postgresql",
    "ping": "iputils-ping",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
    "systemd-analyze": "systemd",
    "tshark": "tshark",
    "turnserver": "coturn",
    "turnutils_natdiscovery": "coturn",
    "turnutils_stunclient": "coturn",
    "turnutils_uclient": "coturn",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "wg": "wireguard-tools",
    "wg-quick": "wireguard-tools",
    "wireguard-go": "wireguard-go",
}
# Built by interop/peers.sh -> its file in PEERS.
BUILT = {"wireguard-go-latest": "wireguard", "boringtun-cli": "boringtun-cli"}
# Built by cargo when it is needed -> its crate, of the same name.
CRATES = {"carrier": ROOT / "tests" / "support" / "natlab" / "carrier"}
# Console scripts of this package, installed beside the interpreter that runs the tests.
OURS = ("wgpy", "wgpyd")


def find(name: str) -> Path | None:
    """The program's file, or None where this machine has not got it.

    Raises ValueError for a name that none of the four tables above has.
    """
    if name in OURS:
        place = Path(sys.executable).parent / name
        return place if place.exists() else None
    if name in BUILT:
        place = PEERS / BUILT[name]
        return place if place.exists() else None
    if name in CRATES:
        return cargo.binary(CRATES[name]) if _crate_problem(name) is None else None
    if name not in DEBIAN:
        raise ValueError(f"tool {name!r}: not in the tables of {Path(__file__).name}; add it")
    # Programs of /usr/sbin are not on the PATH of every user, and those of PostgreSQL's server on
    # nobody's: there may be several versions of it.
    servers = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    places = [os.environ.get("PATH", ""), "/usr/sbin", "/sbin", *map(str, servers)]
    found = shutil.which(name, path=":".join(places))
    return Path(found) if found else None


def _version(place: Path) -> int:
    """Of /usr/lib/postgresql/15/bin, 15."""
    number = place.parent.name
    return int(number) if number.isdigit() else 0


@functools.cache
def _crate_problem(name: str) -> str | None:
    """Why the crate is not built, or None; builds it."""
    return cargo.build(CRATES[name])


def program(name: str) -> str:
    """The program's file as a word of a command line; FileNotFoundError with `why_missing`."""
    place = find(name)
    if place is None:
        raise FileNotFoundError(why_missing(name))
    return str(place)


def why_missing(name: str) -> str:
    """The reason why a tool is not there, and what to do, in one line."""
    if name in OURS:
        return f"{name} is not installed beside {sys.executable}; run `pip install -e .`"
    if name in BUILT:
        return f"{name} is not built; run `interop/peers.sh` (or `make interop`)"
    if name in CRATES:
        return f"{name} is not built: {_crate_problem(name)}"
    return f"{name} is not installed; run `apt-get install {DEBIAN[name]}`"


def must_have(name: str) -> bool:
    """Whether the absence of this tool is a failure here: in CI, of all but what is built."""
    return in_ci() and name not in BUILT


def in_ci() -> bool:
    """Whether this is a machine of continuous integration, where nothing of Debian's is missing."""
    return bool(os.environ.get("CI"))


def is_root() -> bool:
    """Whether the tests run as root, which namespaces and TUN devices need."""
    return os.geteuid() == 0
