"""Shows something that changes on a whole terminal, until q or Ctrl-C, and puts the terminal back.

    watch(collect, draw)

`collect` may take its time: it runs in a thread of its own, and keys are answered meanwhile. `draw`
makes lines of what it returned, for a width. A frame is written over the one before in one piece,
line by line to its end, so that nothing is ever blank for a moment.
"""

import contextlib
import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Final, Generic, Self, TypeVar

from wgpy.cli import style
from wgpy.cli.table import cut

INTERVAL: Final = 1.0

# xterm's control sequences: the other screen, no cursor, no automatic margins; and back.
ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"
LEAVE: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"
# Begin and end of what is to be shown at once; terminals that do not know it pass over it.
_TOGETHER: Final = ("\x1b[?2026h", "\x1b[?2026l")
_HOME: Final = "\x1b[H"
_REST_OF_LINE: Final = "\x1b[K"
_REST_OF_SCREEN: Final = "\x1b[J"

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NOTICED: Final = (*_ENDING, signal.SIGWINCH, signal.SIGTSTP)
# What the collecting thread writes where signals write their numbers; no signal has it.
_FRESH: Final = 0
_DEAD_TERMINAL: Final = 5  # EIO

_T = TypeVar("_T")


class Key(Enum):
    """What a key asks for."""

    QUIT = "quit"
    UP = "up"
    DOWN = "down"
    PAGE_UP = "page up"
    PAGE_DOWN = "page down"
    TOP = "top"
    BOTTOM = "bottom"


# Longer ones first: an escape alone begins many.
_KEYS: Final = (
    (b"\x1b[5~", Key.PAGE_UP),
    (b"\x1b[6~", Key.PAGE_DOWN),
    (b"\x1b[A", Key.UP),
    (b"\x1bOA", Key.UP),
    (b"\x1b[B", Key.DOWN),
    (b"\x1bOB", Key.DOWN),
    (b"\x1b[H", Key.TOP),
    (b"\x1b[F", Key.BOTTOM),
    (b"k", Key.UP),
    (b"j", Key.DOWN),
    (b"b", Key.PAGE_UP),
    (b" ", Key.PAGE_DOWN),
    (b"g", Key.TOP),
    (b"G", Key.BOTTOM),
    (b"q", Key.QUIT),
    (b"Q", Key.QUIT),
    (b"\x04", Key.QUIT),
)


def keys(data: bytes) -> list[Key]:
    """The keys in what a terminal sent; what is none of ours is passed over."""
    found = []
    while data:
        for code, key in _KEYS:
            if data.startswith(code):
                found.append(key)
                data = data[len(code) :]
                break
        else:
            data = data[1:]
    return found


def frame(lines: Sequence[str], columns: int, rows: int, top: int, clock: str) -> str:
    """What to write to a terminal of so many columns and rows: the lines from `top` on.

    The last row says what can be done, and how much there is above and below.
    """
    room = max(1, rows - 1)
    shown = [cut(line, columns) for line in lines[top : top + room]]
    shown += [""] * (room - len(shown))
    below = len(lines) - top - room
    parts = [clock, "q quits"]
    if top > 0 or below > 0:
        parts.append(f"arrows scroll, {top} above, {max(0, below)} below")
    # Inverse; the last column stays free, where some terminals begin a new line.
    foot = "  ".join(parts)[: max(0, columns - 1)]
    body = "\r\n".join(_row(line, columns) for line in [*shown, f"\x1b[7m{foot}\x1b[m"][:rows])
    return f"{_TOGETHER[0]}{_HOME}{body}{_REST_OF_SCREEN}{_TOGETHER[1]}"


def _row(line: str, columns: int) -> str:
    """A line, and nothing behind it. After one that fills its row the cursor stands on its last
    character, which would be erased."""
    is_full = len(style.COLOUR.sub("", line)) >= columns
    return line if is_full else line + _REST_OF_LINE


def scrolled(key: Key, top: int, lines: int, rows: int) -> int:
    """The first line that is shown after a key."""
    room = max(1, rows - 1)
    most = max(0, lines - room)
    moved = {
        Key.UP: top - 1,
        Key.DOWN: top + 1,
        Key.PAGE_UP: top - room,
        Key.PAGE_DOWN: top + room,
        Key.TOP: 0,
        Key.BOTTOM: most,
    }
    return min(max(0, moved.get(key, top)), most)


def watch(collect: Callable[[], _T], draw: Callable[[_T, int], list[str]]) -> int:
    """Show it on the terminal of standard input and output; returns the exit code, 0.

    Raises what `collect` and `draw` raise, after the terminal was put back.
    """
    with _signals() as (reader, writer):
        collector = _Collector(collect, writer)
        with _Terminal() as terminal:
            collector.start()
            try:
                _loop(collector, draw, reader, terminal)
            finally:
                collector.stop()
    if collector.error is not None:
        raise collector.error
    return 0


class _Collector(Generic[_T]):
    """Collects again and again in a thread, and writes a byte when there is something new."""

    def __init__(self, collect: Callable[[], _T], writer: int) -> None:
        self.value: _T | None = None
        self.error: Exception | None = None
        self._collect = collect
        self._writer = writer
        self._ended = threading.Event()
        self._lock = threading.Lock()
        # A daemon that hangs must not hold up the end: the thread is not waited for.
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Nothing is written to the pipe any more; a collection that goes on is in vain."""
        with self._lock:
            self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.value = self._collect()
            except Exception as error:
                self.error = error
            with self._lock:
                if self._ended.is_set():
                    return
                # A full pipe says the same already.
                with contextlib.suppress(BlockingIOError):
                    os.write(self._writer, bytes([_FRESH]))
            if self.error is not None:
                return
            self._ended.wait(INTERVAL)


def _loop(
    collector: _Collector[_T],
    draw: Callable[[_T, int], list[str]],
    reader: int,
    terminal: "_Terminal",
) -> None:
    """Until a key, a signal, the end of standard input or a failure."""
    top = 0
    shown = ""
    stdin = sys.stdin.fileno()
    while collector.error is None:
        # Not shutil's, which believes COLUMNS, and a shell exports that once.
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
        value = collector.value
        lines = ["Asking ..."] if value is None else draw(value, columns)
        top = scrolled(Key.UP, top + 1, len(lines), rows)
        text = frame(lines, columns, rows, top, time.strftime("%H:%M:%S"))
        if text != shown:
            _write(text)
            shown = text
        ready, _, _ = select.select([stdin, reader], [], [])
        if reader in ready:
            numbers = os.read(reader, 64)
            if any(number in _ENDING for number in numbers):
                return
            if signal.SIGTSTP in numbers:
                terminal.pause()
            if signal.SIGTSTP in numbers or signal.SIGWINCH in numbers:
                shown = ""
        if stdin in ready:
            data = _read(stdin)
            if not data:
                return
            for key in keys(data):
                if key is Key.QUIT:
                    return
                top = scrolled(key, top, len(lines), rows)


def _read(descriptor: int) -> bytes:
    """What was typed; nothing when the terminal has gone."""
    try:
        return os.read(descriptor, 64)
    except OSError as error:
        if error.errno == _DEAD_TERMINAL:
            return b""
        raise


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


class _Terminal:
    """The other screen, keys one by one and unseen; all as it was at the end."""

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(sys.stdin)
        self._enter()
        return self

    def __exit__(self, *error: object) -> None:
        self._leave()

    def pause(self) -> None:
        """Ctrl-Z: the shell has the terminal until it lets us go on."""
        self._leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._enter()

    def _enter(self) -> None:
        tty.setcbreak(sys.stdin)
        _write(ENTER)

    def _leave(self) -> None:
        # A terminal that has gone needs nothing put back.
        with contextlib.suppress(OSError, termios.error):
            _write(LEAVE)
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)


@contextlib.contextmanager
def _signals() -> Iterator[tuple[int, int]]:
    """Signals become bytes in a pipe, whose two ends are given; at the end all is as it was."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    former = {number: signal.signal(number, lambda *_: None) for number in _NOTICED}
    woken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader, writer
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in former.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
