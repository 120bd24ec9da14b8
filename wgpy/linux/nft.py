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
    _nft(("-j", "-f", "-"), json.dumps({"nftables": list(commands)}), timeout)


def delete_table(family: str, name: str, timeout: float = TIMEOUT) -> None:
    """Delete a table; nothing is done when there is none. Raises FirewallError."""
    wanted = {"family": family, "name": name}
    listed = json.loads(_nft(("-j", "list", "tables"), "", timeout))["nftables"]
    tables = [entry["table"] for entry in listed if "table" in entry]
    if any(wanted.items() <= table.items() for table in tables):
        apply([{"delete": {"table": wanted}}], timeout)


def _nft(arguments: tuple[str, ...], text: str, timeout: float) -> str:
    try:
        done = subprocess.run(
            ("nft", *arguments),
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
    return done.stdout
