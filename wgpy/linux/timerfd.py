"""A timer that counts suspended time, and the clocks: Python 3.11 has no timerfd of its own."""

import ctypes
import os
import time

_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1


class _Itimerspec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


def boottime() -> float:
    """Seconds since the machine started, suspended time included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def suspended_time() -> float:
    """Seconds that the machine was suspended since it started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class BootTimer:
    """A timerfd on CLOCK_BOOTTIME: readable once the moment set with `set` has come."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.timerfd_create(time.CLOCK_BOOTTIME, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._when: float | None = None

    def set(self, when: float | None) -> None:
        """Arm the timer for a moment of `boottime`, or disarm it with None."""
        if when == self._when:
            return
        self._when = when
        # A value of zero disarms; a moment that has passed fires at once.
        moment = 0 if when is None else max(int(when * 1e9), 1)
        spec = _Itimerspec(0, 0, moment // 10**9, moment % 10**9)
        if self._libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def acknowledge(self) -> None:
        """Take note that it fired."""
        self._when = None
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            return  # Set anew between firing and reading.

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)
