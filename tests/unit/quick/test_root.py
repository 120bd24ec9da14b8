"""The same command line again, as root."""

import os
import sys

import pytest

from wgpy.quick.root import become_root, sudo_command
from wgpy.quick.steps import QuickError


def test_sudo_runs_this_program_with_this_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bin/wgpy", "up", "wg0"])
    command = sudo_command("Password: ")
    assert command == [
        *("sudo", "-p", "Password: ", "--", sys.executable),
        *(os.path.abspath("bin/wgpy"), "up", "wg0"),
    ]


def test_without_sudo_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(QuickError, match="`wgpy up` must be run as root, and there is no sudo"):
        become_root("up")
