"""What the doctor makes of what it found."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from wgpy.doctor import comfort, vital
from wgpy.doctor.checks import examine
from wgpy.doctor.facts import (
    CAPABILITIES,
    WANTED_BUFFER,
    Clock,
    DataPaths,
    Facts,
    Ipv6,
    Tun,
    TunDevice,
    UapiSocket,
    Udp,
)
from wgpy.doctor.finding import Finding, Status, can_run

ALL_OFFLOADS = {"vnet_hdr": True, "tso4": True, "tso6": True, "uso": True}
PROGRAMS = {name: f"/usr/bin/{name}" for name in ("wgpyd", "wg", "wg-quick", "nft", "ip")}

HEALTHY = Facts(
    kernel="6.12.0",
    is_root=True,
    capabilities=frozenset(CAPABILITIES),
    tun=Tun(TunDevice.READY, refusal="", offloads=ALL_OFFLOADS),
    udp=Udp(segment=True, gro=True, buffer=WANTED_BUFFER),
    ipv6=Ipv6.ON,
    resolver="resolvectl",
    clock=Clock(year=2026, synchronised=True, has_boottime=True),
    data_paths=DataPaths(native=False, wanted="auto", portable_refusal=""),
    kernel_wireguard=None,
    programs=PROGRAMS,
)

UNPRIVILEGED = replace(
    HEALTHY, is_root=False, capabilities=frozenset(), tun=Tun(TunDevice.READY, refusal=None)
)

# (the finding's name, the facts, its status, whether a tunnel can run, a word of the mend)
SICK = [
    ("privileges", replace(HEALTHY, capabilities=frozenset()), Status.MISSING, False, "NET_ADMIN"),
    ("privileges", UNPRIVILEGED, Status.WARNING, True, "sudo"),
    (
        "privileges",
        replace(HEALTHY, capabilities=frozenset(CAPABILITIES) - {"CAP_NET_RAW"}),
        Status.WARNING,
        True,
        "--cap-add NET_RAW",
    ),
    ("TUN", replace(HEALTHY, tun=Tun(TunDevice.ABSENT)), Status.MISSING, False, "mknod"),
    ("TUN", replace(HEALTHY, tun=Tun(TunDevice.NO_DRIVER)), Status.MISSING, False, "modprobe tun"),
    ("TUN", replace(HEALTHY, tun=Tun(TunDevice.FORBIDDEN)), Status.MISSING, False, "--device"),
    ("TUN", replace(UNPRIVILEGED, tun=Tun(TunDevice.FORBIDDEN)), Status.WARNING, True, "chmod"),
    (
        "TUN",
        replace(HEALTHY, tun=Tun(TunDevice.READY, refusal="Device or resource busy")),
        Status.MISSING,
        False,
        "modprobe tun",
    ),
    (
        "data path",
        replace(HEALTHY, data_paths=DataPaths(False, "native", "")),
        Status.MISSING,
        False,
        "unset WGPY_DATAPATH",
    ),
    (
        "data path",
        replace(HEALTHY, data_paths=DataPaths(True, "fast", "")),
        Status.MISSING,
        False,
        "unset WGPY_DATAPATH",
    ),
    (
        "data path",
        replace(HEALTHY, data_paths=DataPaths(False, "auto", "No module named 'cryptography'")),
        Status.MISSING,
        False,
        "pip install",
    ),
    (
        "wgpyd",
        replace(HEALTHY, programs={**PROGRAMS, "wgpyd": None}),
        Status.MISSING,
        False,
        "pip install",
    ),
    (
        "clock",
        replace(HEALTHY, clock=Clock(2026, False, True)),
        Status.WARNING,
        True,
        "timesyncd",
    ),
    ("clock", replace(HEALTHY, clock=Clock(2026, None, True)), Status.WARNING, True, "timesyncd"),
    ("clock", replace(HEALTHY, clock=Clock(1970, True, True)), Status.WARNING, True, "timesyncd"),
    ("clock", replace(HEALTHY, clock=Clock(2026, True, False)), Status.MISSING, False, "linux-"),
    (
        "offloads",
        replace(HEALTHY, udp=Udp(segment=False, gro=True, buffer=WANTED_BUFFER)),
        Status.WARNING,
        True,
        "linux-image",
    ),
    (
        "buffers",
        replace(HEALTHY, udp=Udp(segment=True, gro=True, buffer=212992)),
        Status.WARNING,
        True,
        f"net.core.rmem_max={WANTED_BUFFER}",
    ),
    ("IPv6", replace(HEALTHY, ipv6=Ipv6.OFF), Status.WARNING, True, "disable_ipv6=0"),
    ("IPv6", replace(HEALTHY, ipv6=Ipv6.ABSENT), Status.WARNING, True, "ipv6.disable"),
    ("resolver", replace(HEALTHY, resolver=None), Status.WARNING, True, "systemd-resolved"),
    (
        "nft",
        replace(HEALTHY, programs={**PROGRAMS, "nft": None}),
        Status.MISSING,
        True,
        "apt-get install nftables",
    ),
    (
        "sockets",
        replace(HEALTHY, sockets=(UapiSocket("wg0", True), UapiSocket("wg1", False))),
        Status.WARNING,
        True,
        "rm /var/run/wireguard/wg1.sock",
    ),
    ("sockets", replace(HEALTHY, sockets_open_to_all=True), Status.WARNING, True, "chmod 755"),
]


def finding(facts: Facts, name: str) -> Finding:
    (found,) = [found for found in examine(facts) if found.name == name]
    return found


def test_a_healthy_machine_has_nothing_to_mend() -> None:
    for found in examine(HEALTHY):
        assert (found.status, found.meaning, found.mend) == (Status.OK, "", "")
    assert can_run(examine(HEALTHY))


@pytest.mark.parametrize(("name", "facts", "status", "runs", "mend"), SICK)
def test_what_is_wrong_is_named_with_its_mend(
    name: str, facts: Facts, status: Status, runs: bool, mend: str
) -> None:
    found = finding(facts, name)
    assert found.status is status
    assert mend in found.mend
    assert found.meaning
    assert can_run(examine(facts)) is runs


def test_an_ordinary_user_is_told_what_was_not_tried() -> None:
    assert "not tried" in finding(UNPRIVILEGED, "TUN").fact
    assert "not tried" in finding(UNPRIVILEGED, "offloads").fact


def test_a_missing_offload_is_named() -> None:
    facts = replace(HEALTHY, tun=replace(HEALTHY.tun, offloads={**ALL_OFFLOADS, "uso": False}))
    assert "not TUN uso" in finding(facts, "offloads").fact


def test_the_native_data_path_is_taken_where_it_is() -> None:
    facts = replace(HEALTHY, data_paths=DataPaths(True, "auto", ""))
    assert finding(facts, "data path").fact == "native"
    facts = replace(HEALTHY, data_paths=DataPaths(True, "portable", ""))
    assert finding(facts, "data path").fact.startswith("portable")


@pytest.mark.parametrize(
    ("state", "text"),
    [(None, "not in the kernel"), ("loaded", ", loaded"), ("module", "not loaded")],
)
def test_the_kernels_own_wireguard_is_only_told(state: str | None, text: str) -> None:
    found = finding(replace(HEALTHY, kernel_wireguard=state), "others")
    assert text in found.fact
    assert found.status is Status.OK


def test_every_check_is_run() -> None:
    written: list[Callable[[Facts], Finding]] = [
        value
        for room in (vital, comfort)
        for name, value in vars(room).items()
        if name.startswith("check_")
    ]
    assert len(examine(HEALTHY)) == len(written)
