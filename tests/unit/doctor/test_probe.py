"""The doctor's probes: what they read, and that they take this machine as it is."""

import socket
from pathlib import Path

import pytest

from wgpy.doctor import probe
from wgpy.doctor.facts import TunDevice
from wgpy.doctor.probe import read_capabilities
from wgpy.doctor.probe_net import probe_tun, probe_udp


@pytest.mark.parametrize(
    ("mask", "names"),
    [
        ("0000000000000000", set()),
        ("0000000000001000", {"CAP_NET_ADMIN"}),
        (
            "0000000000003c00",
            {
                "CAP_NET_ADMIN",
                "CAP_NET_RAW",
                "CAP_NET_BIND_SERVICE",
                "CAP_NET_BROADCAST",
            },
        ),
        (
            "000001ffffdfffff",
            {
                "CAP_NET_ADMIN",
                "CAP_NET_RAW",
                "CAP_NET_BIND_SERVICE",
                "CAP_NET_BROADCAST",
            },
        ),
    ],
)
def test_capabilities_are_those_of_the_effective_mask(mask: str, names: set[str]) -> None:
    status = f"Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t{mask}\nCapBnd:\t0\n"
    assert read_capabilities(status) == names


def test_capabilities_of_a_text_without_any() -> None:
    assert read_capabilities("Name:\tx\n") == frozenset()


def test_sockets_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_SOCKETS", tmp_path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "wg1.sock"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "wg0.sock"))
        listener.listen()
        found = probe.probe().sockets
    assert [(one.interface, one.alive) for one in found] == [("wg0", True), ("wg1", False)]


def test_no_directory_of_sockets_is_no_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_SOCKETS", tmp_path / "nowhere")
    assert probe.probe().sockets == ()


def test_udp_probe_gives_a_buffer() -> None:
    assert probe_udp().buffer > 1024


@pytest.mark.root
def test_tun_probe_leaves_no_interface() -> None:
    before = {name for _, name in socket.if_nameindex()}
    tun = probe_tun()
    assert tun.device is TunDevice.READY
    assert tun.refusal == ""
    assert tun.offloads is not None
    assert tun.offloads["vnet_hdr"]
    new = {name for _, name in socket.if_nameindex()} - before
    assert not [name for name in new if name.startswith("tun")]
