"""Judge what no tunnel runs without: privileges, TUN, data path, daemon, clock.

Pure functions of the facts.
"""

from typing import Final

from wgpy.doctor.facts import Facts, TunDevice
from wgpy.doctor.finding import NEWER_KERNEL, Finding, Status

# A clock before this year was never set: this program is younger.
_OLDEST_YEAR: Final = 2025
# What goes without each of these; without CAP_NET_ADMIN nothing does.
_USES: Final = {
    "CAP_NET_RAW": "`wgpy demo` cannot ping",
    "CAP_NET_BIND_SERVICE": "ports below 1024 cannot be listened on",
    "CAP_NET_BROADCAST": "an interface that moves to another namespace is not followed",
    "CAP_SYS_ADMIN": "`wgpy demo` cannot make namespaces",
}


def check_privileges(facts: Facts) -> Finding:
    """CAP_NET_ADMIN makes interfaces; nothing goes without."""
    name = "privileges"
    if "CAP_NET_ADMIN" in facts.capabilities:
        lacking = [cap for cap in _USES if cap not in facts.capabilities]
        if not lacking:
            return Finding(name, Status.OK, "CAP_NET_ADMIN and what else a tunnel uses")
        return Finding(
            name,
            Status.WARNING,
            f"CAP_NET_ADMIN, but not {', '.join(lacking)}",
            "; ".join(_USES[cap] for cap in lacking),
            "start the container with "
            + " ".join(f"--cap-add {cap.removeprefix('CAP_')}" for cap in lacking),
        )
    if facts.is_root:
        return Finding(
            name,
            Status.MISSING,
            "root without CAP_NET_ADMIN, as in a plain container",
            "no interface can be made",
            "start the container with --cap-add NET_ADMIN --device /dev/net/tun",
            vital=True,
        )
    return Finding(
        name,
        Status.WARNING,
        "an ordinary user",
        "interfaces are made by root, and some things below could not be tried",
        "sudo wgpy doctor",
    )


def check_tun(facts: Facts) -> Finding:
    """The driver that makes the interface."""
    name, tun = "TUN", facts.tun
    if tun.device is TunDevice.ABSENT:
        return Finding(
            name,
            Status.MISSING,
            "/dev/net/tun is not there",
            "no interface can be made",
            "modprobe tun || { mkdir -p /dev/net && mknod /dev/net/tun c 10 200; }",
            vital=True,
        )
    if tun.device is TunDevice.NO_DRIVER:
        return Finding(
            name,
            Status.MISSING,
            "/dev/net/tun is there, and no driver behind it",
            "no interface can be made",
            "modprobe tun",
            vital=True,
        )
    if tun.device is TunDevice.FORBIDDEN:
        return Finding(
            name,
            Status.MISSING if facts.is_root else Status.WARNING,
            "/dev/net/tun is there, and may not be opened",
            "no interface can be made",
            "start the container with --device /dev/net/tun"
            if facts.is_root
            else "chmod 666 /dev/net/tun",
            vital=True,
        )
    if tun.refusal is None:
        return Finding(name, Status.OK, "/dev/net/tun opens; making an interface was not tried")
    if tun.refusal:
        return Finding(
            name,
            Status.MISSING,
            f"/dev/net/tun opens, and makes no interface: {tun.refusal}",
            "no interface can be made",
            "modprobe tun",
            vital=True,
        )
    return Finding(name, Status.OK, "/dev/net/tun opens and makes interfaces")


def check_data_path(facts: Facts) -> Finding:
    """What moves the packets."""
    name, paths = "data path", facts.data_paths
    reinstall = "pip install --force-reinstall wgpy"
    if paths.wanted not in ("auto", "native", "portable"):
        return Finding(
            name,
            Status.MISSING,
            f"WGPY_DATAPATH={paths.wanted} names none",
            "the daemon does not start",
            "unset WGPY_DATAPATH",
            vital=True,
        )
    if paths.wanted == "native" and not paths.native:
        return Finding(
            name,
            Status.MISSING,
            "WGPY_DATAPATH=native, and the native one was not built",
            "the daemon does not start",
            "unset WGPY_DATAPATH",
            vital=True,
        )
    if paths.native and paths.wanted != "portable":
        return Finding(name, Status.OK, "native")
    if paths.portable_refusal:
        return Finding(
            name,
            Status.MISSING,
            f"the portable one does not load: {paths.portable_refusal}",
            "the daemon does not start",
            reinstall,
            vital=True,
        )
    return Finding(name, Status.OK, "portable (pure Python, over OpenSSL's cryptography)")


def check_daemon(facts: Facts) -> Finding:
    """wgpyd itself."""
    place = facts.programs.get("wgpyd")
    if place is None:
        return Finding(
            "wgpyd",
            Status.MISSING,
            "it is not on the PATH",
            "nothing serves an interface",
            "pip install wgpy",
            vital=True,
        )
    return Finding("wgpyd", Status.OK, place)


def check_clock(facts: Facts) -> Finding:
    """Handshakes carry the time, and a peer refuses one that is older than the last it saw."""
    clock = facts.clock
    if not clock.has_boottime:
        return Finding(
            "clock",
            Status.MISSING,
            "the kernel has no CLOCK_BOOTTIME",
            "keys would outlive a suspend: the daemon does not run so",
            NEWER_KERNEL,
            vital=True,
        )
    mend = "apt-get install systemd-timesyncd && timedatectl set-ntp true"
    meaning = "handshakes go on from the time of the last run; logs get the wrong one"
    if clock.year < _OLDEST_YEAR:
        return Finding("clock", Status.WARNING, f"it says {clock.year}", meaning, mend)
    if clock.synchronised:
        return Finding("clock", Status.OK, "synchronised")
    fact = "it is not synchronised"
    if clock.synchronised is None:
        fact = "the kernel does not say whether it is synchronised"
    return Finding("clock", Status.WARNING, fact, meaning, mend)
