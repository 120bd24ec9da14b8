"""`wgpy status`: the daemon's state and the agent's answer become lines, and JSON."""

import json
from pathlib import Path

import pytest

from tests.unit.device.fake_interface import FakeInterface, served
from wgpy.cli import main, status, status_view, style
from wgpy.cli.status_view import View, short_size, short_time
from wgpy.device import client
from wgpy.device.paths import PathKind, PathState, TurnUri
from wgpy.device.uapi import Address, ClaimsSummary, DeviceState, PeerState
from wgpy.identity.claims import Kind
from wgpy.ip import parse_prefix
from wgpy.keys import PublicKey
from wgpy.mesh import ask
from wgpy.mesh.ask import AskError

NOW = 1_800_000_000
OWN = PublicKey(b"\x09" * 32)


def peer(number: int, **fields: object) -> PeerState:
    return PeerState(
        PublicKey(bytes([number]) * 32),
        allowed_ips=[parse_prefix(f"100.64.0.{number}/32")],
        **fields,  # type: ignore[arg-type]
    )


def claims(
    name: str, kind: Kind = Kind.CERTIFICATE, expiry: int = NOW + 6 * 86_400
) -> ClaimsSummary:
    return ClaimsSummary(kind, name, ("staff",), "0a", None, expiry)


DIRECT = peer(
    2,
    claims=claims("b.mesh"),
    last_handshake=(NOW - 12, 0),
    rx_bytes=1_234_567,
    tx_bytes=999,
    path=PathState(PathKind.DIRECT, Address("203.0.113.7", 51820), round_trip=0.0231),
)
RELAYED = peer(
    3,
    claims=claims("c.mesh", expiry=NOW + 3600),
    last_handshake=(NOW - 7200, 0),
    path=PathState(
        PathKind.RELAY,
        Address("198.51.100.1", 40000),
        TurnUri("turn.example.org", 3478),
        round_trip=0.08,
        loss=0.25,
    ),
)
SEARCHING = peer(4, path=PathState(PathKind.SEARCHING, reason="asking the STUN servers"))
STATE = DeviceState(own_public_key=OWN, listen_port=51820, peers=[SEARCHING, RELAYED, DIRECT])
MESH = {
    "network": "00" * 16,
    "domain": "mesh",
    "name": "laptop.mesh",
    "addresses": ["100.64.0.9", "fd00::9"],
    "state": "connected",
    "coordinators": [{"name": "hub.mesh", "connected": True, "since": NOW - 5}],
    "certificate_expires": NOW + 6 * 86_400 + 5,
    "names": {"way": "systemd-resolved", "problem": None},
    "nodes": [
        {"name": "laptop.mesh", "key": OWN.base64(), "addresses": ["100.64.0.9"]},
        {"name": "node10.mesh", "key": "k10", "addresses": ["100.64.0.20"], "expires": NOW - 1},
        {"name": "node2.mesh", "key": "k2", "addresses": ["100.64.0.12"], "coordinator": True},
        {"name": "d.mesh", "key": PublicKey(b"\x04" * 32).base64(), "expires": NOW + 90},
    ],
}


def lines(view: View, width: int | None = None) -> list[str]:
    return [style.COLOUR.sub("", line) for line in status_view.text([view], NOW, width)]


def test_a_mesh() -> None:
    assert lines(status_view.view("wg0", STATE, MESH, NOW)) == [
        "wg0  laptop.mesh 100.64.0.9 fd00::9",
        "connected to hub.mesh, certificate ends in 6 days, names by systemd-resolved",
        "5 nodes, 1 direct, 1 relay, 1 searching, 2 idle",
        "NODE         ADDRESS      PATH    AT                         RTT  LOSS  HANDSHAKE    IN"
        "   OUT   CERT",
        "b.mesh       100.64.0.2   direct  203.0.113.7:51820        23 ms    0%        12s  1.2M"
        "  999B     6d",
        "c.mesh       100.64.0.3   relay   turn.example.org:3478    80 ms   25%         2h      "
        "           1h",
        "d.mesh       100.64.0.4   search  asking the STUN servers                              "
        "           1m",
        "node2.mesh*  100.64.0.12  idle",
        "node10.mesh  100.64.0.20  idle                                                         "
        "        ended",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 79, 80, 100, 200])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    found = lines(status_view.view("wg0", STATE, MESH, NOW), width)
    assert max(map(len, found)) <= width
    assert len(found) == 9


def test_on_80_columns_each_node_has_its_name_path_place_round_trip_and_handshake() -> None:
    found = lines(status_view.view("wg0", STATE, MESH, NOW), 80)
    for word in ("b.mesh", "direct", "203.0.113.7:51820", "23 ms", "12s", "6d"):
        assert word in found[4]


def test_a_plain_interface_has_what_there_is() -> None:
    live = peer(5, endpoint=Address("192.0.2.1", 51820), last_handshake=(NOW - 179, 0))
    over = peer(6, endpoint=Address("192.0.2.2", 51820), last_handshake=(NOW - 180, 0))
    state = DeviceState(own_public_key=OWN, listen_port=51820, peers=[over, live])
    assert lines(status_view.view("wg0", state, None, NOW)) == [
        f"wg0  {OWN.base64()}, port 51820",
        "2 nodes, 1 direct, 1 idle",
        "NODE           ADDRESS     PATH    AT               RTT  HANDSHAKE",
        "BQUFBQUFBQUF…  100.64.0.5  direct  192.0.2.1:51820              2m",
        "BgYGBgYGBgYG…  100.64.0.6  idle                                 3m",
    ]


def test_what_is_said_of_a_network_that_is_not_well() -> None:
    def second(**fields: object) -> str:
        return lines(status_view.view("wg0", STATE, {**MESH, **fields}, NOW))[1]

    assert second(coordinators=[]).startswith("no coordinator answers, working from what is known")
    assert second(coordinators=[], state="pending").startswith("waits for an operator's approval")
    assert second(coordinators=[], state="removed", reason="it was removed") == "it was removed"
    gone = {**MESH, "coordinators": [], "state": "removed", "nodes": []}
    assert lines(status_view.view("wg0", None, gone, NOW)) == [
        "wg0  laptop.mesh 100.64.0.9 fd00::9",
        "removed",
        "no peers",
    ]
    assert "certificate has ended" in second(certificate_expires=NOW)
    assert second(names={"way": None}).endswith("names are not resolved")
    assert second(coordinators=[], reason="no route").startswith(
        "no coordinator answers, working from what is known (no route), "
    )
    worse = {**MESH, "problem": "another", "remarks": ["a remark", "\x1b", 5]}
    assert lines(status_view.view("wg0", None, worse, NOW, "a problem"))[2:6] == [
        "the tunnel is down: no daemon answers",
        "a problem",
        "another",
        "a remark",
    ]
    assert status_view.text([], NOW, 80) == ["No interface is up."]


def test_what_goes_through_others() -> None:
    routes = {
        "taken": [{"prefix": "192.168.7.0/24", "node": "router.mesh"}],
        "exit": "gate.mesh",
        "said": ["10.0.0.0/8 through router.mesh is not taken: this machine is in it"],
        "problem": "nft failed",
    }
    mesh = {**MESH, "routes": routes, "names": {"way": None, "problem": "no resolver"}}
    assert lines(status_view.view("wg0", STATE, mesh, NOW))[2:6] == [
        "routes: 192.168.7.0/24 through router.mesh, everything else through gate.mesh",
        "no resolver",
        "nft failed",
        "10.0.0.0/8 through router.mesh is not taken: this machine is in it",
    ]
    for odd in ({"taken": 5, "exit": [], "said": {}}, [], "x"):
        shown = lines(status_view.view("wg0", STATE, {**MESH, "routes": odd}, NOW))
        assert shown[2].startswith("5 nodes")


def test_a_newcomer_in_quarantine_is_called_so() -> None:
    state = DeviceState(peers=[peer(7, claims=claims("new.mesh", Kind.ENROLMENT))])
    assert "enrolling" in lines(status_view.view("wg0", state, None, NOW))[-1]


@pytest.mark.parametrize(
    "odd",
    [
        {"nodes": "x", "coordinators": 5, "addresses": {}, "names": [], "name": 5},
        {"nodes": [{"name": "\x1b[2J\nx", "addresses": [1, "\x07"], "expires": True}]},
        {"nodes": [{"key": [], "groups": 5, "expires": 1e300}], "certificate_expires": "soon"},
        {"state": "\x1b[31m", "coordinators": [{"name": "\x1b[2J", "connected": True}]},
    ],
)
def test_an_odd_answer_is_shown_without_harm(odd: dict[str, object]) -> None:
    found = status_view.view("wg0", STATE, odd, NOW)
    assert all(line.isprintable() for line in lines(found, 80))
    json.dumps(status_view.as_json(found))


def test_a_coordinator_of_which_only_the_agent_has_heard_has_its_star() -> None:
    mesh = {**MESH, "coordinators": [{"name": "node10.mesh", "connected": False}]}
    assert "node10.mesh*" in lines(status_view.view("wg0", STATE, mesh, NOW))[-1]


def test_short_forms() -> None:
    assert [short_time(x) for x in (0, 59, 60, 3_599, 3_600, 86_400)] == [
        *("0s", "59s", "1m", "59m", "1h", "1d")
    ]
    assert [short_size(x) for x in (0, 1023, 1024, 10_189, 10_240, 1024**2, 2**64)] == [
        *("0B", "1023B", "1.0K", "10K", "10K", "1.0M", "16384P")
    ]


def test_json() -> None:
    found = status_view.as_json(status_view.view("wg0", STATE, MESH, NOW))
    assert found["mesh"]["domain"] == "mesh"
    assert "nodes" not in found["mesh"]
    assert found["nodes"][0] == {
        "name": "b.mesh",
        "key": PublicKey(b"\x02" * 32).base64(),
        "addresses": ["100.64.0.2/32"],
        "groups": ["staff"],
        "coordinator": False,
        "quarantine": False,
        "path": {
            "kind": "direct",
            "place": "203.0.113.7:51820",
            "relay": None,
            "roundTrip": 0.0231,
            "loss": 0.0,
            "mtu": None,
            "reason": None,
        },
        "lastHandshake": NOW - 12,
        "received": 1_234_567,
        "sent": 999,
        "certificateExpires": NOW + 6 * 86_400,
    }


# --- The command ---


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sockets of this test's own."""
    monkeypatch.setenv("WG_COLOR_MODE", "never")
    real = client.get
    monkeypatch.setattr(client, "get", lambda name: real(name, str(tmp_path)))
    names = client.list_interfaces
    monkeypatch.setattr(client, "list_interfaces", lambda: names(str(tmp_path)))
    monkeypatch.setattr(ask, "interfaces", list)
    monkeypatch.setattr(status, "STATE_DIRECTORY", str(tmp_path / "state"))

    def no_agent(interface: str, question: object) -> None:
        raise AskError("nobody is there")

    monkeypatch.setattr(ask, "ask_agent", no_agent)
    return tmp_path


def test_the_command_asks_the_daemon(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(FakeInterface(), places / "wg0.sock"):
        assert main(["status"]) == 0
        assert capsys.readouterr().out == "wg0, port 51820\nno peers\n"
        (places / "state" / "wg0.mesh").mkdir(parents=True)
        assert main(["status", "wg0"]) == 0
        assert "nobody is there" in capsys.readouterr().out
        assert main(["status", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["wg0"]["listenPort"] == 51820


def test_an_interface_that_is_not_there(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "wg9"]) == 1
    assert "No such device" in capsys.readouterr().out


def test_watching_needs_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--watch"]) == 1
    assert "--watch needs a terminal" in capsys.readouterr().err
