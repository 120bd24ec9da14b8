"""wgpy.toml: the same things as in a .conf file, and errors with line and key."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.config.samples import FULL, OTHER, PEER, PRIVATE, PSK
from wgpy.config import conf
from wgpy.config.draft import Mode
from wgpy.config.errors import ConfigError
from wgpy.config.model import Config, EndpointSpec
from wgpy.config.toml import parse
from wgpy.firewall.rules import Settings
from wgpy.keys import PresharedKey, PrivateKey

# What tests/unit/config/samples.py has as a .conf file.
SAME = f"""
[interface]
address = ["10.7.0.2/24", "fd07::2/64", "192.0.2.9"]
dns = ["10.7.0.1", "fd07::1", "corp.example"]
mtu = 1400
table = "off"
listen_port = 51820
fwmark = 0xca6c
private_key = "{PRIVATE}"
pre_up = 'echo "before # not a comment"'
post_up = ["iptables -A FORWARD -i %i -j ACCEPT; echo a=b", "true"]
pre_down = "false || true"
post_down = ["echo gone"]
save_config = false

[[peer]]
public_key = "{PEER}"
preshared_key = "{PSK}"
allowed_ips = ["10.7.0.0/24", "fd07::/64", "0.0.0.0/0"]
endpoint = "gate.example.com:51820"
persistent_keepalive = 25

[[peer]]
public_key = "{OTHER}"
allowed_ips = "10.8.0.1"
endpoint = "[2001:db8::1]:1"
persistent_keepalive = "off"
"""


def test_both_formats_say_the_same() -> None:
    config, said = conf.parse(FULL, "quick")
    # What .conf cannot say, a TOML file without it says that there is none of.
    assert parse(SAME, "quick") == (replace(config, firewall=Settings()), said)


def test_inline_and_dotted() -> None:
    text = (
        f"interface.mtu = 1400\ninterface.table = 7\n"
        f'peer = [{{ public_key = "{PEER}", name = "it", endpoint = "a:1" }}]\n'
    )
    config, said = parse(text, "quick")
    assert said == []
    assert (config.interface.mtu, config.interface.table) == (1400, 7)
    assert config.peers[0].name == "it"
    assert config.peers[0].endpoint == EndpointSpec("a", 1)


def test_nothing_is_a_configuration() -> None:
    nothing = Config(firewall=Settings())
    assert parse("", "quick") == (nothing, [])
    assert parse("[interface]\n# words\n", "wg") == (nothing, [])


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ('listen_port = "domain"', "listen_port", 53),
        ("listen_port = 0", "listen_port", 0),
        ('fwmark = "off"', "fwmark", 0),
        ('fwmark = "0x10"', "fwmark", 16),
        ('mtu = "1400"', "mtu", 1400),
        ('table = "main"', "table", 254),
        ("table = 0xffffffff", "table", 0xFFFF_FFFF),
        ("dns = []", "dns", ()),
        ('post_up = """\na\nb\n"""', "post_up", ("a\nb\n",)),
    ],
)
def test_values(line: str, field: str, value: object) -> None:
    config, said = parse(f"[interface]\n{line}\n", "quick")
    assert said == []
    assert getattr(config.interface, field) == value


K = f'[[peer]]\npublic_key = "{PEER}"\n'

BAD: list[tuple[str, int | None, str | None, str]] = [
    ("a", 1, None, "this is not TOML"),
    ("[interface]\nmtu = 1\nmtu = 2\n", 3, None, "this is not TOML"),
    ("x = " + "9" * 5000, None, None, "not TOML that a person wrote"),
    ("[interfaces]", 1, "interfaces", "is no key; did you mean interface?"),
    ("interface = 1", 1, "interface", "is no table; write [interface]"),
    ("[[interface]]", 1, "interface", "is no table"),
    ("[peer]", 1, "peer", "is no list; write each peer under [[peer]]"),
    ("peer = [\n1]", 2, "peer", "is no table; write [[peer]]"),
    ("[interface]\n\nadress = []", 3, "adress", "did you mean address?"),
    ("[interface]\nPrivateKey = 1", 2, "PrivateKey", "did you mean private_key?"),
    ("[interface]\nprivate-key = 1", 2, "private-key", "did you mean private_key?"),
    ("[interface]\nzzzzz = 1", 2, "zzzzz", "see wgpy.toml(5)"),
    ("[interface]\nprivate_key = 1", 2, "private_key", "is not a text in quotes"),
    ('[interface]\nprivate_key = "x"', 2, "private_key", "this has 1 char"),
    ("[interface]\nlisten_port = 65536", 2, "listen_port", "out of range"),
    ("[interface]\nlisten_port = -1", 2, "listen_port", "no UDP port"),
    ("[interface]\nlisten_port = true", 2, "listen_port", "is not a number"),
    ("[interface]\nlisten_port = 1.0", 2, "listen_port", "is not a number"),
    ("[interface]\nfwmark = 99999999999", 2, "fwmark", "far out of range"),
    ("[interface]\nmtu = 67", 2, "mtu", "too small"),
    ("[interface]\nmtu = 65476", 2, "mtu", "does not fit"),
    ("[interface]\nmtu = 1979-05-27", 2, "mtu", "is not a number"),
    ("[interface]\ntable = -1", 2, "table", "no routing table"),
    ("[interface]\naddress = 1", 2, "address", "is no list of texts"),
    ('[interface]\naddress = [\n  "10.0.0.1",\n  1]', 4, "address", "is no list of texts"),
    ('[interface]\naddress = [ # "\n  "::1",\n\n  "x"]', 5, "address", "no IP address"),
    ('[interface]\naddress = ["::1",\n"::1"]', 3, "address", "twice (see line 2)"),
    ('[interface]\ndns = "1.1"', 2, "dns", "no server's address"),
    ("[interface]\nsave_config = 'true'", 2, "save_config", "neither true nor false"),
    ("[interface]\nsave_config = true", 2, "save_config", "only .conf files are saved"),
    ('[interface]\npost_up = "a\\u0000b"', 2, "post_up", "NUL"),
    ("[[peer]]\nname = 'x'", 1, None, "this peer has no public_key"),
    (K + 'name = ""', 3, "name", "is no name"),
    (K + 'name = "a\\nb"', 3, "name", "is no name"),
    (K + "name = '" + "x" * 65 + "'", 3, "name", "is no name"),
    (K + "endpoint = 'a'", 3, "endpoint", "has no port"),
    (K + "persistent_keepalive = 65536", 3, "persistent_keepalive", "no interval"),
    (K + "allowed_ips = ['::/0', '+1.1.1.1']", 3, "allowed_ips", "leave the sign out"),
    (K + "allowed_ips = ['::/0',\n'::/129']", 4, "allowed_ips", "from 0 to 128"),
    (K + "mtu = 1400", 3, "mtu", "is no key"),
    (K + K, 4, "public_key", "twice (see line 2)"),
    (
        K + "allowed_ips = ['::/0']\n" + K.replace(PEER, OTHER) + "allowed_ips = [\n'::/0']",
        7,
        "allowed_ips",
        "is another peer's (see line 3)",
    ),
    ("interface = { mtu = 1400,\tx = 2 }", 1, "x", "is no key"),
    ("interface.mtu.x = 1", 1, "mtu", "is not a number"),
]


@pytest.mark.parametrize(("text", "line", "key", "reason"), BAD)
def test_refused_with_line_and_key(
    text: str, line: int | None, key: str | None, reason: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "quick")
    assert reason in str(caught.value)
    assert (caught.value.line, caught.value.key) == (line, key)


@pytest.mark.parametrize("key", ["address", "dns", "mtu", "table", "post_up", "save_config"])
def test_what_only_up_reads_is_refused_for_wg(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"line 2: {key}: is for `wgpy up`"):
        parse(f"[interface]\n{key} = []\n", "wg")


@pytest.mark.parametrize(
    "text",
    [
        f'[interface]\nprivate_key = "{PRIVATE}x"',
        f'[interface]\nprivate_key = "{PRIVATE}',
        f"[interface]\nprivate_key = {PRIVATE}",
        f'[interface]\n"{PRIVATE}" = 1',
        f'"{PRIVATE}" = 1',
        f"[{PRIVATE.rstrip('=').replace('/', '-').replace('+', '-')}]",
        f'[interface]\nprivate_key = ["{PRIVATE}"]',
        K + f'preshared_key = "{PRIVATE[:-2]}9="',
    ],
)
def test_no_secret_in_a_message(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "quick")
    assert PRIVATE[:12] not in str(caught.value)


# --- Keys in files ---


def write(directory: Path, name: str, text: str, mode: int = 0o600) -> None:
    path = directory / name
    path.write_text(text)
    path.chmod(mode)


def test_keys_in_files_beside_the_configuration(tmp_path: Path) -> None:
    write(tmp_path, "private", PRIVATE + "\n")
    write(tmp_path, "psk", PSK)
    text = (
        '[interface]\nprivate_key_file = "private"\n'
        + K
        + f'preshared_key_file = "{tmp_path}/psk"\n'
    )
    config, said = parse(text, "quick", tmp_path / "wg0.toml")
    assert said == []
    assert config.interface.private_key == PrivateKey.from_base64(PRIVATE)
    assert config.peers[0].preshared_key == PresharedKey.from_base64(PSK)


def test_an_open_key_file_is_warned_of(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    write(tmp_path, "private", PRIVATE, 0o644)
    _, said = parse('[interface]\nprivate_key_file = "private"', "quick", tmp_path / "wg0.toml")
    (warning,) = said
    assert warning.startswith(f"{tmp_path}/wg0.toml:2: private_key_file: {tmp_path}/private holds")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('private_key_file = "missing"', "No such file"),
        ('private_key_file = "."', "Is a directory"),
        ('private_key_file = ""', "is no file's name"),
        ('private_key_file = "a\\u0000b"', "is no file's name"),
        ('private_key_file = "short"', "a key is 44 characters of base64; this has 5 char"),
        ('private_key_file = "long"', "a key file holds 44 characters; this holds more"),
        ('private_key_file = "/dev/null"', "this has 0 characters"),
        ('private_key_file = "good"\nprivate_key = "x"', "private_key is given as well"),
        (f'private_key = "{PRIVATE}"\nprivate_key_file = "good"', "private_key is given as well"),
    ],
)
def test_key_files_that_are_refused(tmp_path: Path, line: str, reason: str) -> None:
    write(tmp_path, "short", "short")
    write(tmp_path, "long", "x" * 10_000)
    write(tmp_path, "good", PRIVATE)
    with pytest.raises(ConfigError) as caught:
        parse(f"[interface]\n{line}\n", "quick", tmp_path / "wg0.toml")
    assert reason in str(caught.value)
    assert caught.value.key in ("private_key_file", "private_key")


# --- Any text ---

WORDS = st.sampled_from(
    [
        *("[interface]\n", "[[peer]]\n", "[", "]", " = ", "=", "#", "\n", '"', "'", "{", "}", ","),
        *("private_key", "public_key", "allowed_ips", "address", "mtu", "name", "table", "dns"),
        *("listen_port", "post_up", "persistent_keepalive", "endpoint", "private_key_file"),
        *(f'"{PEER}"', f'"{PRIVATE}"', '"10.0.0.1/8"', "1400", "true", "[]", '"a:1"', "1979-05-27"),
    ]
)


@given(
    st.lists(WORDS | st.text(max_size=4), max_size=30).map("".join),
    st.sampled_from(["wg", "quick"]),
)
def test_any_text_is_a_configuration_or_a_config_error(text: str, mode: Mode) -> None:
    try:
        config, said = parse(text, mode)
    except ConfigError as error:
        said = [str(error)]
    else:
        assert isinstance(config, Config)
    assert all(line.isprintable() and PRIVATE[:20] not in line for line in said)


TABLES = st.sampled_from(["[interface]", "[[peer]]", K])
KEYS = st.sampled_from(
    [
        *("private_key", "public_key", "allowed_ips", "address", "mtu", "name", "table", "dns"),
        *("listen_port", "post_up", "persistent_keepalive", "endpoint", "fwmark", "save_config"),
        *("preshared_key", "private_key_file", "zzz"),
    ]
)
VALUES = st.sampled_from(
    [
        *("1", "-1", "1.5", "inf", "true", "[]", "{}", "[[]]", '""', '"1"', '["::/0", 1]', "{a=1}"),
        *(f'"{PEER}"', '"off"', '"::1/64"', '["a", "b"]', "07:32:00", '"\\u0000"', "0xfffffffff"),
    ]
)


@given(st.lists(TABLES | st.tuples(KEYS, VALUES).map(" = ".join), max_size=12), st.booleans())
def test_any_value_under_any_key(lines: list[str], quick: bool) -> None:
    try:
        parse("\n".join(lines), "quick" if quick else "wg")
    except ConfigError as error:
        said = str(error)
        assert said.isprintable()
