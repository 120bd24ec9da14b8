"""The lab's carrier by itself: cargo's own tests of it, and its lints; the rest needs a lab."""

import shutil
import socket

import pytest

from tests.support import cargo
from tests.support.natlab.carried import OUT, Carrier
from tests.support.natlab.plan import Line
from tests.support.requirements import CRATES

CRATE = CRATES["carrier"]


def succeeds(*arguments: str) -> None:
    """Run cargo on the crate; fail with what it said last."""
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not installed")
    done = cargo.cargo(CRATE, *arguments)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]


def test_the_crate_passes_its_own_tests() -> None:
    succeeds("test", "--locked", "--quiet")


@pytest.mark.skipif(shutil.which("cargo-clippy") is None, reason="clippy is not installed")
def test_the_crate_is_clean() -> None:
    succeeds("clippy", "--locked", "--quiet", "--all-targets", "--", "-D", "warnings")


@pytest.mark.skipif(shutil.which("rustfmt") is None, reason="rustfmt is not installed")
def test_the_crate_is_formatted() -> None:
    succeeds("fmt", "--check")


def test_only_the_system_calls_are_unsafe() -> None:
    for path in sorted((CRATE / "src").glob("*.rs")):
        # Words, not the lint's name.
        unsafe = "unsafe {" in path.read_text() or "unsafe fn" in path.read_text()
        assert unsafe == (path.name == "sys.rs"), path.name


@pytest.mark.tool("carrier")
def test_one_that_cannot_work_says_why() -> None:
    # A pair that is no packet socket.
    one, other = socket.socketpair()
    with one, other:
        carrier = Carrier((one, other), 1)
        try:
            with pytest.raises(AssertionError, match="carrier: a packet socket: "):
                carrier.set(OUT, Line())
        finally:
            carrier.close()
