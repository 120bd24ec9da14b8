"""wgpy(1) and wgpyd(8) are held against the programs: commands, options, words and variables.

wgpy.toml(5) is held against its parser in tests/unit/config/test_man.py.
"""

import argparse
import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.requirements import ROOT, program
from wgpy.cli import COMMANDS, make_parser
from wgpy.cli.set import DEVICE_WORDS, PEER_WORDS
from wgpy.cli.show import FIELDS

PAGES = sorted((ROOT / "man").glob("*.[1-9]"))
WGPY = (ROOT / "man" / "wgpy.1").read_text()
WGPYD = (ROOT / "man" / "wgpyd.8").read_text()

# Words that wgpy(1) lists as commands and that `main` answers before it looks for a module.
BUILT_IN = {"help", "version"}
# How one process of wgpy tells another something; nobody else sets them.
INTERNAL = {"WGPY_HOOK", "WGPY_DEMO"}


def section(page: str, title: str) -> str:
    """The text of one section of a page."""
    return page.split(f"\n.Sh {title}\n")[1].split("\n.Sh ")[0]


def entries(page: str = WGPY) -> dict[str, str]:
    """Each command that wgpy(1) describes: its heading and its text, up to the next command.

    What a command's actions are called belongs to the name: `ca issue`.
    """
    start = r"^\.It Ic ([a-z-]+(?: [a-z]+)?)\b"
    parts = re.split(start, section(page, "DESCRIPTION"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def options_of(text: str) -> set[str]:
    """The options that have an entry of their own: `--json` of `.It Fl -json`."""
    found = set()
    for line in re.findall(r"^\.It Fl (.*)$", text, re.MULTILINE):
        words = line.split(" Ar ")[0].split(" , ")
        found.update(f"-{word.strip()}" for word in words)
    return found


def options_in_heading(text: str) -> set[str]:
    """The options that a command's first line names."""
    heading = text.split("\n")[0]
    return {f"-{word}" for word in re.findall(r"\bFl (\S+)", heading)}


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, or of each action of a command that has some."""
    found = {}
    for name in COMMANDS:
        parser: argparse.ArgumentParser = make_parser(name)
        below = [x for x in parser._actions if isinstance(x, argparse._SubParsersAction)]
        for action in below:
            found.update({f"{name} {word}": made for word, made in action.choices.items()})
        if not below:
            found[name] = parser
    return found


PARSERS = parsers()


def actions(name: str) -> list[argparse.Action]:
    """What a command's parser takes, but for -h, which every one has."""
    return [x for x in PARSERS[name]._actions if "--help" not in x.option_strings]


def words_of(text: str) -> set[str]:
    """The words that have an entry: `endpoint` of `.It Cm endpoint Ar host`."""
    return set(re.findall(r"^\.It Cm ([\w-]+)", text, re.MULTILINE))


# --- wgpy(1) ---


def test_every_command_is_described_and_no_other() -> None:
    assert set(entries()) == set(PARSERS) | BUILT_IN


@pytest.mark.parametrize("name", PARSERS)
def test_every_option_is_described_and_no_other(name: str) -> None:
    taken = {string for action in actions(name) for string in action.option_strings}
    assert options_of(entries()[name]) == taken
    assert options_in_heading(entries()[name]) == taken


@pytest.mark.parametrize("name", PARSERS)
def test_every_argument_is_in_the_heading(name: str) -> None:
    heading = entries()[name].split("\n")[0]
    taken = set()
    for action in actions(name):
        if not action.option_strings:
            taken.update(str(action.metavar).lower().split("|"))
    written = set()
    for run in re.findall(r"(?<!Fl )\bAr ((?:[a-z-]+(?: \| | )?)+)", heading):
        written.update(run.replace("|", " ").split())
    of_options = {str(a.metavar).lower() for a in actions(name) if a.option_strings and a.metavar}
    assert written == taken | of_options


def test_help_and_version_are_described_as_main_has_them() -> None:
    for flag in ("h", "-help"):
        assert f".Fl {flag}\n" in entries()["help"]
    for flag in ("v", "-version"):
        assert f".Fl {flag}\n" in entries()["version"]


def test_every_field_of_show_is_described_in_order() -> None:
    found = re.findall(r"^\.It Cm ([\w-]+)", entries()["show"], re.MULTILINE)
    assert found == list(FIELDS)


def test_every_word_of_set_is_described() -> None:
    assert words_of(entries()["set"]) == {*DEVICE_WORDS, *PEER_WORDS, "remove"}


# --- wgpyd(8) ---


def test_the_daemons_options() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wgpy.device.daemon", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    listed = done.stdout.split("\noptions:\n")[1]
    taken = set()
    for line in re.findall(r"^  (-.*?)(?:  .*)?$", listed, re.MULTILINE):
        taken.update(word.split()[0] for word in line.split(", "))
    assert options_of(section(WGPYD, "DESCRIPTION")) == taken
    assert ".Ar interface\n" in section(WGPYD, "SYNOPSIS")


def test_our_own_keys_of_the_control_socket_are_described() -> None:
    source = (ROOT / "wgpy" / "device" / "uapi_codec.py").read_text()
    spoken = set(re.findall(r"\bwgpy_[a-z_]+[a-z]\b", source))
    listed = WGPYD.split(".Ss The control socket")[1].split(".El")[0]
    assert set(re.findall(r"^\.It Li (wgpy_[a-z_]+)=", listed, re.MULTILINE)) == spoken


# --- Both ---


def variables() -> set[str]:
    """The names of environment variables that stand in the package's source as strings."""
    looks_like_one = re.compile(r"(WG|WGPY|WATCHDOG|NOTIFY|LOG)_[A-Z_]+")
    return {
        node.value
        for path in (ROOT / "wgpy").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and looks_like_one.fullmatch(node.value)
    }


def test_every_variable_is_described_and_no_other() -> None:
    described = {
        name
        for page in (WGPY, WGPYD)
        for name in re.findall(r"^\.It Ev (\w+)", section(page, "ENVIRONMENT"), re.MULTILINE)
    }
    assert described == variables() - INTERNAL


@pytest.mark.tool("mandoc")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_mandoc_finds_nothing(page: Path) -> None:
    done = subprocess.run(
        [program("mandoc"), "-Tlint", str(page)], capture_output=True, text=True, check=False
    )
    # Which other manuals are installed is no matter of the page.
    found = [x for x in done.stdout.splitlines() if "referenced manual not found" not in x]
    assert found == []
    assert done.returncode in (0, 1), "1 is STYLE, and nothing worse"


def test_the_pages_are_those_that_are_promised() -> None:
    assert [page.name for page in PAGES] == ["wgpy.1", "wgpy.toml.5", "wgpyd.8"]
