"""Hooks run in a shell as wg-quick(8) runs them, with nothing of them in a command line."""

import os
from pathlib import Path

import pytest

from wgpy.quick.hooks import run_hook
from wgpy.quick.steps import QuickError, RunHook


def _run(command: str) -> None:
    run_hook(RunHook("PostUp", command))


def test_a_hook_is_shell_text(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _run(f'for x in a b; do echo "$x # $x" >> {out}; done # a comment')
    assert out.read_text() == "a # a\nb # b\n"


@pytest.mark.parametrize(
    ("command", "why"),
    [("exit 7", "exited with 7"), ("false; true", "with 1"), ("false | true", "with 1")],
)
def test_a_failure_inside_is_a_failure(command: str, why: str) -> None:
    with pytest.raises(QuickError, match=why):
        _run(command)


def test_a_hook_ended_by_a_signal_is_said() -> None:
    with pytest.raises(QuickError, match="ended by signal 9"):
        _run("kill -9 $$")


def test_the_text_is_neither_in_argv_nor_in_the_environment_of_its_programs(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    _run(f"secret=hunter2; tr '\\0' '\\n' < /proc/$$/cmdline > {out}; env >> {out}")
    assert "hunter2" not in out.read_text()


def test_messages_are_not_translated(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _run(f"echo $LC_ALL > {out}")
    assert out.read_text() == "C\n"
    assert "WGPY_HOOK" not in os.environ
