"""Times, sizes and colours in the forms of wg(8)."""

import pytest

from wgpy.cli import style


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WG_COLOR_MODE", "never")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, ""),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (3_600, "1 hour"),
        (90_061, "1 day, 1 hour, 1 minute, 1 second"),
        (2 * 365 * 86_400 + 2, "2 years, 2 seconds"),
    ],
)
def test_durations(seconds: int, text: str) -> None:
    assert style.finish(style.duration(seconds)) == text


def test_the_leading_unit_of_a_time() -> None:
    assert style.finish(style.leading(6 * 86_400 + 86_399)) == "6 days"
    assert style.finish(style.leading(1)) == "1 second"


def test_moments() -> None:
    assert style.ago(100, 100) == "Now"
    assert style.finish(style.ago(100, 161)) == "1 minute, 1 second ago"
    assert style.finish(style.ago(101, 100)).startswith("(System clock wound backward;")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1024**2 - 1, "1024.00 KiB"),
        (1024**2, "1.00 MiB"),
        (5 * 1024**3 + 512 * 1024**2, "5.50 GiB"),
        (1024**4, "1.00 TiB"),
        (2**64 - 1, "16777216.00 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert style.finish(style.size(count)) == text


@pytest.mark.parametrize(("mode", "codes"), [("always", 2), ("never", 0), ("auto", 0), ("x", 0)])
def test_colours_go_where_they_are_wanted(
    mode: str, codes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Under pytest standard output is no terminal.
    monkeypatch.setenv("WG_COLOR_MODE", mode)
    assert style.finish(style.size(5)).count("\x1b[") == codes


@pytest.mark.parametrize(("value", "hidden"), [("never", False), ("always", True), ("x", True)])
def test_keys_are_hidden_unless_the_environment_says_never(
    value: str, hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WG_HIDE_KEYS", value)
    assert style.hides_keys() is hidden
