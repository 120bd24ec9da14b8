"""What `pip install .` makes, with cargo and without: never a data path that is missing in silence.

Each test builds a copy of the sources.
"""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.packaging.builds import TIMEOUT, build, copy_sources, needs_cargo, wheel


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    return copy_sources(tmp_path / "sources")


def installed_path(made: Path, folder: Path) -> str:
    """Unpack a wheel and ask what data path it has, with nothing of this checkout in the way."""
    with zipfile.ZipFile(made) as archive:
        archive.extractall(folder)
    # An editable installation finds modules by itself: here it is out of the way.
    code = (
        "import sys; "
        "sys.meta_path = [f for f in sys.meta_path if '__editable__' not in f.__module__]; "
        "import wgpy.datapath.choose as c; print(c.__file__, c.chosen_name())"
    )
    env = {**os.environ, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    env.pop("WGPY_DATAPATH", None)
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert said[0].startswith(str(folder))
    return said[1]


@needs_cargo
def test_with_cargo_one_wheel_serves_every_python(sources: Path, tmp_path: Path) -> None:
    # What an earlier build left in the tree must not get into the wheel.
    (sources / "wgpy" / "_native.stale.so").write_bytes(b"stale")
    done = build(sources)
    assert done.returncode == 0, done.stderr[-3000:]
    made = wheel(sources)
    assert "-cp311-abi3-" in made.name
    with zipfile.ZipFile(made) as archive:
        modules = [name for name in archive.namelist() if name.endswith(".so")]
    assert modules == ["wgpy/_native.abi3.so"]
    assert installed_path(made, tmp_path / "site") == "native"


@needs_cargo
def test_with_cargo_a_build_error_is_an_error(sources: Path) -> None:
    with (sources / "native" / "python" / "src" / "lib.rs").open("a") as file:
        file.write('\ncompile_error!("spoilt on purpose");\n')
    done = build(sources)
    assert done.returncode != 0
    assert "spoilt on purpose" in done.stdout + done.stderr


@pytest.mark.parametrize("how", ["no cargo", "left out"])
def test_without_the_native_path(sources: Path, tmp_path: Path, how: str) -> None:
    empty = tmp_path / "nothing"
    empty.mkdir()
    done = build(sources, path=str(empty)) if how == "no cargo" else build(sources, WGPY_NATIVE="0")
    assert done.returncode == 0, done.stderr[-3000:]
    made = wheel(sources)
    assert made.name.endswith("-py3-none-any.whl")
    assert installed_path(made, tmp_path / "site") == "portable"


def test_insisting_without_cargo_says_what_is_missing(sources: Path, tmp_path: Path) -> None:
    empty = tmp_path / "nothing"
    empty.mkdir()
    done = build(sources, path=str(empty), WGPY_NATIVE="1")
    assert done.returncode != 0
    assert "WGPY_NATIVE=1: no cargo was found" in done.stdout + done.stderr


def test_the_source_distribution_has_the_crates(sources: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "build", "--sdist", "--outdir", "dist", "."],
        cwd=sources,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (made,) = (sources / "dist").glob("*.tar.gz")
    with tarfile.open(made) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"native/Cargo.toml", "native/Cargo.lock", "native/core/src/engine.rs", "setup.py"}
    assert wanted <= names
    assert not [name for name in names if name.startswith("native/target")]
