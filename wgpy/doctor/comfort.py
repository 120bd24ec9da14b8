"""Judge what a tunnel runs better with: offloads, buffers, IPv6, resolver, nft, and the rest.

Pure functions of the facts.
"""

from wgpy.doctor.facts import WANTED_BUFFER, Facts, Ipv6
from wgpy.doctor.finding import NEWER_KERNEL, Finding, Status


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
        f"{NEWER_KERNEL}  # Linux 6.2 and later has all of them",
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
