"""`wgpy set`, `setconf`, `addconf`, `syncconf` and `showconf` on an interface in memory."""

from pathlib import Path

import pytest

from tests.unit.device.fake_interface import FakeInterface, served
from wgpy.cli import main
from wgpy.cli import set as set_command
from wgpy.cli.errors import CommandError
from wgpy.cli.set import read_words
from wgpy.device import client
from wgpy.device.uapi import Address, AllowedIpChange, DeviceChange, PeerChange, PeerState
from wgpy.identity.settings import Expectation, IdentitySettings
from wgpy.ip import parse_prefix
from wgpy.keys import PresharedKey, PrivateKey, PublicKey

KEY = PublicKey(b"\x01" * 32)
OTHER = PublicKey(b"\x02" * 32)
PEER = ["peer", KEY.base64()]


def added(*texts: str) -> list[AllowedIpChange]:
    return [AllowedIpChange(parse_prefix(text)) for text in texts]


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "key"
    path.write_text(PrivateKey(b"\x08" + bytes(30) + b"\x40").base64() + "\n")
    return str(path)


class TestWords:
    def test_everything_at_once(self, key_file: str) -> None:
        words = ["listen-port", "51820", "fwmark", "0xca6c", "private-key", key_file]
        words += [*PEER, "preshared-key", key_file, "endpoint", "[2001:DB8::1]:7"]
        words += ["persistent-keepalive", "25", "allowed-ips", "10.0.0.0/8, fd00::1"]
        words += ["peer", OTHER.base64(), "remove"]
        key = b"\x08" + bytes(30) + b"\x40"
        assert read_words(words) == DeviceChange(
            private_key=PrivateKey(key),
            listen_port=51820,
            fwmark=0xCA6C,
            peers=[
                PeerChange(
                    KEY,
                    preshared_key=PresharedKey(key),
                    endpoint=Address("2001:db8::1", 7),
                    persistent_keepalive=25,
                    replace_allowed_ips=True,
                    allowed_ips=added("10.0.0.0/8", "fd00::1/128"),
                ),
                PeerChange(OTHER, remove=True),
            ],
        )

    def test_off_and_empty_mean_none(self, tmp_path: Path) -> None:
        words = ["fwmark", "off", "private-key", "/dev/null", "listen-port", "0"]
        words += [*PEER, "preshared-key", "/dev/null", "persistent-keepalive", "off"]
        change = read_words([*words, "allowed-ips", ""])
        assert change.private_key is not None
        assert change.private_key.is_zero()
        assert (change.fwmark, change.listen_port) == (0, 0)
        peer = change.peers[0]
        assert peer == PeerChange(
            KEY,
            preshared_key=PresharedKey(bytes(32)),
            persistent_keepalive=0,
            replace_allowed_ips=True,
        )

    def test_signs_change_the_list_instead_of_replacing_it(self) -> None:
        (peer,) = read_words([*PEER, "allowed-ips", "+10.0.0.0/8,-fd00::/8"]).peers
        assert not peer.replace_allowed_ips
        assert peer.allowed_ips == [
            AllowedIpChange(parse_prefix("10.0.0.0/8")),
            AllowedIpChange(parse_prefix("fd00::/8"), remove=True),
        ]

    def test_a_peer_that_goes_has_nothing_else(self) -> None:
        (peer,) = read_words([*PEER, "remove", "allowed-ips", "10.0.0.0/8"]).peers
        assert peer == PeerChange(KEY, remove=True)

    def test_host_bits_are_warned_of(self, capsys: pytest.CaptureFixture[str]) -> None:
        (peer,) = read_words([*PEER, "allowed-ips", "10.1.2.3/8"]).peers
        assert peer.allowed_ips == added("10.0.0.0/8")
        assert "'10.1.2.3/8' has bits beyond its length" in capsys.readouterr().err

    def test_a_host_name_is_looked_up_and_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = Address("192.0.2.9", 51820)
        monkeypatch.setattr(set_command, "resolve", lambda host, port, report: found)
        (peer,) = read_words([*PEER, "endpoint", "vpn.example.org:51820"]).peers
        assert (peer.endpoint, peer.endpoint_name) == (found, ("vpn.example.org", 51820))

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            ([], "nothing to change"),
            (["listen-port"], "listen-port needs a value"),
            (["listen-port", "70000"], "listen-port: the port '70000'"),
            (["fwmark", "x"], "fwmark: 'x' is no mark"),
            (["colour", "blue"], "'colour' is not known here"),
            (["remove"], "remove is a peer's"),
            (["endpoint", "1.2.3.4:5"], "endpoint is a peer's"),
            ([*PEER, "fwmark", "1"], "fwmark is the interface's"),
            (["peer", "abc"], "peer: a key is 44 characters"),
            ([*PEER, "allowed-ips", "10.0.0.0/33"], "allowed-ips: '10.0.0.0/33'"),
            ([*PEER, "allowed-ips", "10.0.0.0/8,,"], "allowed-ips: ''"),
            ([*PEER, "endpoint", "1.2.3.4"], "endpoint: '1.2.3.4' has no port"),
            ([*PEER, "persistent-keepalive", "65536"], "persistent-keepalive: '65536'"),
        ],
    )
    def test_bad_words_are_refused_with_the_reason(self, words: list[str], reason: str) -> None:
        with pytest.raises(CommandError) as caught:
            read_words(words)
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_bad_key_file_is_named_and_not_repeated(self, tmp_path: Path) -> None:
        path = tmp_path / "key"
        path.write_text("c2VjcmV0IHNlY3JldA==")
        with pytest.raises(CommandError, match="key': a key is 44 characters") as caught:
            read_words(["private-key", str(path)])
        assert "c2VjcmV0" not in str(caught.value)
        with pytest.raises(FileNotFoundError):
            read_words(["private-key", str(tmp_path / "none")])


@pytest.fixture
def interface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeInterface:
    """What the commands are told is the interface `wg0`: served until the test ends."""
    get, apply = client.get, client.apply
    monkeypatch.setattr(client, "get", lambda name, _directory="": get(name, str(tmp_path)))
    monkeypatch.setattr(client, "apply", lambda name, change: apply(name, change, str(tmp_path)))
    return FakeInterface()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "wg0.conf"
    path.write_text(
        f"[Interface]\nListenPort = 7\n[Peer]\nPublicKey = {KEY.base64()}\n"
        "AllowedIPs = 10.0.0.0/8\nEndpoint = 192.0.2.1:5\n"
    )
    return path


WHOLE_PEER = PeerChange(
    KEY, endpoint=Address("192.0.2.1", 5), replace_allowed_ips=True, allowed_ips=added("10.0.0.0/8")
)


class TestCommands:
    def test_set(self, interface: FakeInterface, tmp_path: Path) -> None:
        with served(interface, tmp_path / "wg0.sock"):
            assert main(["set", "wg0", "listen-port", "9", *PEER, "allowed-ips", "-::/0"]) == 0
        (change,) = interface.changes
        assert change.listen_port == 9
        assert change.peers[0].allowed_ips == [AllowedIpChange(parse_prefix("::/0"), remove=True)]

    def test_setconf_resets_what_the_file_lacks(
        self, interface: FakeInterface, tmp_path: Path, file: Path
    ) -> None:
        with served(interface, tmp_path / "wg0.sock"):
            assert main(["setconf", "wg0", str(file)]) == 0
        assert interface.changes == [
            DeviceChange(
                private_key=PrivateKey(bytes(32)),
                listen_port=7,
                fwmark=0,
                replace_peers=True,
                peers=[WHOLE_PEER],
            )
        ]

    def test_addconf_leaves_the_rest(
        self, interface: FakeInterface, tmp_path: Path, file: Path
    ) -> None:
        with served(interface, tmp_path / "wg0.sock"):
            assert main(["addconf", "wg0", str(file)]) == 0
        assert interface.changes == [DeviceChange(listen_port=7, peers=[WHOLE_PEER])]

    def test_syncconf_sends_only_what_differs(
        self, interface: FakeInterface, tmp_path: Path, file: Path
    ) -> None:
        with served(interface, tmp_path / "wg0.sock"):
            assert main(["setconf", "wg0", str(file)]) == 0
            assert main(["syncconf", "wg0", str(file)]) == 0
            assert len(interface.changes) == 1
            file.write_text(file.read_text() + "PersistentKeepalive = 5\n")
            assert main(["syncconf", "wg0", str(file)]) == 0
        assert interface.changes[1:] == [
            DeviceChange(peers=[PeerChange(KEY, update_only=True, persistent_keepalive=5)])
        ]

    def test_a_whole_file_is_brought_in_with_its_credentials(
        self, interface: FakeInterface, tmp_path: Path
    ) -> None:
        (tmp_path / "me.pem").touch()
        whole = tmp_path / "wg0.toml"
        whole.write_text(
            '[interface]\naddress = "10.0.0.1/24"\n\n[identity]\ncertificate = "me.pem"\n\n'
            f'[[peer]]\npublic_key = "{KEY.base64()}"\ncredential = true\nexpect = "key"\n'
        )
        whole.chmod(0o600)
        with served(interface, tmp_path / "wg0.sock"):
            assert main(["syncconf", "wg0", str(whole)]) == 1
            assert main(["syncconf", "--strip", "wg0", str(whole)]) == 0
        (change,) = interface.changes
        assert change.identity == IdentitySettings(f"{tmp_path}/me.pem")
        assert change.peers[0].expectation == Expectation(None, key_suffices=True)

    def test_a_whole_conf_file_is_brought_in(
        self, interface: FakeInterface, tmp_path: Path, file: Path
    ) -> None:
        file = file.rename(tmp_path / "wg0.conf")
        file.chmod(0o600)
        file.write_text(file.read_text().replace("[Interface]", "[Interface]\nAddress = 10.0.0.1"))
        with served(interface, tmp_path / "wg0.sock"):
            assert main(["addconf", "wg0", str(file)]) == 1
            assert main(["addconf", "--strip", "wg0", str(file)]) == 0
        assert interface.changes == [DeviceChange(listen_port=7, peers=[WHOLE_PEER])]

    def test_showconf_says_what_it_leaves_out(
        self, interface: FakeInterface, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        interface.now.identity = IdentitySettings("/etc/wgpy/me.pem")
        interface.now.peers = [PeerState(KEY, admitted=True)]
        with served(interface, tmp_path / "wg0.sock"):
            assert main(["showconf", "wg0"]) == 0
        assert capsys.readouterr() == (
            "[Interface]\nListenPort = 51820\n\n",
            "wgpy: warning: wg0: a .conf file knows no credentials: left out [identity]\n",
        )

    def test_nothing_is_sent_of_a_bad_file(
        self,
        interface: FakeInterface,
        tmp_path: Path,
        file: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        file.write_text(file.read_text() + "Colour = blue\n")
        with served(interface, tmp_path / "wg0.sock"):
            for command in ("setconf", "addconf", "syncconf"):
                assert main([command, "wg0", str(file)]) == 1
                assert f"wgpy: {file}:7: " in capsys.readouterr().err
        assert interface.changes == []

    def test_showconf_is_what_setconf_reads(
        self,
        interface: FakeInterface,
        tmp_path: Path,
        file: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        with served(interface, tmp_path / "wg0.sock"):
            assert main(["setconf", "wg0", str(file)]) == 0
            assert main(["showconf", "wg0"]) == 0
            text = capsys.readouterr().out
            assert text == (
                f"[Interface]\nListenPort = 7\n\n[Peer]\nPublicKey = {KEY.base64()}\n"
                "AllowedIPs = 10.0.0.0/8\nEndpoint = 192.0.2.1:5\n"
            )
            file.write_text(text)
            assert main(["setconf", "wg0", str(file)]) == 0
        assert interface.changes[0] == interface.changes[1]
