"""A device in an event loop over a real TUN: its link, suspend, names, and its end."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.netns import Namespace, wait_until
from wgpy.datapath.contract import Failed, Offload, SocketError
from wgpy.device import service
from wgpy.device.service import Service
from wgpy.device.uapi import Address, DeviceChange, PeerChange
from wgpy.keys import PrivateKey, PublicKey
from wgpy.linux.tun import open_tun

pytestmark = [pytest.mark.root, pytest.mark.tool("ip")]

NAME = "servtest0"
KEY = PublicKey(b"k" * 32)


class Running:
    """A service in a thread of its own, inside a namespace."""

    def __init__(self, space: Namespace, directory: Path) -> None:
        self.space = space
        self.reason: str | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=space.inside, args=(lambda: self._run(directory),))
        self._thread.start()
        self._started.wait(10)

    def _run(self, directory: Path) -> None:
        async def main() -> None:
            self.loop = asyncio.get_running_loop()
            self.service = Service(open_tun(NAME))
            self.service.server.listen(directory / "servtest0.sock")
            self.loop.call_soon(self._started.set)
            self.reason = await self.service.run()

        asyncio.run(main())

    def call(self, action, *arguments):
        """Carry out `action` in the loop; returns what it returns."""

        async def act():
            return action(*arguments)

        return asyncio.run_coroutine_threadsafe(act(), self.loop).result(10)

    def apply(self, **fields) -> None:
        self.call(self.service.apply, DeviceChange(**fields))

    def up(self) -> None:
        self.space.ip("link", "set", NAME, "up")
        wait_until(lambda: self.call(lambda: self.service._device._up), "the link")

    def counters(self) -> dict[str, int]:
        return self.call(self.service.state).counters

    def end(self) -> str | None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.service.stop, "the test is over")
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.reason


@pytest.fixture
def running(clean_machine: None, tmp_path: Path) -> Iterator[Running]:
    with Namespace("service") as space:
        made = Running(space, tmp_path)
        yield made
        made.end()


def test_the_first_reason_to_stop_counts(running: Running) -> None:
    running.call(lambda: (running.service.stop("one"), running.service.stop("two")))
    assert running.end() == "one"
    assert NAME not in running.space.ip("link")


def test_keys_are_dropped_once_after_suspend(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dropped: list[bool] = []
    running.apply(private_key=PrivateKey(b"p" * 32))
    running.up()
    device = running.service._device
    forget = device.forget_keys
    monkeypatch.setattr(device, "forget_keys", lambda: (dropped.append(True), forget()))
    slept = running.service._suspended
    with caplog.at_level(logging.INFO):
        for now in (slept + 0.1, slept + 30.1, slept + 30.2):
            monkeypatch.setattr(service, "suspended_time", lambda now=now: now)
            running.call(running.service._timer_ready)
    assert dropped == [True]
    assert [r.message for r in caplog.records if "slept" in r.message] == [
        "the machine slept: every key is dropped"
    ]


def test_a_name_that_does_not_answer_is_looked_up(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    async def getaddrinfo(host, port, **_options):
        asked.append((host, port))
        return [(2, 2, 17, "", ("192.0.2.1", port)), (2, 2, 17, "", ("192.0.2.1", port))]

    monkeypatch.setattr(running.loop, "getaddrinfo", getaddrinfo)
    answers: list[list[Address]] = []
    monkeypatch.setattr(
        running.service._device, "resolved", lambda _key, found: answers.append(found)
    )
    running.call(running.service._ask_name, KEY, "vpn.example", 51820)
    wait_until(lambda: answers, "the answer")
    assert asked == [("vpn.example", 51820)]
    assert answers == [[Address("192.0.2.1", 51820)]]
    assert running.service._lookups == {}


def test_a_look_up_that_fails_is_logged_and_forgotten(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def getaddrinfo(*_what, **_options):
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(running.loop, "getaddrinfo", getaddrinfo)
    with caplog.at_level(logging.INFO):
        running.call(running.service._ask_name, KEY, "vpn.example", 51820)
        wait_until(lambda: caplog.records, "the reason in the log")
    assert caplog.records[-1].message == "vpn.example: Name or service not known"
    assert running.service._lookups == {}


def test_look_ups_are_bounded_and_end_with_the_service(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def getaddrinfo(*_what, **_options):
        await asyncio.Event().wait()

    monkeypatch.setattr(running.loop, "getaddrinfo", getaddrinfo)
    for number in range(service.MAX_LOOKUPS + 5):
        key = PublicKey(bytes([number]) * 32)
        for _ in range(2):
            running.call(running.service._ask_name, key, "vpn.example", 1)
    assert len(running.service._lookups) == service.MAX_LOOKUPS
    assert running.end() == "the test is over"


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (Offload("udp_segment", False, 5), "udp_segment is off from now on: Input/output error"),
        (Failed("the reason"), "the data path failed, peers shake hands afresh: the reason"),
        (SocketError(7, 9), "a UDP socket failed: Bad file descriptor"),
    ],
)
def test_what_goes_wrong_is_said(
    running: Running, caplog: pytest.LogCaptureFixture, event: object, words: str
) -> None:
    running.call(running.service._note, event)
    assert [record.message for record in caplog.records] == [words]


def test_its_timers_run(running: Running) -> None:
    """A peer that cannot be reached is called again: the loop must wake for it."""
    running.apply(private_key=PrivateKey(b"p" * 32))
    running.up()
    running.apply(peers=[PeerChange(KEY, endpoint=Address("192.0.2.1", 9), persistent_keepalive=1)])
    wait_until(lambda: running.counters().get("send_error", 0) >= 1, "an initiation")
    wait_until(lambda: running.counters()["send_error"] >= 2, "its repetition after 5 s", 15)
