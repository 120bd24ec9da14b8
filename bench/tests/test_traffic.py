"""The generator and the sink by themselves: cargo's own tests of them, and its lints."""

import shutil
import subprocess

import pytest

from bench import trial
from tests.support import cargo as tool

TIMEOUT = 20.0


def cargo(*arguments: str) -> None:
    """Run cargo on the crate; fail with what it said last."""
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not installed")
    done = tool.cargo(trial.CRATE, *arguments)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]


def test_the_crate_passes_its_own_tests() -> None:
    cargo("test", "--locked", "--quiet")


@pytest.mark.skipif(shutil.which("cargo-clippy") is None, reason="clippy is not installed")
def test_the_crate_is_clean() -> None:
    cargo("clippy", "--locked", "--quiet", "--all-targets", "--", "-D", "warnings")


@pytest.mark.skipif(shutil.which("rustfmt") is None, reason="rustfmt is not installed")
def test_the_crate_is_formatted() -> None:
    cargo("fmt", "--check")


def test_only_the_system_calls_are_unsafe() -> None:
    for path in sorted((trial.CRATE / "src").glob("*.rs")):
        # Words, not the lint's name.
        unsafe = "unsafe {" in path.read_text() or "unsafe fn" in path.read_text()
        assert unsafe == (path.name == "sys.rs"), path.name


def test_orders_that_cannot_be_followed_are_one_line() -> None:
    if (reason := trial.missing()) is not None:
        pytest.skip(reason)
    done = subprocess.run(
        [str(trial.BINARY), "generate", "--to", "nowhere"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("traffic: ")
    assert done.stderr.count("\n") == 1
