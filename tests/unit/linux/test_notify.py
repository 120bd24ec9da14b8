"""sd_notify(3) against a manager's socket."""

import os
import socket
import uuid

import pytest

from wgpy.linux.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    """The socket of a manager; its address is in the environment."""
    if request.param == "path":
        shown = address = str(tmp_path / "notify")
    else:
        name = f"wgpy-test-{uuid.uuid4()}"
        shown, address = f"@{name}", f"\0{name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", shown)
        yield sock


def test_words_arrive_one_by_one(manager):
    notifier = Notifier()
    notifier.send("READY=1")
    notifier.send("WATCHDOG=1")
    assert [manager.recv(100), manager.recv(100)] == [b"READY=1", b"WATCHDOG=1"]


def test_a_manager_that_went_away_is_no_trouble(manager):
    notifier = Notifier()
    manager.close()
    notifier.send("READY=1")
    notifier.send("WATCHDOG=1")


@pytest.mark.parametrize("address", [None, "", "relative", "vsock:2:1"])
def test_without_a_manager_nothing_is_sent(monkeypatch, address):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    Notifier().send("READY=1")


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        (None, None, None),
        ("30000000", None, 15.0),
        ("30000000", "own", 15.0),
        ("30000000", "1", None),
        ("", None, None),
        ("soon", None, None),
        ("-5", None, None),
        ("0", None, None),
    ],
)
def test_the_watchdog_hears_twice_in_its_time(monkeypatch, usec, pid, seconds):
    for name, value in (
        ("WATCHDOG_USEC", usec),
        ("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid),
    ):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert Notifier.watchdog_interval() == seconds
