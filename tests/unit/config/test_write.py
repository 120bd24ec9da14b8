"""Text from a model: the order and spelling of `wg showconf`, and `strip` as wg-quick's."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.requirements import find, program
from tests.unit.config.samples import FULL, OTHER, PEER, PRIVATE, PSK
from wgpy.cli import main
from wgpy.config.conf import parse
from wgpy.config.errors import ConfigError
from wgpy.config.model import Config, InterfaceConfig
from wgpy.config.write import conf_text, from_state, strip_conf
from wgpy.device.uapi import Address, DeviceState, PeerState
from wgpy.ip import parse_prefix
from wgpy.keys import PresharedKey, PrivateKey, PublicKey


def test_showconf_of_a_state() -> None:
    state = DeviceState(
        private_key=PrivateKey.from_base64(PRIVATE),
        listen_port=51820,
        fwmark=0xCA6C,
        peers=[
            PeerState(
                PublicKey.from_base64(PEER),
                preshared_key=PresharedKey.from_base64(PSK),
                endpoint=Address("fe80::1%eth0", 7),
                persistent_keepalive=25,
                allowed_ips=[parse_prefix("10.0.0.0/8"), parse_prefix("::/0")],
            ),
            PeerState(PublicKey.from_base64(OTHER), preshared_key=PresharedKey(bytes(32))),
        ],
    )
    assert conf_text(from_state(state), quick=False) == (
        f"[Interface]\nListenPort = 51820\nFwMark = 0xca6c\nPrivateKey = {PRIVATE}\n\n"
        f"[Peer]\nPublicKey = {PEER}\nPresharedKey = {PSK}\nAllowedIPs = 10.0.0.0/8, ::/0\n"
        f"Endpoint = [fe80::1%eth0]:7\nPersistentKeepalive = 25\n\n"
        f"[Peer]\nPublicKey = {OTHER}\n"
    )
    assert conf_text(from_state(DeviceState()), quick=False) == "[Interface]\n\n"


def test_save_keeps_what_only_wg_quick_reads() -> None:
    text = conf_text(parse(FULL, "quick")[0], quick=True)
    assert text.startswith(
        "[Interface]\nAddress = 10.7.0.2/24\nAddress = fd07::2/64\nAddress = 192.0.2.9/32\n"
        "DNS = 10.7.0.1\nDNS = fd07::1\nDNS = corp.example\nMTU = 1400\nTable = off\n"
        'PreUp = echo "before # not a comment"\n'
    )
    assert parse(text, "quick")[0].interface == parse(FULL, "quick")[0].interface


def test_a_hook_of_two_lines_cannot_be_written() -> None:
    config = Config(InterfaceConfig(post_up=("a\nb",)))
    with pytest.raises(ConfigError, match=r"PostUp: .* several lines"):
        conf_text(config, quick=True)
    assert "a" not in conf_text(config, quick=False).replace("[Interface]", "")


# --- strip ---

SAMPLES = [
    "",
    "\n",
    FULL,
    FULL.rstrip("\n"),
    FULL.replace("\n", "\r\n"),
    FULL.replace("[peer]", "[ Peer ]"),
    "[interface]\n  \taddress = 1.1.1.1  \n PrivateKey = x \t\n",
    "[Interface]\nPreUp # = x\nPostUp\nAddress\nMTU x\n",
    "[Interface] # words\nAddress = 1\n[ Interface ]\nAddress = 2\n",
    "[Interface] x\nAddress = 1\n",
    "Address = 1\n[Interface]\nAddress = 2\n[Peer]\nAddress = 3\n[Interface]\nDNS=4\n",
    "[Interface]\n#Address = 1\nAddress#=1\n Table = off\nTable2 = off\nSaveConfig=true\n",
    "[Interface]\nPost Up = x\nPostUp= echo -e 'a\\nb' \\\nDNS=*\n\\\n\\t\n",
    "  leading\n\ttab\n trailing \t \n\x0bvertical\x0b\n",
    "[Interface]\nAddress = \xe4\xff\nname = \xe4 \xa0\n",
    "-n\n",
    "-e",
    "[Interface]\nSaveConfig = TRUE # yes\nsaveconfig=False\n",
    "[Interface]\n=Address\n= =\n[=]\nAddress=1\n[Interface]=3\nAddress=1\n",
]


def real_strip(directory: Path, text: str) -> subprocess.CompletedProcess[bytes]:
    path = directory / "wg0.conf"
    path.write_bytes(text.encode("latin-1"))
    return subprocess.run([program("wg-quick"), "strip", str(path)], capture_output=True)


@pytest.mark.root
@pytest.mark.tool("wg-quick")
@pytest.mark.parametrize("text", SAMPLES, ids=range(len(SAMPLES)))
def test_strip_prints_what_wg_quick_strip_prints(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], text: str
) -> None:
    other = real_strip(tmp_path, text)
    assert other.returncode == 0
    assert main(["strip", str(tmp_path / "wg0.conf")]) == 0
    assert capfdbinary.readouterr().out == other.stdout


PIECES = st.sampled_from(
    ["[Interface]", "[Peer]", "Address", "postup", "MTU", "=", " = ", "#", " ", "\t", "\n", "\r\n"]
)


@pytest.mark.root
@pytest.mark.skipif(find("wg-quick") is None, reason="wg-quick is not installed")
@given(st.lists(PIECES | st.text(st.characters(max_codepoint=255), max_size=3), max_size=25))
@example(["[Interface]", "\x00", "\n", "Addr", "\x00", "ess=1\n"])
@settings(max_examples=30, deadline=None)
def test_strip_agrees_on_any_text(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str]
) -> None:
    text = "".join(pieces)
    other = real_strip(tmp_path_factory.mktemp("strip"), text)
    if other.returncode == 0:
        assert strip_conf(text).encode("latin-1") == other.stdout


def test_strip_refuses_what_wg_quick_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wg0.conf"
    path.write_text("[Interface]\nSaveConfig = maybe\n")
    path.chmod(0o600)
    assert main(["strip", str(path)]) == 1
    assert f"{path}:2: SaveConfig: 'maybe' is neither true nor false" in capsys.readouterr().err
    for name in ("nothing.conf", "has space.conf", "wg0.ini", "sixteenletters__.conf"):
        assert main(["strip", str(tmp_path / name)]) == 1


def test_strip_of_toml_is_what_setconf_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wg0.toml"
    path.write_text(
        f'[interface]\nprivate_key = "{PRIVATE}"\naddress = "10.0.0.1/24"\npost_up = "true"\n'
        f'[[peer]]\npublic_key = "{PEER}"\nallowed_ips = ["::/0"]\n'
    )
    path.chmod(0o600)
    assert main(["strip", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out == (
        f"[Interface]\nPrivateKey = {PRIVATE}\n\n[Peer]\nPublicKey = {PEER}\nAllowedIPs = ::/0\n"
    )
    assert parse(out, "wg")[1] == []


def test_strip_warns_of_an_open_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wg0.conf"
    path.write_text("[Interface]\n")
    path.chmod(0o644)
    tmp_path.chmod(0o755)
    assert main(["strip", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out == "[Interface]\n\n"
    assert err.startswith("wgpy: warning: ")
    assert "chmod 600" in err
