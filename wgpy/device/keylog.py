"""A key log for Wireshark's WireGuard dissector (its option "Key log filename").

Whoever has this file reads all traffic of its sessions. It is off unless the operator names a
file, and the daemon warns about it at start.
"""

import base64
import os
from pathlib import Path

from wgpy.keys import PrivateKey
from wgpy.protocol.handshake import Remote


class KeyLog:
    """Appends four lines for each handshake: the keys from which the dissector derives the rest."""

    def __init__(self, path: Path) -> None:
        """Open `path` for appending, readable by its owner only. Raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)

    def write(self, private: PrivateKey, remote: Remote, ephemeral: bytes) -> None:
        """Log the keys of a handshake that we take part in with this ephemeral private key."""
        lines = (
            ("LOCAL_STATIC_PRIVATE_KEY", bytes(private)),
            ("REMOTE_STATIC_PUBLIC_KEY", bytes(remote.public_key)),
            ("LOCAL_EPHEMERAL_PRIVATE_KEY", ephemeral),
            # The dissector gives it to the ephemeral key that it read last.
            ("PRESHARED_KEY", remote.psk_bytes()),
        )
        text = "".join(f"{name} = {base64.b64encode(key).decode()}\n" for name, key in lines)
        os.write(self._fd, text.encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
