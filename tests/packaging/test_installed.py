"""The tests of the data path, and of a tunnel, with a wheel that pip installed and nothing of the
checkout: there is no wgpy/ beside them, and PYTHONSAFEPATH=1 keeps the current folder out."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.builds import TIMEOUT, build, copy_sources, needs_cargo, wheel
from tests.support.requirements import is_root

# The engine's own tests, the one that drives both engines with the same events, and, where there
# may be namespaces, a tunnel between two daemons.
SUITE = (
    "tests/unit/datapath",
    "tests/model/test_differential.py",
    *(("tests/system/test_link.py",) * is_root()),
)


@pytest.mark.parametrize(
    ("native", "name"),
    [pytest.param("1", "native", marks=needs_cargo), ("0", "portable")],
    ids=["native", "portable"],
)
def test_the_installed_package_passes_its_tests(tmp_path: Path, native: str, name: str) -> None:
    sources = copy_sources(tmp_path / "sources")
    done = build(sources, WGPY_NATIVE=native)
    assert done.returncode == 0, done.stderr[-3000:]
    python = tmp_path / "venv" / "bin" / "python"
    run(tmp_path, sys.executable, "-m", "venv", str(tmp_path / "venv"))
    needed = ("pytest>=8", "hypothesis>=6.100")
    run(tmp_path, str(python), "-m", "pip", "install", "-q", str(wheel(sources)), *needed)
    suite = tmp_path / "suite"
    shutil.copytree(sources / "tests", suite / "tests")
    shutil.copy2(sources / "pyproject.toml", suite)
    said = run(suite, str(python), "-m", "pytest", "-p", "no:cacheprovider", *SUITE)
    # Of the process that ran the tests: tests/support/plugin.py prints it.
    place, path = next(
        line.removeprefix("wgpy: ").split(", data path: ")
        for line in said.splitlines()
        if line.startswith("wgpy: ")
    )
    assert Path(place).match("venv/lib/python*/site-packages/wgpy/__init__.py")
    assert Path(place).is_relative_to(tmp_path)
    assert path == name
    assert " passed" in said.splitlines()[-1]


def run(folder: Path, *command: str) -> str:
    """What a command printed that had nothing but the environment of its own; it must succeed."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("WGPY_")}
    env.pop("PYTHONPATH", None)
    done = subprocess.run(
        command,
        cwd=folder,
        env={**env, "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return done.stdout
