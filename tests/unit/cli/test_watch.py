"""A screen that changes: frames, keys, and a real terminal that is put back however it ends."""

import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl

import pytest

from wgpy.cli.watch import ENTER, LEAVE, Key, frame, keys, scrolled

PROGRAM = """
from wgpy.cli.watch import watch
count = 0
def collect():
    global count
    count += 1
    if {fails}:
        raise ValueError("no more")
    return count
watch(collect, lambda value, width: [f"value {{value}} width {{width}}", *map(str, range(30))])
"""


def test_keys() -> None:
    assert keys(b"q") == [Key.QUIT]
    assert keys(b"\x1b[A\x1bOBx\x1b[5~ G") == [
        *(Key.UP, Key.DOWN, Key.PAGE_UP, Key.PAGE_DOWN, Key.BOTTOM)
    ]
    assert keys(b"\x1b\xff\x00") == []


def test_a_frame_fills_the_screen_and_no_more() -> None:
    text = frame(["one", "two two"], 5, 4, 0, "12:00")
    rows = text.replace("\x1b[?2026h\x1b[H", "").replace("\x1b[J\x1b[?2026l", "").split("\r\n")
    # What fills its row is not followed by what would erase its last character.
    assert rows == ["one\x1b[K", "two t", "\x1b[K", "\x1b[7m12:0\x1b[m\x1b[K"]
    assert "\r\n\x1b[1m12345\x1b[0m\r\n" in frame(["", "\x1b[1m12345\x1b[0m"], 5, 4, 0, "")


def test_the_foot_says_what_is_above_and_below() -> None:
    assert "3 above, 4 below" in frame([str(x) for x in range(10)], 80, 4, 3, "")
    assert "above" not in frame(["1"], 80, 4, 0, "")


def test_scrolling_stays_within_what_there_is() -> None:
    assert scrolled(Key.DOWN, 0, 10, 4) == 1
    assert scrolled(Key.DOWN, 7, 10, 4) == 7
    assert scrolled(Key.PAGE_DOWN, 0, 10, 4) == 3
    assert scrolled(Key.PAGE_UP, 2, 10, 4) == 0
    assert scrolled(Key.BOTTOM, 0, 10, 4) == 7
    assert scrolled(Key.UP, 0, 10, 4) == 0
    assert scrolled(Key.DOWN, 5, 2, 4) == 0


class Terminal:
    """A pseudo-terminal with a program in it; `seen` is all that it wrote."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self.descriptor = descriptor
        self.seen = ""

    def until(self, text: str) -> None:
        """Read until it has written this. Fails after 20 s."""
        deadline = time.monotonic() + 20
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} never came: {self.seen[-300:]!r}"
            if select.select([self.descriptor], [], [], left)[0]:
                try:
                    self.seen += os.read(self.descriptor, 65536).decode()
                except OSError:
                    # The program has ended, and its side is closed.
                    assert text in self.seen, self.seen[-300:]

    def resize(self, columns: int, rows: int) -> None:
        """As a person who draws the window larger."""
        ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def flags(self) -> int:
        """Local modes of the terminal: ICANON, ECHO and so on."""
        flags = termios.tcgetattr(self.descriptor)[3]
        assert isinstance(flags, int)
        return flags


@contextmanager
def running(fails: str = "False") -> Iterator[Terminal]:
    master, slave = pty.openpty()
    ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 40, 0, 0))
    code = PROGRAM.format(fails=fails)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        ioctl(slave, termios.TIOCSCTTY, 0)
        for number in range(3):
            os.dup2(slave, number)
        os.execv(sys.executable, [sys.executable, "-c", code])
    terminal = Terminal(pid, master)
    try:
        yield terminal
        _, status = os.waitpid(pid, 0)
        terminal.pid = 0
        assert os.waitstatus_to_exitcode(status) == (0 if fails == "False" else 1)
    finally:
        if terminal.pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("end", ["q", "\x03", "\x04", "TERM", "HUP"])
def test_the_terminal_is_put_back(end: str) -> None:
    with running() as terminal:
        before = terminal.flags()
        terminal.until("value 2 ")
        assert terminal.seen.startswith(ENTER)
        assert not terminal.flags() & (termios.ICANON | termios.ECHO)
        if len(end) == 1:
            os.write(terminal.descriptor, end.encode())
        else:
            os.kill(terminal.pid, getattr(signal, f"SIG{end}"))
        terminal.until(LEAVE)
        deadline = time.monotonic() + 10
        while terminal.flags() != before:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_it_follows_the_size_of_the_terminal_and_scrolls() -> None:
    with running() as terminal:
        terminal.until("width 40")
        terminal.resize(77, 20)
        terminal.until("width 77")
        os.write(terminal.descriptor, b"\x1b[6~")
        terminal.until("12 above, 0 below")
        os.write(terminal.descriptor, b"q")
        terminal.until(LEAVE)


def test_what_fails_is_told_after_the_terminal_was_put_back() -> None:
    with running(fails="count == 2") as terminal:
        terminal.until("ValueError: no more")
        assert terminal.seen.index(LEAVE) < terminal.seen.index("ValueError")


def test_stopped_and_continued() -> None:
    with running() as terminal:
        terminal.until("value 1 ")
        os.write(terminal.descriptor, b"\x1a")
        terminal.until(LEAVE)
        _, status = os.waitpid(terminal.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert terminal.flags() & termios.ICANON
        terminal.seen = ""
        os.kill(terminal.pid, signal.SIGCONT)
        terminal.until(ENTER)
        terminal.until("width 40")
        os.write(terminal.descriptor, b"q")
        terminal.until(LEAVE)
