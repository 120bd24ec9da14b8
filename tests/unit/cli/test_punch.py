"""`wgpy punch`: what two people are led through, and what comes of it."""

import errno
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.fake_ways import OFFER, FakeWays
from tests.unit.device.fake_interface import served
from tests.unit.device.kit import KEYS, PRIVATE, Kit
from wgpy.cli import main, punch
from wgpy.cli.errors import CommandError
from wgpy.device import client
from wgpy.device.paths import NatSettings, PathKind, PathState, TurnUri
from wgpy.device.uapi import Address, DeviceChange, DeviceState, PeerChange, UapiError
from wgpy.device.uapi_codec import format_change, parse_change

KEY = KEYS[0]
THEIRS = "wgpy-offer-1:dGhlaXJz"
DIRECT = PathState(PathKind.DIRECT, Address("203.0.113.7", 51820), round_trip=0.023)
RELAY = PathState(PathKind.RELAY, relay=TurnUri("turn.example", 3478), reason="round 2")
SEARCHING = PathState(PathKind.SEARCHING, reason="their address is not known")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WG_COLOR_MODE", "never")


@pytest.fixture
def kit() -> Kit:
    made = Kit(make_ways=FakeWays)
    peers = [PeerChange(KEY, nat=True), PeerChange(KEYS[1])]
    made.device.apply(DeviceChange(nat=NatSettings(), peers=peers))
    return made


@pytest.fixture
def ways(kit: Kit) -> FakeWays:
    found = kit.device._ways._ways
    assert isinstance(found, FakeWays)
    found.paths[KEY] = SEARCHING
    return found


class Table:
    """A person at a terminal: what was said, and what happens while the command sleeps."""

    def __init__(self, kit: Kit) -> None:
        self.said: list[str] = []
        self.plans: list[tuple[float, Callable[[], object]]] = []
        self.kit = kit
        device = kit.device
        self.talk = punch.Talk(
            "wg0",
            ask=lambda: replace(device.state(), wgpy_version="1"),
            tell=lambda change: device.apply(parse_change(format_change(change).split("\n")[1:-2])),
            say=self.said.append,
            now=lambda: kit.path.now,
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        self.kit.path.now += seconds
        due = [plan for plan in self.plans if plan[0] <= self.kit.path.now]
        self.plans = [plan for plan in self.plans if plan not in due]
        for _, action in due:
            action()

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        self.plans.append((self.kit.path.now + seconds, action))


@pytest.fixture
def table(kit: Kit) -> Table:
    return Table(kit)


# --- Who is meant ---


def test_a_peer_by_its_key_or_how_that_begins(table: Table) -> None:
    text = KEY.base64()
    assert table.talk.find(text) == KEY
    assert table.talk.find(text[:8]) == KEY


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (KEYS[3].base64(), f"wg0 has no peer '{KEYS[3].base64()}'; `wgpy show wg0 peers`"),
        (KEY.base64()[:3], "wg0 has no peer"),
        ("x" * 200, f"no peer '{'x' * 44}';"),
        (KEYS[1].base64(), "write nat = true under its [[peer]]"),
    ],
)
def test_a_peer_that_is_none_to_punch(table: Table, text: str, reason: str) -> None:
    with pytest.raises(CommandError) as caught:
        table.talk.find(text)
    assert reason in str(caught.value)


def test_an_ambiguous_beginning(table: Table) -> None:
    twin = type(KEY)(bytes(KEY)[:31] + b"\x7f")
    table.kit.device.apply(DeviceChange(peers=[PeerChange(twin)]))
    with pytest.raises(CommandError, match="several peers whose keys begin so"):
        table.talk.find(KEY.base64()[:8])


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (DeviceState(), "the daemon of wg0 finds no ways through NATs; only wgpyd does"),
        (DeviceState(wgpy_version="1"), "wg0 has no peer"),
    ],
)
def test_a_daemon_that_does_not_look_for_ways(
    table: Table, state: DeviceState, reason: str
) -> None:
    table.talk.ask = lambda: state
    with pytest.raises(CommandError) as caught:
        table.talk.find(KEY.base64())
    assert reason in str(caught.value)


def test_an_interface_without_nat(table: Table) -> None:
    state = replace(table.talk.ask(), nat=None)
    table.talk.ask = lambda: state
    with pytest.raises(CommandError, match=r"wg0 has no \[nat\]; write it .* --strip wg0 wg0`"):
        table.talk.find(KEY.base64())


# --- Our offer ---


def test_an_offer_that_takes_its_time(table: Table, ways: FakeWays) -> None:
    ways.offer = lambda key: table.later(3, lambda: ways.offers.update({key: OFFER}))  # type: ignore[method-assign]
    assert table.talk.offer(KEY) == OFFER


def test_no_offer_says_why(table: Table, ways: FakeWays) -> None:
    ways.offer = lambda key: None  # type: ignore[method-assign]
    with pytest.raises(CommandError, match=r"in 15 s: searching \(their address is not known\)"):
        table.talk.offer(KEY)
    table.kit.peer(KEY, remove=True)
    with pytest.raises(UapiError, match="is no peer with `nat = true`"):
        table.talk.offer(KEY)


# --- Theirs ---


def lines(*texts: str) -> Callable[[], str]:
    left: Iterator[str] = iter(texts)
    return lambda: next(left)


def test_a_line_that_was_broken_up_is_one(table: Table, ways: FakeWays) -> None:
    table.talk.answer(KEY, f" {THEIRS[:12]}\n\t{THEIRS[12:]}\r\n")
    assert ways.said[-1] == ("answer", KEY, THEIRS)


def test_a_person_may_be_mistaken(table: Table, ways: FakeWays) -> None:
    table.talk.exchange(KEY, lines("hello\n", "x" * 3000, THEIRS))
    assert ways.said[-1] == ("answer", KEY, THEIRS)
    assert table.said[0] == "Paste the line that they get, and press Enter:"
    assert table.said[1].startswith("this is no offer of wgpy.\nPaste the line that they get")
    assert table.said[2].startswith("an offer has 1 to 2048 characters, and this 3000.\n")


def test_but_not_for_ever(table: Table, ways: FakeWays) -> None:
    with pytest.raises(UapiError, match="this is no offer"):
        table.talk.exchange(KEY, lines("a", "b", "c", THEIRS))


def test_what_is_not_his_mistake_ends_it(table: Table, ways: FakeWays) -> None:
    def gone(change: DeviceChange) -> None:
        raise UapiError(errno.ENODEV, "it ended")

    table.talk.tell = gone
    with pytest.raises(UapiError, match="it ended"):
        table.talk.exchange(KEY, lines(THEIRS, THEIRS))


# --- Waiting ---


def test_until_it_is_direct(
    table: Table, ways: FakeWays, capsys: pytest.CaptureFixture[str]
) -> None:
    slower = replace(RELAY, round_trip=0.061)
    for when, path in ((2, RELAY), (4, slower), (6, DIRECT)):
        table.later(when, lambda path=path: ways.paths.update({KEY: path}))
    assert table.talk.watch(KEY, 60) == punch.DIRECT
    assert capsys.readouterr().out == "direct 203.0.113.7:51820, 23 ms\n"
    assert table.said[0].startswith("\nWaiting for a direct way, up to 60 s.")
    assert table.said[1:] == [
        "searching (their address is not known)",
        "relay turn.example:3478 (round 2)",
    ]


@pytest.mark.parametrize(
    ("path", "code", "line", "advice"),
    [
        (SEARCHING, 1, "searching (their address is not known)", "Have both sides print new"),
        (PathState(PathKind.NONE), 1, "none", "give both a relay"),
        (RELAY, 2, "relay turn.example:3478 (round 2)", "Data goes by the relay"),
    ],
)
def test_in_vain(
    table: Table,
    ways: FakeWays,
    capsys: pytest.CaptureFixture[str],
    path: PathState,
    code: int,
    line: str,
    advice: str,
) -> None:
    ways.paths[KEY] = path
    start = table.kit.path.now
    assert table.talk.watch(KEY, 30) == code
    assert 30 <= table.kit.path.now - start < 31
    assert capsys.readouterr().out == f"{line}\n"
    assert table.said[-1].startswith("There is no direct way after 30 s. ")
    assert advice in table.said[-1]


def test_a_peer_that_is_removed_meanwhile(table: Table, ways: FakeWays) -> None:
    table.later(2, lambda: table.kit.peer(KEY, remove=True))
    with pytest.raises(CommandError, match="the peer was removed from wg0"):
        table.talk.watch(KEY, 30)


# --- The command ---


class TestCommand:
    @pytest.fixture(autouse=True)
    def directory(
        self, kit: Kit, ways: FakeWays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Path]:
        """The device behind a socket in a directory that the command takes for the system's."""
        get, apply = client.get, client.apply
        place = str(tmp_path)
        monkeypatch.setattr(client, "get", lambda name, directory=place: get(name, directory))
        monkeypatch.setattr(client, "apply", lambda name, change: apply(name, change, place))
        with served(kit.device, tmp_path / "wg0.sock"):  # type: ignore[arg-type]
            yield tmp_path

    def test_a_whole_conversation(
        self,
        ways: FakeWays,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        class Person(io.StringIO):
            """The way opens once the line was pasted."""

            def readline(self, size: int | None = -1, /) -> str:
                ways.paths[KEY] = DIRECT
                return super().readline(-1 if size is None else size)

        monkeypatch.setattr("sys.stdin", Person(f"\n  {THEIRS}\n"))
        assert main(["punch", "wg0", KEY.base64()[:12]]) == 0
        out, err = capsys.readouterr()
        assert out == f"{OFFER}\ndirect 203.0.113.7:51820, 23 ms\n"
        assert "Give this line to the person at the other side" in err
        assert f"They run `wgpy punch INTERFACE {PRIVATE.public().base64()}`." in err
        assert err.index("Give this line") < err.index("They run") < err.index("Waiting")
        assert ways.said[-2:] == [("offer", KEY), ("answer", KEY, THEIRS)]

    def test_the_offer_alone(self, ways: FakeWays, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["punch", "wg0", KEY.base64(), "--offer"]) == 0
        assert capsys.readouterr() == (f"{OFFER}\n", "")
        assert ways.said[-1] == ("offer", KEY)

    @pytest.mark.parametrize("name", ["theirs", "-"])
    def test_the_answer_alone(
        self,
        name: str,
        ways: FakeWays,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        data = f"{THEIRS[:5]}\n{THEIRS[5:]}\n".encode()
        (tmp_path / "theirs").write_bytes(data)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        ways.paths[KEY] = RELAY
        file = name if name == "-" else str(tmp_path / name)
        assert main(["punch", "wg0", KEY.base64(), "--answer", file, "--wait", "1"]) == 2
        out, err = capsys.readouterr()
        assert out == "relay turn.example:3478 (round 2)\n"
        assert "Give this line" not in err
        assert ways.said[-1] == ("answer", KEY, THEIRS)

    def test_nothing_to_do(self, ways: FakeWays, capsys: pytest.CaptureFixture[str]) -> None:
        ways.paths[KEY] = DIRECT
        assert main(["punch", "wg0", KEY.base64()]) == 0
        assert capsys.readouterr() == (
            "",
            "The way is direct already: direct 203.0.113.7:51820, 23 ms.\n",
        )
        assert ("offer", KEY) not in ways.said

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (["--wait", "0"], "--wait takes 1 to 3600 seconds"),
            (["--wait", "3601"], "--wait takes 1 to 3600 seconds"),
            (["--wait", "x"], "invalid int value"),
            (["--offer", "--answer", "-"], "not allowed with argument"),
            (["--answer", "/nonexistent"], "/nonexistent: No such file"),
            (["--answer", "/dev/null"], "an offer has 1 to 2048 characters, and this 0"),
            ([], "there was no line on standard input"),
        ],
    )
    def test_what_goes_wrong_is_one_line(
        self,
        words: list[str],
        reason: str,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        assert main(["punch", "wg0", KEY.base64(), *words]) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("wgpy: ")
        assert reason in last

    def test_a_closed_standard_input(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", None)
        assert main(["punch", "wg0", KEY.base64()]) == 1
        assert "there was no line on standard input" in capsys.readouterr().err
        assert main(["punch", "wg0", KEY.base64(), "--answer", "-"]) == 1
        assert "standard input is closed" in capsys.readouterr().err
