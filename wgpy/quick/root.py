"""Becoming root, as wg-quick(8) does: through sudo."""

import os
import shutil
import sys

from wgpy.quick.steps import QuickError


def become_root(command: str) -> None:
    """Do nothing for root; for others run the same command line again under sudo, not to return.

    Raises QuickError where there is no sudo.
    """
    if os.geteuid() == 0:
        return
    sudo = shutil.which("sudo")
    if sudo is None:
        raise QuickError(f"`wgpy {command}` must be run as root, and there is no sudo here")
    prompt = f"`wgpy {command}` must be run as root. Password for %u: "
    os.execv(sudo, sudo_command(prompt))


def sudo_command(prompt: str) -> list[str]:
    """The words that run this process's command line again: the same interpreter and program,
    because sudo's own PATH may find another."""
    program = os.path.abspath(sys.argv[0])
    return ["sudo", "-p", prompt, "--", sys.executable, program, *sys.argv[1:]]
