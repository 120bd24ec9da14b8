"""A program that the agent keeps running."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import wait_until

KEEPER = """
import asyncio, sys
from wgpy.mesh.child import Child

child = Child("the child", ("sleep", "60"))

async def tell():
    while child.pid is None:
        await asyncio.sleep(0.01)
    print(child.pid, flush=True)

async def main():
    await asyncio.gather(child.run(), tell())

asyncio.run(main())
"""


def runs(pid: int) -> bool:
    try:
        return "sleep" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_who_keeps_it(number: signal.Signals) -> None:
    words = [sys.executable, "-c", KEEPER]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout is not None
        pid = int(keeper.stdout.readline())
        assert runs(pid)
        os.kill(keeper.pid, number)
        keeper.wait(10)
    wait_until(lambda: not runs(pid), "the child's end")
