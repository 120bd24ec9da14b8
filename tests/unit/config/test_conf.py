"""The .conf reader: what each line means, and what is refused with which words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.config.samples import FULL, OTHER, PEER, PRIVATE, PSK, configs
from wgpy.config.conf import parse
from wgpy.config.draft import Mode
from wgpy.config.errors import ConfigError
from wgpy.config.model import Config, EndpointSpec, InterfaceConfig
from wgpy.config.write import conf_text
from wgpy.device.uapi import AllowedIpChange
from wgpy.ip import parse_prefix
from wgpy.keys import PresharedKey, PrivateKey, PublicKey


def interface(text: str, mode: Mode = "quick") -> InterfaceConfig:
    config, warnings = parse("[Interface]\n" + text, mode)
    assert warnings == []
    return config.interface


def test_everything_at_once() -> None:
    config, warnings = parse(FULL, "quick")
    assert warnings == []
    mine = config.interface
    assert mine.private_key == PrivateKey.from_base64(PRIVATE)
    assert (mine.listen_port, mine.fwmark, mine.mtu, mine.table) == (51820, 0xCA6C, 1400, "off")
    assert [str(a) for a in mine.addresses] == ["10.7.0.2/24", "fd07::2/64", "192.0.2.9/32"]
    assert str(mine.addresses[0].network) == "10.7.0.0/24"
    assert mine.dns == ("10.7.0.1", "fd07::1")
    assert mine.dns_search == ("corp.example",)
    assert mine.pre_up == ('echo "before # not a comment"',)
    assert mine.post_up == ("iptables -A FORWARD -i %i -j ACCEPT; echo a=b", "true")
    assert mine.pre_down == ("false || true",)
    assert mine.post_down == ("echo gone",)
    assert mine.save_config is False
    first, second = config.peers
    assert first.public_key == PublicKey.from_base64(PEER)
    assert first.preshared_key == PresharedKey.from_base64(PSK)
    assert [str(p) for p in first.allowed_ips] == ["10.7.0.0/24", "fd07::/64", "0.0.0.0/0"]
    assert first.endpoint == EndpointSpec("gate.example.com", 51820)
    assert first.persistent_keepalive == 25
    assert second.preshared_key is None
    assert [str(p) for p in second.allowed_ips] == ["10.8.0.1/32"]
    assert second.endpoint == EndpointSpec("2001:db8::1", 1)
    assert second.persistent_keepalive == 0


def test_nothing_at_all_is_a_configuration() -> None:
    for text in ("", "\n \t\r\n", "# words\n#[Nothing]", "[Interface]", "[INTERFACE]\r\n"):
        assert parse(text, "wg") == (Config(), [])


def test_what_was_not_mentioned_is_none() -> None:
    config, _ = parse(f"[Peer]\nPublicKey={PEER}", "quick")
    (peer,) = config.peers
    assert peer.persistent_keepalive is None
    assert peer.preshared_key is None
    assert peer.endpoint is None
    assert peer.allowed_ips == ()
    assert config.interface == InterfaceConfig()


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("ListenPort=0", "listen_port", 0),
        ("ListenPort = domain", "listen_port", 53),
        ("listenport\t=\t1 2 3", "listen_port", 123),
        ("FwMark=off", "fwmark", 0),
        ("FwMark=OFF", "fwmark", 0),
        ("FwMark=0xFFffFFff", "fwmark", 0xFFFF_FFFF),
        ("FwMark=010", "fwmark", 10),
        ("MTU=", "mtu", None),
        ("MTU = 65475", "mtu", 65_475),
        ("Table=", "table", "auto"),
        ("Table=AUTO", "table", "auto"),
        ("Table=51820", "table", 51_820),
        ("Table=0x10", "table", 16),
        ("Table=main", "table", 254),
        ("Table=0", "table", 254),
        ("Table=local # words", "table", 255),
        ("SaveConfig = TRUE", "save_config", True),
        ("DNS = 1.1.1.1,fe80::1%eth0 a.example", "dns", ("1.1.1.1", "fe80::1%eth0")),
        ("DNS = ~corp.example", "dns_search", ("~corp.example",)),
        ("DNS=", "dns", ()),
        ("PostUp =", "post_up", ()),
        ("PostUp = a  # b = c  ", "post_up", ("a  # b = c",)),
        ("POSTUP=x=y", "post_up", ("x=y",)),
    ],
)
def test_values(line: str, field: str, value: object) -> None:
    assert getattr(interface(line), field) == value


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.1:1", "192.0.2.1", 1),
        ("[192.0.2.1]:1", "192.0.2.1", 1),
        ("[fe80::1%eth0]:65535", "fe80::1%eth0", 65_535),
        ("2001:db8::1:51820", "2001:db8::1", 51_820),
        ("my_host.example.:domain", "my_host.example.", 53),
        ("a:1 # there", "a", 1),
    ],
)
def test_endpoints(text: str, host: str, port: int) -> None:
    config, _ = parse(f"[Peer]\nPublicKey={PEER}\nEndpoint = {text}", "quick")
    assert config.peers[0].endpoint == EndpointSpec(host, port)


BAD: list[tuple[str, int, str | None, str]] = [
    ("PrivateKey=x", 1, "PrivateKey", "belongs under [Interface]"),
    ("[Interfaces]", 1, None, "no such section"),
    ("[Interface", 1, None, "no such section"),
    ("[Interface] x", 1, None, "no such section"),
    ("[Interface]\nPublicKey=x", 2, "PublicKey", "belongs under [Peer]"),
    ("[Interface]\nPeer", 2, "Peer", "is no key"),
    ("[Interface]\nListenPort", 2, "ListenPort", "the = is missing"),
    ("[Interface]\nListenPort=", 2, "ListenPort", "no value"),
    ("[Interface]\nListenPort = # 1", 2, "ListenPort", "no value"),
    ("[Interface]\nListenPort=65536", 2, "ListenPort", "out of range"),
    ("[Interface]\nListenPort=-1", 2, "ListenPort", "no UDP port"),
    ("[Interface]\nListenPort=99999999999999999999", 2, "ListenPort", "out of range"),
    ("[Interface]\nListenPort=no-such-service", 2, "ListenPort", "no UDP port"),
    ("[Interface]\nFwMark=0x", 2, "FwMark", "is no mark"),
    ("[Interface]\nFwMark=4294967296", 2, "FwMark", "is no mark"),
    ("[Interface]\nFwMark=-1", 2, "FwMark", "is no mark"),
    ("[Interface]\nAdress=10.0.0.1", 2, "Adress", "is no key; did you mean Address?"),
    ("[Interface]\nAddress=10.0.0.1/33", 2, "Address", "number from 0 to 32"),
    ("[Interface]\nAddress=10.0.0.1/24/1", 2, "Address", "bad prefix length"),
    ("[Interface]\nAddress=example.com", 2, "Address", "no IP address"),
    ("[Interface]\nAddress=fd00::1/129", 2, "Address", "number from 0 to 128"),
    ("[Interface]\nAddress=1.1.1.1/8\nAddress=1.1.1.1/8", 3, "Address", "twice (see line 2)"),
    ("[Interface]\nAddress=fd::1/8\nAddress=fd::1/9", 3, "Address", "twice (see line 2)"),
    ("[Interface]\nDNS=1.1.1", 2, "DNS", "no server's address"),
    ("[Interface]\nDNS=a/b", 2, "DNS", "no search domain"),
    ("[Interface]\nMTU=67", 2, "MTU", "too small"),
    ("[Interface]\nMTU=65476", 2, "MTU", "does not fit into one UDP datagram"),
    ("[Interface]\nMTU=big", 2, "MTU", "is no MTU"),
    ("[Interface]\nTable=nowhere", 2, "Table", "no routing table"),
    ("[Interface]\nTable=4294967296", 2, "Table", "no routing table"),
    ("[Interface]\nSaveConfig=yes", 2, "SaveConfig", "neither true nor false"),
    ("[Interface]\nSaveConfig=", 2, "SaveConfig", "no value"),
    ("[Interface]\nPost Up=true", 2, None, "neither a section nor"),
    ("[Interface]\nfoo\0bar=1", 2, None, "NUL"),
    ("[Peer]\nAllowedIPs=1.1.1.1", 1, None, "this peer has no PublicKey"),
    (f"[Peer]\nPublicKey={PEER}\nAllowedIPs=", 3, "AllowedIPs", "no value"),
    (f"[Peer]\nPublicKey={PEER}\nAllowedIPs=1.1.1.1,", 3, "AllowedIPs", "no IP address"),
    (f"[Peer]\nPublicKey={PEER}\nAllowedIPs=1.1.1.1/", 3, "AllowedIPs", "bad prefix length"),
    (f"[Peer]\nPublicKey={PEER}\nAllowedIPs=+1.1.1.1", 3, "AllowedIPs", "leave the sign out"),
    (f"[Peer]\nPublicKey={PEER}\nEndpoint=a", 3, "Endpoint", "has no port"),
    (f"[Peer]\nPublicKey={PEER}\nEndpoint=a:", 3, "Endpoint", "has no port"),
    (f"[Peer]\nPublicKey={PEER}\nEndpoint=:1", 3, "Endpoint", "no host name"),
    (f"[Peer]\nPublicKey={PEER}\nEndpoint=a:0", 3, "Endpoint", "out of range"),
    (f"[Peer]\nPublicKey={PEER}\nEndpoint=[::1:1", 3, "Endpoint", "without its ]"),
    (f"[Peer]\nPublicKey={PEER}\nEndpoint=[::1]1", 3, "Endpoint", "has no port"),
    (f"[Peer]\nPublicKey={PEER}\nEndpoint=::1::2:1", 3, "Endpoint", "no host name"),
    (f"[Peer]\nPublicKey={PEER}\nEndpoint=ä.example:1", 3, "Endpoint", "no host name"),
    (f"[Peer]\nPublicKey={PEER}\nPersistentKeepalive=65536", 3, "PersistentKeepalive", "interval"),
    (f"[Peer]\nPublicKey={PEER}\nPersistentKeepalive=on", 3, "PersistentKeepalive", "interval"),
    (f"[Peer]\nPublicKey={PEER}\nMTU=1400", 3, "MTU", "belongs under [Interface]"),
    (f"[Peer]\nPublicKey={PEER}\n[Peer]\nPublicKey={PEER}", 4, "PublicKey", "(see line 2)"),
    (
        f"[Peer]\nPublicKey={PEER}\nAllowedIPs=10.0.0.0/8\n"
        f"[Peer]\nPublicKey={OTHER}\nAllowedIPs=10.1.0.0/16,\t10.0.0.0/8",
        6,
        "AllowedIPs",
        "10.0.0.0/8 is another peer's (see line 3)",
    ),
]


@pytest.mark.parametrize(("text", "line", "key", "reason"), BAD)
def test_refused_with_line_and_key(text: str, line: int, key: str | None, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "quick")
    error = caught.value
    assert (error.line, error.key) == (line, key)
    assert reason in str(error)


@pytest.mark.parametrize(
    "line",
    ["Address=1.1.1.1", "DNS=1.1.1.1", "MTU=1400", "Table=off", "PostUp=true", "SaveConfig=true"],
)
def test_keys_of_wg_quick_are_none_of_wg(line: str) -> None:
    with pytest.raises(ConfigError, match=r"is a key of wg-quick\(8\)"):
        parse(f"[Interface]\n{line}", "wg")
    parse(f"[Interface]\n{line}", "quick")


def test_the_first_of_several_errors_is_told() -> None:
    with pytest.raises(ConfigError, match="line 2: ListenPort"):
        parse("[Interface]\nListenPort=x\nFwMark=x", "wg")


SECRET = PRIVATE[:-1] + "A"


@pytest.mark.parametrize(
    "text",
    [
        f"[Interface]\nPrivateKey = {SECRET}",
        f"[Interface]\nPrivateKey = {PRIVATE}{PRIVATE}",
        f"[Interface]\nPrivateKey {PRIVATE}",
        f"[Interface]\n{PRIVATE}",
        f"[Interface]\nPrivateKy\n{PRIVATE}",
        f"{PRIVATE}",
        f"[{PRIVATE}]",
        f"[Peer]\nPresharedKey = {SECRET}",
        f"[Peer]\nPublicKey = {SECRET}",
        f"[Interface]\nPrivateKey = {PRIVATE}\nPrivateKey = {PRIVATE}\nMTU=x",
    ],
)
def test_no_secret_in_a_message(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "quick")
    assert PRIVATE[:12] not in str(caught.value)
    assert PRIVATE[-13:-1] not in str(caught.value)
    assert PRIVATE[:12].lower() not in str(caught.value).lower()


def test_a_message_is_one_printable_line() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("[Interface]\nAddress=\x1b[31m\x07" + "9" * 500, "quick")
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 250


# --- Warnings ---


def warnings(text: str, mode: Mode = "wg") -> list[str]:
    return parse(text, mode)[1]


def test_host_bits_are_warned_of() -> None:
    text = f"[Peer]\nPublicKey={PEER}\nAllowedIPs=10.0.0.1/8"
    (warning,) = warnings(text)
    assert warning.startswith("line 3: AllowedIPs: '10.0.0.1/8' has bits beyond")
    assert "10.0.0.0/8" in warning
    assert parse(text, "wg")[0].peers[0].allowed_ips == (parse_prefix("10.0.0.0/8"),)


def test_a_value_twice_counts_as_the_last() -> None:
    text = "[Interface]\nListenPort=1\nListenPort=2"
    config, said = parse(text, "wg")
    assert config.interface.listen_port == 2
    assert said == ["line 3: ListenPort: was given in line 2 too; the last counts"]


def test_an_allowed_ip_twice_in_one_peer_is_once() -> None:
    text = f"[Peer]\nPublicKey={PEER}\nAllowedIPs=10.0.0.0/8\nAllowedIPs=::/0,10.0.0.0/8"
    for mode in ("wg", "quick"):
        config, said = parse(text, mode)  # type: ignore[arg-type]
        assert [str(p) for p in config.peers[0].allowed_ips] == ["10.0.0.0/8", "::/0"]
        assert len(said) == 1
        assert "here twice (see line 3)" in said[0]


def test_for_wg_the_last_peer_has_an_allowed_ip() -> None:
    text = (
        f"[Peer]\nPublicKey={PEER}\nAllowedIPs=10.0.0.0/8,::/0\n"
        f"[Peer]\nPublicKey={OTHER}\nAllowedIPs=10.0.0.0/8"
    )
    config, said = parse(text, "wg")
    assert [[str(p) for p in peer.allowed_ips] for peer in config.peers] == [
        ["::/0"],
        ["10.0.0.0/8"],
    ]
    assert len(said) == 1
    assert "the last peer has it" in said[0]


def test_for_wg_a_peer_twice_is_one_peer() -> None:
    text = (
        f"[Peer]\nPublicKey={PEER}\nAllowedIPs=10.0.0.0/8\nPresharedKey={PSK}\nEndpoint=a:1\n"
        f"[Peer]\nPublicKey={PEER}\nAllowedIPs=::/0\nEndpoint=b:2\nPersistentKeepalive=off"
    )
    config, said = parse(text, "wg")
    (peer,) = config.peers
    assert [str(p) for p in peer.allowed_ips] == ["::/0"]
    assert peer.preshared_key == PresharedKey.from_base64(PSK)
    assert peer.endpoint == EndpointSpec("b", 2)
    assert peer.persistent_keepalive == 0
    assert len(said) == 1


def test_incremental_allowed_ips() -> None:
    text = f"[Peer]\nPublicKey={PEER}\nAllowedIPs=+10.0.0.0/8,-::/0, 192.0.2.1"
    (peer,) = parse(text, "wg")[0].peers
    assert peer.allowed_ips == ()
    assert peer.incremental == (
        AllowedIpChange(parse_prefix("10.0.0.0/8")),
        AllowedIpChange(parse_prefix("::/0"), remove=True),
        AllowedIpChange(parse_prefix("192.0.2.1/32")),
    )


def test_a_second_section_may_change_what_the_first_gave() -> None:
    text = f"[Peer]\nPublicKey={PEER}\nAllowedIPs=10.0.0.0/8,::/0\n"
    text += f"[Peer]\nPublicKey={PEER}\nAllowedIPs=-::/0,+fd00::/8"
    (peer,) = parse(text, "wg")[0].peers
    assert peer.incremental is None
    assert [str(p) for p in peer.allowed_ips] == ["10.0.0.0/8", "fd00::/8"]


def test_signs_are_written_again() -> None:
    text = f"[Peer]\nPublicKey={PEER}\nAllowedIPs=-::/0,+fd00::/8"
    config = parse(text, "wg")[0]
    written = conf_text(config, quick=False)
    assert "AllowedIPs = -::/0, +fd00::/8\n" in written
    assert parse(written, "wg") == (config, [])


def test_a_line_without_signs_replaces_again() -> None:
    text = f"[Peer]\nPublicKey={PEER}\nAllowedIPs=10.0.0.0/8,-::/0\nAllowedIPs=::1"
    (peer,) = parse(text, "wg")[0].peers
    assert peer.incremental is None
    assert [str(p) for p in peer.allowed_ips] == ["10.0.0.0/8", "::1/128"]


# --- Any text ---

WORDS = st.sampled_from(
    [
        *("[Interface]", "[Peer]", "[", "]", "=", "#", "\n", "\r\n", " ", "\0", ",", "/", "off"),
        *("PrivateKey", "PublicKey", "AllowedIPs", "Endpoint", "Address", "DNS", "PostUp", "MTU"),
        *("ListenPort", "FwMark", "Table", "SaveConfig", "PersistentKeepalive", "PresharedKey"),
        *(PEER, OTHER, PRIVATE, "10.0.0.1", "::1", "24", "a.example", "[::1]:1", "-", "+", "true"),
    ]
)


@given(st.lists(WORDS | st.text(max_size=4), max_size=40).map("".join))
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    for mode in ("wg", "quick"):
        try:
            config, said = parse(text, mode)  # type: ignore[arg-type]
        except ConfigError as error:
            said = [str(error)]
        else:
            assert isinstance(config, Config)
        assert all(line.isprintable() and PRIVATE[:20] not in line for line in said)


@given(configs())
def test_what_is_written_is_read_again(config: Config) -> None:
    assert parse(conf_text(config, quick=True), "quick") == (config, [])


@given(configs(quick=False))
def test_what_is_written_for_wg_is_read_again(config: Config) -> None:
    text = conf_text(config, quick=False)
    assert parse(text, "wg") == (config, [])
    assert parse(text, "quick") == (config, [])
