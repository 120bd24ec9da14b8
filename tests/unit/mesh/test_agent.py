"""The agent's process: what it answers, how it ends, and what it leaves; without a real tunnel."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import NETWORK
from tests.support.stores import key
from wgpy.config.model import Config
from wgpy.device.uapi import DeviceState
from wgpy.ip import parse_address
from wgpy.keys import PrivateKey
from wgpy.mesh.agent import Agent, hold_lock
from wgpy.mesh.ask import AskError, ask_agent
from wgpy.mesh.line import Coordinator, Endpoint
from wgpy.mesh.place import Membership, Place, PlaceError
from wgpy.mesh.tunnel import Done, Shape, Tunnel, TunnelError

CONTACT = Coordinator(key(1), (Endpoint("192.0.2.1", 51820),), (parse_address("fd07::1"),))


class NoTunnel(Tunnel):
    """A machine on which no tunnel can be made; `fault` is raised in the place of that."""

    def __init__(self, place: Place, fault: Exception) -> None:
        super().__init__(place)
        self.fault = fault
        self.taken_down = 0

    def bring(self, config: Config, shape: Shape, port: int = 0) -> Done:
        raise self.fault

    def is_there(self) -> bool:
        return False

    def state(self) -> DeviceState:
        raise self.fault

    def take_down(self) -> None:
        self.taken_down += 1


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place("mesh0", tmp_path / "state", tmp_path / "run")
    membership = Membership("mesh0", NETWORK, "mesh", line="wgpy-join:abc", contacts=(CONTACT,))
    made.make(PrivateKey.generate(), membership)
    return made


def run(place: Place, tunnel: NoTunnel, client: Callable[[], Awaitable[None]]) -> None:
    """An agent, and somebody who asks it."""

    async def main() -> None:
        agent = Agent(place, tunnel=tunnel)
        running = asyncio.create_task(agent.run())
        async with asyncio.timeout(30):
            while not place.socket.exists() and not running.done():
                await asyncio.sleep(0.01)
            await client()
            await running

    asyncio.run(main())


async def ask(place: Place, what: str, **more: Any) -> dict[str, Any]:
    question = {"ask": what, **more}
    return await asyncio.to_thread(ask_agent, "mesh0", question, str(place.socket.parent))


def test_what_is_in_the_way_is_told(place: Place) -> None:
    tunnel = NoTunnel(place, TunnelError("there is no link to be had"))

    async def client() -> None:
        while not (found := await ask(place, "status"))["reason"]:
            await asyncio.sleep(0.01)
        assert found["state"] == "joining"
        assert found["reason"] == "there is no link to be had"
        assert (found["name"], found["nodes"], found["ended"]) == (None, [], False)
        for question, word in (("map", "alone"), ("hello", "unknown")):
            with pytest.raises(AskError) as caught:
                await ask(place, question)
            assert caught.value.word == word
        with pytest.raises(AskError) as caught:
            await ask(place, "routes", accept=["no prefix/77"])
        assert caught.value.word == "malformed"
        await ask(place, "stop")

    run(place, tunnel, client)
    assert tunnel.taken_down == 1
    assert not place.socket.exists()
    assert place.exists()


def test_who_never_joined_leaves_at_once(place: Place) -> None:
    tunnel = NoTunnel(place, TunnelError("there is no link to be had"))

    async def client() -> None:
        assert await ask(place, "leave") == {"left": "mesh", "revoked": False}

    run(place, tunnel, client)
    assert not place.exists()
    assert not place.directory.exists()


def test_a_fault_ends_the_agent_and_not_the_tunnel(place: Place) -> None:
    """It is seen, by its exit, and the next one finds everything as it was."""
    tunnel = NoTunnel(place, RuntimeError("a fault of ours"))

    async def client() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="a fault of ours"):
        run(place, tunnel, client)
    assert tunnel.taken_down == 0
    assert place.exists()
    assert not place.socket.exists()


def test_there_is_one_agent_of_an_interface(place: Place) -> None:
    held = hold_lock(place)
    try:
        with pytest.raises(PlaceError, match="another agent keeps this interface"):
            hold_lock(place)
    finally:
        os.close(held)
    os.close(hold_lock(place))
