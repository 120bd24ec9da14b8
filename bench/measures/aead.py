"""ChaCha20-Poly1305 alone: what no tunnel on this machine can be faster than."""

import functools
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from bench.contenders import Contender
from bench.measures.measure import Figure, Measure
from bench.session import Session

# A small packet, and one of 1,420 bytes as WireGuard pads it to a multiple of 16.
SIZES = (64, 1424)
_SECONDS = 0.2
_TURN = 200
_OPENSSL_TIMEOUT = 30.0


def take(contender: Contender, session: Session) -> dict[str, float]:
    """Sealing and opening in this process, and `openssl speed` where it is installed."""
    del contender, session  # the machine's number
    key = ChaCha20Poly1305(os.urandom(32))
    nonce, sample = bytes(12), {}
    for size in SIZES:
        plain = os.urandom(size)
        sealed = key.encrypt(nonce, plain, None)
        into, out = bytearray(size + 16), bytearray(size)
        seal = functools.partial(key.encrypt_into, nonce, plain, None, into)
        unseal = functools.partial(key.decrypt_into, nonce, sealed, None, out)
        sample[f"seal-{size}"] = _each(seal)
        sample[f"open-{size}"] = _each(unseal)
        if (speed := _openssl(size)) is not None:
            sample[f"openssl-{size}"] = speed
    return sample


def _each(call: Callable[[], object]) -> float:
    """Nanoseconds of processor time for one call: the least of some turns."""
    end, best = time.monotonic() + _SECONDS, float("inf")
    while time.monotonic() < end:
        start = time.thread_time_ns()
        for _ in range(_TURN):
            call()
        best = min(best, (time.thread_time_ns() - start) / _TURN)
    return best


def _openssl(size: int) -> float | None:
    """Nanoseconds to seal so many bytes by `openssl speed`; None without it."""
    tool = shutil.which("openssl")
    if tool is None:
        return None
    options = ("-seconds", "1", "-bytes", str(size), "-evp", "chacha20-poly1305", "-mr")
    done = subprocess.run(
        [tool, "speed", "-aead", *options],
        capture_output=True,
        text=True,
        timeout=_OPENSSL_TIMEOUT,
        check=False,
    )
    return parse_openssl(done.stdout, size)


def parse_openssl(output: str, size: int) -> float | None:
    """Nanoseconds for each of `size` bytes in the machine-readable report of `openssl speed`."""
    # +F:number:name:bytes a second
    found = re.search(r"^\+F:\d+:[^:]+:([0-9.]+)$", output, re.MULTILINE)
    return size / float(found[1]) * 1e9 if found and float(found[1]) else None


MEASURE = Measure(
    name="aead",
    what="ChaCha20-Poly1305 of one packet on one processor: sealing and opening by Python's "
    "cryptography with its cost of a call, and sealing by `openssl speed`",
    figures={
        f"{kind}-{size}": Figure(f"{title}, {size} bytes", "ns")
        for size in SIZES
        for kind, title in (
            ("seal", "sealing, cryptography"),
            ("open", "opening, cryptography"),
            ("openssl", "sealing, OpenSSL"),
        )
    },
    take=take,
    ours_only=True,
    seconds=3.0,
    section="AEAD alone",
)
