"""nft(8): commands in JSON (libnftables-json(5)) as one transaction, all of it or nothing.

nft keeps the capabilities of who runs it, so a daemon that has CAP_NET_ADMIN left may run it: also
without new privileges, and where Landlock lets it write nowhere.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

# nft works in milliseconds; one that takes longer waits for something that will not come.
TIMEOUT = 30.0


class FirewallError(Exception):
    """nft is missing or refused: one line."""


def have_nft() -> bool:
    """Whether nft(8) is on PATH."""
    return shutil.which("nft") is not None


def apply(commands: Sequence[dict[str, Any]], timeout: float = TIMEOUT) -> None:
    """Give commands to nft as one transaction, and wait at most `timeout` seconds.

    Raises FirewallError.
    """
    text = json.dumps({"nftables": list(commands)})
    try:
        done = subprocess.run(
            ("nft", "-j", "-f", "-"),
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise FirewallError("there is no program nft; install nftables") from None
    except OSError as error:
        raise FirewallError(f"nft cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise FirewallError(f"nft did not end in {timeout:.0f} s") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["it printed nothing"]
        raise FirewallError(f"nft exited with {done.returncode}: {lines[0].strip()}")


def delete_table(family: str, name: str, timeout: float = TIMEOUT) -> None:
    """Delete a table; nothing is done when there is none. Raises FirewallError.

    It is added first, in the same transaction: so nobody who deletes it at the same time makes
    this one fail.
    """
    table = {"table": {"family": family, "name": name}}
    apply([{"add": table}, {"delete": table}], timeout)
