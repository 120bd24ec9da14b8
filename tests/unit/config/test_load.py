"""Finding and reading files."""

from pathlib import Path

import pytest

from tests.unit.config.samples import FULL, PEER, PRIVATE
from wgpy.config import load as module
from wgpy.config.errors import ConfigError
from wgpy.config.load import (
    find,
    interface_name,
    is_interface_name,
    load,
    warning_without_key,
)


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for /etc: has wireguard/ and wgpy/."""
    for name in ("wireguard", "wgpy", "here"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setattr(module, "WIREGUARD_DIRECTORY", tmp_path / "wireguard")
    monkeypatch.setattr(module, "WGPY_DIRECTORY", tmp_path / "wgpy")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.mark.parametrize("name", ["wg0", "a", "A_b=c+d.e-f", "x" * 15, "...", "0"])
def test_names_of_interfaces(name: str) -> None:
    assert is_interface_name(name)
    assert interface_name(Path(f"/any/where/{name}.conf")) == name
    assert interface_name(Path(f"{name}.toml")) == name


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 16, "a b", "a/b", "ä", "a\n", "wg0;", "%i"])
def test_what_is_no_name_of_an_interface(name: str) -> None:
    assert not is_interface_name(name)


@pytest.mark.parametrize("name", ["wg0", "wg0.ini", "wg 0.conf", ".conf", "wg0.CONF", "x" * 16])
def test_files_that_are_of_no_interface(name: str) -> None:
    with pytest.raises(ConfigError, match="not that of an interface"):
        interface_name(Path(name))


def test_a_name_is_looked_for_in_both_places(etc: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither .*/wg0\.conf nor .*/wg0\.toml"):
        find("wg0")
    toml = etc / "wgpy" / "wg0.toml"
    toml.touch()
    assert find("wg0") == toml
    conf = etc / "wireguard" / "wg0.conf"
    conf.touch()
    with pytest.raises(ConfigError, match="exists as well; name the one to use by its path"):
        find("wg0")
    assert find(str(conf)) == conf
    toml.unlink()
    assert find("wg0") == conf


def test_a_path_is_taken_as_it_is(etc: Path) -> None:
    (etc / "here" / "wg0.conf").touch()
    assert find("./wg0.conf") == Path("wg0.conf")
    assert find("wg0.conf") == Path("wg0.conf")
    for missing in ("./wg1.conf", "wg1.conf", str(etc / "wg1.toml")):
        with pytest.raises(ConfigError, match=r"there is (no such file|neither)"):
            find(missing)
    with pytest.raises(ConfigError, match="not that of an interface"):
        find("./wg0")


def test_the_suffix_chooses_the_format(tmp_path: Path) -> None:
    conf, toml = tmp_path / "wg0.conf", tmp_path / "wg0.toml"
    conf.write_text(FULL)
    toml.write_text("[interface]\nmtu = 1400\n")
    for path in (conf, toml):
        path.chmod(0o600)
        loaded = load(path, "quick")
        assert loaded.warnings == []
        assert loaded.config.path == path
        assert loaded.config.interface.mtu == 1400
        with pytest.raises(ConfigError) as caught:
            load(str(path), "wg")
        assert str(caught.value).startswith(f"{path}:")


def test_an_open_file_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "wg0.conf"
    path.write_text("[Interface]\nMTU=1400\nMTU=1500\n")
    path.chmod(0o604)
    tmp_path.chmod(0o755)
    warnings = load(path, "quick").warnings
    assert len(warnings) == 2
    assert "chmod 600" in warnings[0]
    path.write_text("")
    assert load(path, "wg").warnings == []


def test_a_configuration_without_a_key(tmp_path: Path) -> None:
    path = tmp_path / "wg0.conf"
    path.write_text("[Interface]\n")
    said = warning_without_key(load(path, "quick").config)
    assert said == f"{path}: there is no private key; nobody can connect"
    for line in (f"PrivateKey={PRIVATE}", "PostUp = wg set %i private-key /k"):
        path.write_text(f"[Interface]\n{line}\n")
        assert warning_without_key(load(path, "quick").config) is None


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "missing", "wg")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, "wg")
    with pytest.raises(ConfigError, match="is no path"):
        load("a\0b", "wg")
    monkeypatch.setattr(module, "MAX_FILE_LENGTH", 1 << 20)
    with pytest.raises(ConfigError, match="longer than 1 MiB"):
        load("/dev/zero", "wg")


def test_a_byte_order_mark_is_named(tmp_path: Path) -> None:
    path = tmp_path / "wg0.conf"
    path.write_bytes(b"\xef\xbb\xbf[Interface]\n")
    with pytest.raises(ConfigError, match=":1: starts with a byte order mark"):
        load(path, "wg")


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    conf, toml = tmp_path / "wg0.conf", tmp_path / "wg0.toml"
    conf.write_bytes(b"[Interface]\nPostUp = echo \xff # \xe4\n")
    (hook,) = load(conf, "quick").config.interface.post_up
    assert hook.encode("utf-8", "surrogateescape") == b"echo \xff # \xe4"
    conf.write_bytes(b"[Interface]\nAddress = \xff\n")
    with pytest.raises(ConfigError) as caught:
        load(conf, "quick")
    assert str(caught.value).isprintable()
    toml.write_bytes(b"[interface]\n\n# \xff\n")
    with pytest.raises(ConfigError, match=r"wg0\.toml:3: is not UTF-8"):
        load(toml, "quick")


def test_ten_thousand_peers_are_read(tmp_path: Path) -> None:
    import base64

    path = tmp_path / "wg0.conf"
    lines = ["[Interface]\n"]
    for number in range(10_000):
        key = base64.b64encode(number.to_bytes(32, "big")).decode()
        lines.append(
            f"[Peer]\nPublicKey = {key}\nEndpoint = 192.0.2.1:{number + 1}\n"
            f"AllowedIPs = 10.{number >> 8}.{number & 255}.0/24, fd00:{number:x}::/32\n"
        )
    path.write_text("".join(lines))
    loaded = load(path, "wg")
    assert len(loaded.config.peers) == 10_000
    assert loaded.warnings == []
    assert loaded.config.peers[-1].public_key.base64() != PEER
