"""`wgpy genkey`, `genpsk` and `pubkey`, held against wg(8)'s."""

import base64
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.requirements import find, program
from wgpy.keys import PrivateKey

KEY = base64.b64encode(bytes([8, *range(1, 31), 64]))


def wgpy(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [program("wgpy"), *arguments], input=stdin, capture_output=True, check=False
    )


def wg(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [program("wg"), *arguments], input=stdin, capture_output=True, check=False
    )


def pubkey(monkeypatch: pytest.MonkeyPatch, stdin: bytes) -> tuple[int, bytes]:
    """`wgpy pubkey` in this process: hundreds of inputs in the time of one start."""
    import contextlib
    import io

    from wgpy.cli import main

    out, err = io.StringIO(), io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["pubkey"])
    if code:
        assert err.getvalue().startswith("wgpy: ")
        assert err.getvalue().count("\n") == 1
        assert stdin[:43].decode("latin-1") not in err.getvalue() or len(stdin) < 8
    return code, out.getvalue().encode()


def test_genkey_and_genpsk_print_one_key() -> None:
    for command in ("genkey", "genpsk"):
        done = wgpy(command)
        assert done.returncode == 0
        assert done.stderr == b""
        assert len(done.stdout) == 45
        assert done.stdout.endswith(b"=\n")
        assert len(base64.b64decode(done.stdout, validate=False)) == 32
    made = wgpy("genkey").stdout.strip().decode()
    assert PrivateKey.from_base64(made).base64() == made, "genkey prints clamped keys"


@pytest.mark.tool("wg")
def test_each_reads_what_the_other_made() -> None:
    ours, theirs = wgpy("genkey").stdout, wg("genkey").stdout
    for private in (ours, theirs):
        mine, other = wgpy("pubkey", stdin=private), wg("pubkey", stdin=private)
        assert (mine.returncode, mine.stdout) == (other.returncode, other.stdout)
        assert mine.returncode == 0


INPUTS = [
    b"",
    b"\n",
    KEY,
    KEY + b"\n",
    KEY + b"\r\n\n \t\v\f",
    KEY + b"\0",
    KEY + b"\0\n\0",
    KEY + b" " * 10_000,
    KEY + b" " * 10_000 + b"x",
    KEY + b"x",
    KEY + b"\n" + KEY,
    KEY + b"=",
    KEY + b"\xff",
    KEY + b"\x1c",
    KEY + b"\xc2\xa0",
    b" " + KEY,
    b"\n" + KEY,
    b"\xef\xbb\xbf" + KEY,
    KEY[:-1],
    KEY[:-1] + b"\n",
    KEY[:-1] + b"A",
    KEY[:-2] + b"==",
    KEY[:-2] + b"B=",
    KEY[:-2] + b"9=",
    b"=" + KEY[1:],
    b"-" + KEY[1:],
    b"_" + KEY[1:],
    b"\0" + KEY[1:],
    b"\xff" + KEY[1:],
    KEY[:20] + b"\n" + KEY[21:],
    KEY[:20] + b"=" + KEY[21:],
    base64.b64encode(bytes(32)),
    base64.b64encode(b"\xff" * 32),
    base64.b64encode(bytes([1]) + bytes(31)),
]


@pytest.mark.tool("wg")
@pytest.mark.parametrize("stdin", INPUTS, ids=range(len(INPUTS)))
def test_pubkey_accepts_and_refuses_as_wg(monkeypatch: pytest.MonkeyPatch, stdin: bytes) -> None:
    other = wg("pubkey", stdin=stdin)
    assert pubkey(monkeypatch, stdin) == (other.returncode, other.stdout)


@pytest.mark.skipif(find("wg") is None, reason="wg is not installed")
@given(st.binary(min_size=32, max_size=32), st.integers(0, 50), st.binary(max_size=3))
@example(bytes(32), 44, b"")
@settings(max_examples=40, deadline=None)
def test_pubkey_agrees_on_any_key_and_any_damage(raw: bytes, place: int, put: bytes) -> None:
    text = base64.b64encode(raw)
    stdin = text[:place] + put + text[place + len(put) :]
    other = wg("pubkey", stdin=stdin)
    with pytest.MonkeyPatch.context() as patch:
        assert pubkey(patch, stdin) == (other.returncode, other.stdout)


@pytest.mark.tool("wg")
@pytest.mark.parametrize("command", ["genkey", "genpsk"])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o601, 0o602])
def test_the_warning_of_an_open_file(tmp_path: Path, command: str, mode: int) -> None:
    said = []
    for name in ("wgpy", "wg"):
        path = tmp_path / name
        path.touch()
        path.chmod(mode)
        with open(path, "wb") as file:
            done = subprocess.run(
                [program(name), command], stdout=file, stderr=subprocess.PIPE, check=True
            )
        assert path.stat().st_size == 45
        said.append(done.stderr)
    assert said[0] == said[1]
    assert bool(said[0]) is bool(mode & 0o007)


def test_a_key_that_cannot_be_written_is_a_failure() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [program("wgpy"), "genkey"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert done.stderr == b"wgpy: No space left on device\n"
    closed = subprocess.run(
        ["/bin/sh", "-c", f"exec '{program('wgpy')}' genkey >&-"], capture_output=True, check=False
    )
    assert closed.returncode == 1
    assert closed.stderr.startswith(b"wgpy: standard output is closed")


def test_a_closed_standard_input_is_a_failure() -> None:
    closed = subprocess.run(
        ["/bin/sh", "-c", f"exec '{program('wgpy')}' pubkey <&-"], capture_output=True, check=False
    )
    assert closed.returncode == 1
    assert closed.stderr.startswith(b"wgpy: standard input is closed")


@pytest.mark.tool("wg")
@pytest.mark.parametrize("command", ["genkey", "genpsk", "pubkey"])
def test_arguments_are_a_usage_error(command: str) -> None:
    mine, other = wgpy(command, "more"), wg(command, "more")
    assert mine.returncode == other.returncode == 1
    assert mine.stdout == other.stdout == b""
    assert mine.stderr.count(b"\n") == 1


def test_key_commands_import_nothing_slow() -> None:
    """What would make `wgpy genkey` take more than 100 ms to start."""
    code = (
        "import sys; from wgpy.cli import main; main([sys.argv[1]]); "
        "print([m for m in ('asyncio', 'pyroute2', 'ipaddress', 'dataclasses', 'inspect',"
        " 'cryptography', 'tempfile', 'rich', 'subprocess', 'importlib.metadata')"
        " if m in sys.modules], file=sys.stderr)"
    )
    import sys

    for command in ("genkey", "genpsk"):
        done = subprocess.run(
            [sys.executable, "-S", "-c", code, command],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        assert done.stderr == "[]\n"
