"""What is told while steps are taken, and that nobody need listen."""

import os
import subprocess
import sys

import pytest

from wgpy.quick.runner import say_step

TALKS = """
import sys
from wgpy.quick.runner import say_step
for _ in range(3):
    say_step("ip link set up dev wg0")
print("done")
"""


def test_each_line_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    say_step("printf 'one\ntwo'")
    assert capsys.readouterr().err == "[#] printf 'one\n[#] two'\n"


def test_who_is_not_listened_to_goes_on() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", TALKS], stdout=subprocess.PIPE, stderr=writer, text=True, check=False
    )
    os.close(writer)
    assert done.stdout == "done\n"
