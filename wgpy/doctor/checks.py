"""Judge the facts: one finding for each thing that a tunnel needs or likes to have.

Pure functions. A finding that is MISSING and vital means that no tunnel can run here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from wgpy.doctor.facts import WANTED_BUFFER, Facts, Ipv6, TunDevice

# A clock before this year was never set: this program is younger.
_OLDEST_YEAR: Final = 2025
_NEWER_KERNEL: Final = "apt-get install linux-image-$(dpkg --print-architecture)"
# What goes without each of these; without CAP_NET_ADMIN nothing does.
_USES: Final = {
    "CAP_NET_RAW": "`wgpy demo` cannot ping",
    "CAP_NET_BIND_SERVICE": "ports below 1024 cannot be listened on",
    "CAP_NET_BROADCAST": "an interface that moves to another namespace is not followed",
    "CAP_SYS_ADMIN": "`wgpy demo` cannot make namespaces",
}


class Status(Enum):
    """How well a thing stands."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor: what was looked at, what it is, what that means, what mends it.

    `meaning` and `mend` (a command) are empty where all is well.
    """

    name: str
    status: Status
    fact: str
    meaning: str = ""
    mend: str = ""
    vital: bool = False


def examine(facts: Facts) -> list[Finding]:
    """Every finding, what is vital first."""
    return [check(facts) for check in _CHECKS]


def can_run(findings: Sequence[Finding]) -> bool:
    """Whether a tunnel can run: nothing vital is missing."""
    return not any(found.vital and found.status is Status.MISSING for found in findings)


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


def check_offloads(facts: Facts) -> Finding:
    """Many packets in one system call, both at the TUN and at the UDP socket."""
    tun = facts.tun.offloads
    found = {"UDP_SEGMENT": facts.udp.segment, "UDP_GRO": facts.udp.gro}
    if tun is not None:
        found |= {f"TUN {name}": on for name, on in tun.items()}
    on = ", ".join(name for name, present in found.items() if present) or "none"
    off = [name for name, present in found.items() if not present]
    untried = "; those of the TUN were not tried" if tun is None else ""
    if not off:
        return Finding("offloads", Status.OK, on + untried)
    return Finding(
        "offloads",
        Status.WARNING,
        f"{on}; not {', '.join(off)}{untried}",
        "packets are moved one by one where an offload is missing: it works, and is slower",
        f"{_NEWER_KERNEL}  # Linux 6.2 and later has all of them",
    )


def check_buffers(facts: Facts) -> Finding:
    """How much a UDP socket can hold while the daemon is busy."""
    size = f"{facts.udp.buffer / (1 << 20):.1f} MiB"
    if facts.udp.buffer >= WANTED_BUFFER:
        return Finding("buffers", Status.OK, f"a UDP socket may hold {size}")
    meaning = "bursts lose packets"
    if not facts.is_root:
        meaning += ", unless the daemon may exceed the limit, which root may"
    return Finding(
        "buffers",
        Status.WARNING,
        f"a UDP socket may hold {size}",
        meaning,
        f"sysctl -w net.core.rmem_max={WANTED_BUFFER} net.core.wmem_max={WANTED_BUFFER}",
    )


def check_ipv6(facts: Facts) -> Finding:
    """IPv6, inside and outside of tunnels."""
    if facts.ipv6 is Ipv6.ON:
        return Finding("IPv6", Status.OK, "on")
    meaning = "tunnels carry IPv4 only, and reach their peers over IPv4 only"
    if facts.ipv6 is Ipv6.OFF:
        mend = "sysctl -w net.ipv6.conf.default.disable_ipv6=0 net.ipv6.conf.all.disable_ipv6=0"
        return Finding("IPv6", Status.WARNING, "switched off", meaning, mend)
    mend = "remove ipv6.disable=1 from the kernel's command line (/etc/default/grub), then reboot"
    return Finding("IPv6", Status.WARNING, "the kernel has none", meaning, mend)


def check_clock(facts: Facts) -> Finding:
    """Handshakes carry the time, and a peer refuses one that is older than the last it saw."""
    clock = facts.clock
    if not clock.has_boottime:
        return Finding(
            "clock",
            Status.MISSING,
            "the kernel has no CLOCK_BOOTTIME",
            "keys would outlive a suspend: the daemon does not run so",
            _NEWER_KERNEL,
            vital=True,
        )
    mend = "apt-get install systemd-timesyncd && timedatectl set-ntp true"
    meaning = "after a step back, peers refuse our handshakes until the clock has caught up"
    if clock.year < _OLDEST_YEAR:
        return Finding("clock", Status.WARNING, f"it says {clock.year}", meaning, mend)
    if clock.synchronised:
        return Finding("clock", Status.OK, "synchronised")
    fact = "it is not synchronised"
    if clock.synchronised is None:
        fact = "the kernel does not say whether it is synchronised"
    return Finding("clock", Status.WARNING, fact, meaning, mend)


def check_resolver(facts: Facts) -> Finding:
    """Who is told of a configuration's DNS servers."""
    if facts.resolver is not None:
        return Finding("resolver", Status.OK, f"{facts.resolver} is told of DNS servers")
    return Finding(
        "resolver",
        Status.WARNING,
        "neither resolvconf nor systemd-resolved",
        "`wgpy up` refuses a configuration with DNS =; everything else works",
        "apt-get install systemd-resolved",
    )


def check_nft(facts: Facts) -> Finding:
    """What a default route through a tunnel needs."""
    place = facts.programs.get("nft")
    if place is not None:
        return Finding("nft", Status.OK, place)
    return Finding(
        "nft",
        Status.MISSING,
        "it is not installed",
        "`wgpy up` refuses a default route (AllowedIPs = 0.0.0.0/0); everything else works",
        "apt-get install nftables",
    )


def check_sockets(facts: Facts) -> Finding:
    """/var/run/wireguard, where daemons are configured."""
    if facts.sockets_open_to_all:
        return Finding(
            "sockets",
            Status.WARNING,
            "anybody may write to /var/run/wireguard",
            "another user could put a socket there and be given your keys",
            "chmod 755 /var/run/wireguard",
        )
    stale = [found.interface for found in facts.sockets if found.alive is False]
    if stale:
        paths = " ".join(f"/var/run/wireguard/{interface}.sock" for interface in stale)
        return Finding(
            "sockets",
            Status.WARNING,
            f"nobody listens for {', '.join(stale)}",
            "a daemon was killed; the next one of that interface puts a new socket there",
            f"rm {paths}",
        )
    names = ", ".join(found.interface for found in facts.sockets)
    return Finding("sockets", Status.OK, f"running: {names}" if names else "no interface runs")


def check_others(facts: Facts) -> Finding:
    """What else speaks WireGuard here: good to know, and needed for nothing."""
    kernel = {None: "not in the kernel", "loaded": "the kernel's, loaded"}.get(
        facts.kernel_wireguard, "the kernel's, not loaded"
    )
    tools = [name for name in ("wg", "wg-quick", "wireguard-go") if facts.programs.get(name)]
    return Finding("others", Status.OK, f"{kernel}; {', '.join(tools) or 'no other tools'}")


_CHECKS: Final[tuple[Callable[[Facts], Finding], ...]] = (
    check_privileges,
    check_tun,
    check_data_path,
    check_daemon,
    check_clock,
    check_offloads,
    check_buffers,
    check_ipv6,
    check_resolver,
    check_nft,
    check_sockets,
    check_others,
)
