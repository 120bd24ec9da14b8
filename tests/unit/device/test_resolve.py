"""Looking up an endpoint's host name, with a resolver that fails as told and a clock that waits."""

import socket

import pytest

from wgpy.device.resolve import RETRIES_VARIABLE, ResolveError, resolve, system_lookup
from wgpy.device.uapi import Address


class FakeResolver:
    """Fails with each of `failures` in turn, then finds two addresses."""

    def __init__(self, *failures: int) -> None:
        self.failures = list(failures)
        self.slept: list[float] = []
        self.said: list[str] = []

    def lookup(self, host: str, port: int) -> list[tuple[str, int]]:
        if self.failures:
            raise socket.gaierror(self.failures.pop(0), "it failed")
        return [("2001:db8::1", port), ("192.0.2.1", port)]

    def resolve(self) -> Address:
        return resolve(
            "host.example",
            5,
            report=self.said.append,
            lookup=self.lookup,
            sleep=self.slept.append,
        )


def test_the_first_address_is_taken() -> None:
    fake = FakeResolver()
    assert fake.resolve() == Address("2001:db8::1", 5)
    assert fake.slept == []


def test_a_failure_that_may_pass_is_retried_ever_more_slowly() -> None:
    fake = FakeResolver(*[socket.EAI_AGAIN] * 3)
    assert fake.resolve() == Address("2001:db8::1", 5)
    assert fake.slept == pytest.approx([1.0, 1.2, 1.44])
    assert fake.said[0] == "host.example: it failed; trying again in 1.00 s"


def test_fifteen_retries_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RETRIES_VARIABLE, raising=False)
    fake = FakeResolver(*[socket.EAI_AGAIN] * 16)
    with pytest.raises(ResolveError, match="it failed; check the network"):
        fake.resolve()
    assert len(fake.slept) == 15
    assert FakeResolver(*[socket.EAI_AGAIN] * 15).resolve() == Address("2001:db8::1", 5)


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_FAIL, socket.EAI_NODATA])
def test_a_name_that_does_not_exist_is_not_retried(code: int) -> None:
    fake = FakeResolver(code)
    with pytest.raises(ResolveError, match="check the endpoint's name"):
        fake.resolve()
    assert fake.slept == []


def test_the_environment_says_how_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RETRIES_VARIABLE, "0")
    with pytest.raises(ResolveError):
        FakeResolver(socket.EAI_AGAIN).resolve()
    monkeypatch.setenv(RETRIES_VARIABLE, "infinity")
    fake = FakeResolver(*[socket.EAI_AGAIN] * 100)
    fake.resolve()
    assert max(fake.slept) == 20.0
    for bad in ("", "-1", "many", "1e3", "9" * 10):
        monkeypatch.setenv(RETRIES_VARIABLE, bad)
        with pytest.raises(ResolveError, match=RETRIES_VARIABLE):
            FakeResolver().resolve()


def test_names_are_looked_up_by_the_system() -> None:
    assert ("127.0.0.1", 7) in system_lookup("127.0.0.1", 7)
    assert system_lookup("::1", 7) == [("::1", 7)]
    # A label that IDNA would refuse is a name that does not exist, and not another exception.
    with pytest.raises(socket.gaierror):
        system_lookup("a" * 64 + "..invalid", 7)
