"""Telling systemd how we are (sd_notify(3)), when it asked for it."""

import os
import socket


class Notifier:
    """Sends to $NOTIFY_SOCKET; does nothing where there is none."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")

    def send(self, text: str) -> None:
        """Send lines of VARIABLE=VALUE. A manager that went away is none of our trouble."""
        if not self._address.startswith(("/", "@")):
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.sendto(text.encode(), address)
            except OSError:
                self._address = ""

    @staticmethod
    def watchdog_interval() -> float | None:
        """Seconds between signs of life: half of what the manager allows. None if unwatched."""
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        wanted = os.environ.get("WATCHDOG_PID", str(os.getpid()))
        if not microseconds.isdecimal() or wanted != str(os.getpid()):
            return None
        # Zero is no interval: it would have us do nothing else.
        return int(microseconds) / 2_000_000 or None
