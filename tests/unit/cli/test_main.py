"""The entry point: what it finds, and how failures end."""

import argparse
import errno
import importlib
import io
import subprocess
import sys
import types

import pytest

from tests.support.requirements import program
from wgpy import __version__, cli
from wgpy.cli.errors import CommandError
from wgpy.config.errors import ConfigError
from wgpy.device.uapi import UapiError
from wgpy.keys import KeyFormatError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A command `try` whose `run` a test sets."""
    module = types.ModuleType("wgpy_cli_try")
    module.add_arguments = lambda parser: parser.add_argument("--word")  # type: ignore[attr-defined]
    module.run = lambda args: 0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wgpy_cli_try", module)
    monkeypatch.setitem(cli.COMMANDS, "try", cli.Command("wgpy_cli_try", "a command to try"))
    return module


def raising(error: BaseException) -> object:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CommandError("it is so; do this"), "wgpy: it is so; do this\n"),
        (CommandError("two\nlines"), "wgpy: two lines\n"),
        (ConfigError("f", 3, "Key", "bad", "mend it"), "wgpy: f:3: Key: bad; mend it\n"),
        (KeyFormatError("no key"), "wgpy: no key\n"),
        (UapiError(errno.EINVAL, "no peer"), "wgpy: no peer (EINVAL)\n"),
        (FileNotFoundError(2, "No such file", "wg0"), "wgpy: wg0: No such file\n"),
        (PermissionError(13, "Denied"), "wgpy: Denied\n"),
    ],
)
def test_failures_are_one_line(
    command: types.ModuleType,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    line: str,
) -> None:
    command.run = raising(error)  # type: ignore[attr-defined]
    assert cli.main(["try"]) == 1
    assert capsys.readouterr() == ("", line)


def test_a_fault_of_the_program_is_not_hidden(command: types.ModuleType) -> None:
    command.run = raising(ZeroDivisionError())  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError):
        cli.main(["try"])


def test_ctrl_c_is_130(command: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    command.run = raising(KeyboardInterrupt())  # type: ignore[attr-defined]
    assert cli.main(["try"]) == 130
    assert capsys.readouterr().err == ""


def test_the_exit_code_and_the_command_name(command: types.ModuleType) -> None:
    seen = []

    def run(args: argparse.Namespace) -> int:
        seen.append((args.command, args.word))
        return 7

    command.run = run  # type: ignore[attr-defined]
    assert cli.main(["try", "--word", "x"]) == 7
    assert seen == [("try", "x")]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nothing"], "there is no command 'nothing'"),
        (["try", "more"], "unrecognized arguments: more; see `wgpy try --help`"),
        (["try", "--wo", "x"], "unrecognized arguments"),
        (["try", "--word"], "expected one argument"),
    ],
)
def test_usage_errors_exit_with_1(
    command: types.ModuleType, capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    assert cli.main(words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert reason in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [["help"], ["-h"], ["--help"], ["help", "nothing"]])
def test_help_lists_every_command(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in cli.COMMANDS)
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("words", [["try", "--help"], ["help", "try"], ["try", "-h"]])
def test_help_of_one_command(
    command: types.ModuleType, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert cli.main(words) == 0
    assert "usage: wgpy try [-h] [--word WORD]" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["version", "-v", "--version"])
def test_version(capsys: pytest.CaptureFixture[str], word: str) -> None:
    assert cli.main([word]) == 0
    assert capsys.readouterr().out == f"wgpy {__version__}\n"


def test_alone_it_shows(monkeypatch: pytest.MonkeyPatch, command: types.ModuleType) -> None:
    monkeypatch.setitem(cli.COMMANDS, "show", cli.COMMANDS["try"])
    command.run = lambda args: 42 if args.command == "show" else 0  # type: ignore[attr-defined]
    assert cli.main([]) == 42


def test_a_reader_that_went_away_is_141() -> None:
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    assert reader.stdin is not None
    reader.wait()
    done = subprocess.run(
        [program("wgpy"), "help"], stdout=reader.stdin, stderr=subprocess.PIPE, check=False
    )
    reader.stdin.close()
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_keeps_the_convention(name: str) -> None:
    parser = cli.make_parser(name)
    assert parser.get_default("command") == name
    module = importlib.import_module(cli.COMMANDS[name].module)
    assert callable(module.run)
    parser.print_help(io.StringIO())
