"""Published test vectors, read from the repository's keys/ folder."""

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parents[2] / "keys"


def load(name: str) -> dict[str, Any]:
    """The content of `keys/NAME.json`."""
    content: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text())
    return content


def raw(text: str) -> bytes:
    """Bytes from hexadecimal digits."""
    return bytes.fromhex(text)
