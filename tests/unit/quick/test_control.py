"""What `up` tells the daemon, through the socket of a fake one."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.config.test_toml_credentials import FILES, LEAST
from tests.unit.device.fake_interface import FakeInterface, served
from wgpy.config.model import Config, EndpointSpec
from wgpy.config.toml import parse
from wgpy.device import client
from wgpy.device.uapi import Address, DeviceState, PeerState, UapiError
from wgpy.identity.derived import quarantine_range
from wgpy.identity.settings import AuthoritySettings, Expectation
from wgpy.ip import parse_prefix
from wgpy.keys import PublicKey
from wgpy.quick.control import DaemonControl
from wgpy.quick.machine import routed

KEY = PublicKey(bytes(range(32)))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    for name in FILES:
        (tmp_path / name).touch()
    text = (
        LEAST
        + '[identity]\ncertificate = "me.pem"\n'
        + f'[[peer]]\npublic_key = "{KEY.base64()}"\ncredential = true\nname = "a.mesh"\n'
    )
    return parse(text, "quick", tmp_path / "wg0.toml")[0]


@pytest.fixture
def interface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeInterface:
    """The interface that the control speaks to, not served yet."""
    get, apply = client.get, client.apply
    monkeypatch.setattr(client, "get", lambda name, _directory="": get(name, str(tmp_path)))
    monkeypatch.setattr(client, "apply", lambda name, change: apply(name, change, str(tmp_path)))
    return FakeInterface()


def never(spec: EndpointSpec) -> Address:
    raise AssertionError(f"{spec} must not be looked up")


def test_the_daemon_is_told_of_credentials(
    tmp_path: Path, interface: FakeInterface, config: Config
) -> None:
    with served(interface, tmp_path / "wg0.sock"):
        DaemonControl("wg0", config, never).configure()
    (change,) = interface.changes
    assert config.authority is not None
    assert (change.authority, change.identity) == (config.authority, config.identity)
    assert change.peers[0].expectation == Expectation("a.mesh")


def test_another_daemon_is_refused(
    tmp_path: Path, interface: FakeInterface, config: Config
) -> None:
    interface.now.wgpy_version = None
    with (
        served(interface, tmp_path / "wg0.sock"),
        pytest.raises(UapiError, match="its daemon knows no credentials"),
    ):
        DaemonControl("wg0", config, never).configure()
    assert interface.changes == []


def test_routes_lead_to_what_is_accepted_and_not_to_each_who_came_in() -> None:
    state = DeviceState(
        peers=[
            PeerState(KEY, allowed_ips=[parse_prefix("10.9.0.0/16")]),
            PeerState(KEY, allowed_ips=[parse_prefix("10.7.0.9/32")], admitted=True),
        ]
    )
    assert routed(state) == (parse_prefix("10.9.0.0/16"),)
    state.authority = AuthoritySettings(bytes(16), (parse_prefix("10.7.0.0/16"),))
    assert routed(state) == (parse_prefix("10.9.0.0/16"), parse_prefix("10.7.0.0/16"))
    # And to those who enrol, where somebody may.
    state.authority = replace(state.authority, enrol=True)
    assert routed(state)[2:] == (quarantine_range(bytes(16)),)
