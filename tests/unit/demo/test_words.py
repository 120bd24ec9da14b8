"""What the demo prints."""

import json

import pytest

from wgpy.demo import words
from wgpy.demo.control import Status, change_for, read_status
from wgpy.demo.echo import Echoes
from wgpy.demo.flow import Flow
from wgpy.demo.machines import ALICE, BOB, MACHINES
from wgpy.demo.picture import Side, draw, shorten
from wgpy.demo.run import Result
from wgpy.device.uapi import DeviceState, PeerState
from wgpy.keys import PrivateKey, PublicKey

KEYS = (PublicKey(bytes(range(32))), PublicKey(bytes(range(32, 64))))


def sides(has_v6: bool = True) -> tuple[Side, Side]:
    return (
        Side(ALICE, KEYS[0], "wgpyd, portable", 1234, has_v6),
        Side(BOB, KEYS[1], "wgpyd, portable", 5678901, has_v6),
    )


def result() -> Result:
    return Result(
        sides=sides(),
        v4=Echoes("10.77.0.2", (0.01, 0.0004, 0.0004)),
        v6=None,
        flow=Flow(250_000_000, 2.0),
        statuses=(Status(1000.0, 260_000_000, 2_000, None), Status(1000.0, 2_000, 1, "portable")),
        handshake_age=3.2,
        seconds=4.0,
    )


def test_picture_is_a_box_of_77_columns_in_ascii() -> None:
    lines = draw(*sides()).splitlines()
    assert all(line.isascii() for line in lines)
    assert {len(line) for line in lines} == {77}
    assert lines[0].endswith("+")
    assert lines[-1].startswith("  +-")


def test_picture_shows_where_everything_is() -> None:
    picture = draw(*sides())
    for text in (ALICE.inner_v4, BOB.inner_v6, ALICE.outer, "51820", "1234", "wgpyd, portable"):
        assert text in picture
    assert shorten(KEYS[1]) in picture
    assert KEYS[1].base64() not in picture


def test_picture_without_ipv6_says_so() -> None:
    picture = draw(*sides(has_v6=False))
    assert ALICE.inner_v6 not in picture
    assert picture.count("(no IPv6 here)") == 2


def test_machines_share_no_name_and_no_address() -> None:
    for field in ("namespace", "interface", "socket", "outer", "inner_v4", "inner_v6"):
        assert len({getattr(machine, field) for machine in MACHINES}) == 2, field


def test_interface_names_fit_the_kernel() -> None:
    assert all(len(machine.interface) <= 15 for machine in MACHINES)


def test_echoes_in_a_line() -> None:
    line = words.describe_echoes(Echoes("10.77.0.2", (0.011, 0.00042, 0.00044, None)))
    assert "3 of 4 answered" in line
    assert "0.44 ms" in line
    assert "(with the handshake: 11 ms)" in line
    assert len(line) <= 80


def test_a_first_echo_like_the_others_is_not_explained() -> None:
    assert "handshake" not in words.describe_echoes(Echoes("10.77.0.2", (0.0005, 0.0004)))


@pytest.mark.parametrize(
    ("value", "text"), [(1.234e9, "1.23 Gbit/s"), (999e6, "999 Mbit/s"), (1e9, "1.00 Gbit/s")]
)
def test_rate(value: float, text: str) -> None:
    assert words.rate(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1_810_028, "2 MB"), (2.5e9, "2.5 GB")],
)
def test_amount(value: float, text: str) -> None:
    assert words.amount(value) == text


def test_rest_tells_throughput_handshake_and_transfer() -> None:
    text = words.describe_rest(result())
    assert "1.00 Gbit/s" in text
    assert "handshake 3 s ago" in text
    assert "sent 260 MB and received 2 kB" in text


def test_lines_fit_a_terminal() -> None:
    lines = [*words.describe_rest(result()).splitlines(), *words.invitation().splitlines()]
    assert max(map(len, lines)) <= 80


def test_json_is_json_and_holds_no_secret() -> None:
    text = json.dumps(words.as_json(result(), kept=False))
    told = json.loads(text)
    assert told["tcp"]["bits_per_second"] == 1e9
    assert [machine["name"] for machine in told["machines"]] == ["alice", "bob"]
    assert "private" not in text


def test_status_of_a_daemon_that_names_its_data_path() -> None:
    peer = PeerState(KEYS[0], last_handshake=(1_700_000_000, 500_000_000), tx_bytes=10, rx_bytes=20)
    state = DeviceState(peers=[peer], datapath="portable")
    assert read_status(state) == Status(1_700_000_000.5, 10, 20, "portable")


def test_status_of_a_daemon_without_a_peer() -> None:
    assert read_status(DeviceState()) == Status(0.0, 0, 0, None)


def test_configuration_makes_each_the_others_only_peer() -> None:
    private = PrivateKey(bytes(range(32)))
    change = change_for(ALICE, private, BOB, KEYS[1])
    (peer,) = change.peers
    assert change.private_key is private
    assert change.replace_peers
    assert peer.public_key == KEYS[1]
    assert str(peer.endpoint) == f"{BOB.outer}:{BOB.port}"
    assert [str(allowed.prefix) for allowed in peer.allowed_ips] == ["10.77.0.2/32", "fd77::2/128"]
