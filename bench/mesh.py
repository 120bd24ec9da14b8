"""One coordinator and many agents: how fast they join, what it costs that they are there.

    python -m bench.mesh [--agents 1000,2000,5000] [--store URL] [--json FILE]
    python -m bench.mesh report FILE

The coordinator is a process of its own on one processor: store, issuer, API, everything, but for
the daemon: who has which address is a table, for what a thousand tunnels cost is measured
elsewhere. Agents are in this process, each with a key and an address of its own on the loopback
interface. To join is to enrol, to read the whole directory, and to open the WebSocket. What counts
is the coordinator's processor time, since the machine has other work; the rate that went through
is told beside it.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bench import machine, procstat
from tests.support.coordinating import HOME, SETTINGS, Node, Site, prepare
from wgpy.ip import parse_address
from wgpy.keys import PrivateKey, PublicKey
from wgpy.mesh import auth, wire
from wgpy.mesh.ask import ask
from wgpy.mesh.callers import Caller
from wgpy.mesh.messages import EnrolRequest
from wgpy.mesh.records import NodeState

# Goals of one coordinator on one processor with 1,000 agents.
JOINS_GOAL = 50.0
IDLE_GOAL = 0.05
MEMORY_GOAL = 300 * 10**6
PUSH_GOAL = 1.0
# How many join at once; a company that all comes to work at nine has more, and waits.
AT_ONCE = 50
IDLE_SECONDS = 60.0
PUSHES = 5
_WALL = 1_800_000_000.0


@dataclass(slots=True)
class Found:
    """What a number of agents gave. Times are seconds; `joined` is how long all took."""

    agents: int
    joined: float = 0.0
    join_cpu: float = 0.0
    idle_cpu: float = 0.0
    memory: int = 0
    # From a change until the last agent has it, each time.
    pushes: list[float] = field(default_factory=list)
    push_cpu: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)


class Admitting:
    """Who is a node is a member, and everybody else enrols by the one invitation."""

    def __init__(self, jti: str) -> None:
        self.jti = jti
        self.desk: Any = None

    def of(self, key: PublicKey, _address: bytes) -> Caller | None:
        """Whoever says so: the MAC has proved the key."""
        node = self.desk.roll.node(key) or self.desk.recent.get(key)
        if node is not None and node.state is NodeState.ACTIVE:
            return Caller(key)
        return Caller(key, self.jti)

    def live(self) -> frozenset[PublicKey]:
        """Everybody who is connected."""
        return frozenset(self.desk.hub.keys())


# --- The coordinator's process ---


def serve(url: str, folder: Path, port: int) -> None:
    """Coordinate on one processor, until standard input ends."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    asyncio.run(_serve(url, folder, port))


async def _serve(url: str, folder: Path, port: int) -> None:
    from tests.support.coordinating import LOOPBACK, PASSPHRASE
    from wgpy.identity.signer import Signer
    from wgpy.mesh.api import Listens
    from wgpy.mesh.coordinator import Coordinator
    from wgpy.mesh.desk import Desk
    from wgpy.mesh.issuer import LocalIssuer
    from wgpy.mesh.operator_socket import OperatorSocket
    from wgpy.mesh.records import InviteRecord
    from wgpy.mesh.store import Store

    store = Store(url)
    issuer = LocalIssuer(folder / "issuing", PASSPHRASE, lambda: _WALL)
    callers = Admitting("0")
    desk = Desk(store, issuer, callers, _own_key(), LOOPBACK, lambda: _WALL)
    callers.desk = desk
    for number in range(10):
        store.create_invite(InviteRecord(f"{number}", _WALL + 86_400, uses=1_000), _WALL)
    coordinator = Coordinator(desk, Listens((parse_address(HOME),), port))
    operator = OperatorSocket(desk, Signer.load(folder / "tokens.key"), folder / "operator.sock")
    running = asyncio.create_task(coordinator.run())
    await operator.start()
    await coordinator.ready.wait()
    print("ready", flush=True)

    # One invitation has a thousand uses, of which some are under way.
    async def turn() -> None:
        while True:
            await asyncio.sleep(0.05)
            callers.jti = str(len(desk.roll) // 800)

    turning = asyncio.create_task(turn())
    await asyncio.to_thread(sys.stdin.read)
    for task in (running, turning):
        task.cancel()
    await asyncio.gather(running, turning, return_exceptions=True)
    await operator.close()
    desk.close()
    store.close()


def _own_key() -> PrivateKey:
    return PrivateKey(bytes([9]) * 32)


# --- The agents ---


class Agent:
    """A node that joins, and then listens."""

    def __init__(self, site: Site, number: int, url: str) -> None:
        self._node: Node = site.node(f"agent-{number}")
        self._url = url
        coordinator = _own_key().public()
        secret = self._node.key.shared_secret(coordinator)
        self._key = auth.api_key(secret, self._node.public, coordinator)
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._reading: asyncio.Task[None] | None = None
        self.name = ""
        self.heard = asyncio.Event()
        self.revision = 0

    async def join(self) -> None:
        """Enrol, read the directory, and connect."""
        body = wire.encode(EnrolRequest(self._node.hostname))
        status, answer = await self._ask("POST", "/v1/enrol", body)
        while status == 410 or status == 503:
            await asyncio.sleep(0.2)
            status, answer = await self._ask("POST", "/v1/enrol", body)
        assert status == 200, (status, answer)
        self.name = json.loads(answer)["node"]["name"]
        since, more = 0, True
        while more:
            status, answer = await self._ask("GET", f"/v1/directory?since={since}", b"")
            assert status == 200, (status, answer)
            head = answer[:120]
            since = int(head.split(b'"revision":')[1].split(b",")[0])
            more = b'"more":true' in head
        target = "/v1/socket"
        self._socket = await self._node.session().ws_connect(
            self._url + target, headers=self._headers("GET", target, b""), max_msg_size=0
        )
        self._reading = asyncio.create_task(self._read())

    async def _ask(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        async with self._node.session().request(
            method,
            self._url + target,
            data=body or None,
            headers=self._headers(method, target, body),
        ) as answer:
            return answer.status, await answer.read()

    def _headers(self, method: str, target: str, body: bytes) -> dict[str, str]:
        return auth.sign(
            self._key,
            self._node.public,
            method,
            target,
            body,
            now=_WALL,
            nonce=os.urandom(16),
        )

    async def _read(self) -> None:
        assert self._socket is not None
        async for message in self._socket:
            text = str(message.data)
            self.revision = int(text.split('"revision":')[1].split(",")[0].strip("}"))
            self.heard.set()

    async def close(self) -> None:
        """End its connections."""
        if self._reading is not None:
            self._reading.cancel()
        await self._node.close()


# --- Measuring ---


async def measure(url: str, agents: int, folder: Path) -> Found:
    """Everything with so many agents."""
    site = prepare(url, folder, _WALL)
    assert SETTINGS.domain == "mesh"
    port = 17_100
    server = subprocess.Popen(
        [sys.executable, "-m", "bench.mesh", "serve", url, str(folder), str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    all_agents = [Agent(site, x, f"http://{HOME}:{port}") for x in range(agents)]
    try:
        assert server.stdout is not None
        await asyncio.to_thread(server.stdout.readline)
        return await _measured(all_agents, server.pid, folder)
    finally:
        await asyncio.gather(*(x.close() for x in all_agents))
        assert server.stdin is not None
        server.stdin.close()
        await asyncio.to_thread(server.wait, 60)


async def _measured(agents: list[Agent], pid: int, folder: Path) -> Found:
    found = Found(len(agents))
    before, started = procstat.cpu_seconds(pid), time.monotonic()
    room = asyncio.Semaphore(AT_ONCE)

    async def one(agent: Agent) -> None:
        async with room:
            await agent.join()

    await asyncio.gather(*map(one, agents))
    found.joined = time.monotonic() - started
    found.join_cpu = procstat.cpu_seconds(pid) - before
    print(f"{len(agents)} joined in {found.joined:.1f} s", file=sys.stderr, flush=True)
    await asyncio.sleep(3)
    before, started = procstat.cpu_seconds(pid), time.monotonic()
    await asyncio.sleep(IDLE_SECONDS)
    found.idle_cpu = (procstat.cpu_seconds(pid) - before) / (time.monotonic() - started)
    before = procstat.cpu_seconds(pid)
    for number in range(PUSHES):
        found.pushes.append(await _push(agents, folder, number))
        await asyncio.sleep(1)
    found.push_cpu = (procstat.cpu_seconds(pid) - before) / PUSHES
    found.memory = procstat.memory(pid).rss
    status = await asyncio.to_thread(_operator, folder, {"ask": "status"})
    found.counters = status["counters"]
    return found


async def _push(agents: list[Agent], folder: Path, number: int) -> float:
    """From before an operator's change until every agent has heard of it."""
    for agent in agents:
        agent.heard.clear()
    groups = ["laptops"] if number % 2 else ["servers"]
    started = time.monotonic()
    question = {"ask": "rights", "name": agents[0].name, "groups": groups}
    await asyncio.to_thread(_operator, folder, question)
    try:
        async with asyncio.timeout(60):
            await asyncio.gather(*(x.heard.wait() for x in agents))
    except TimeoutError:
        missing = [x.name for x in agents if not x.heard.is_set()]
        raise AssertionError(f"{len(missing)} heard nothing: {missing[:5]}") from None
    return time.monotonic() - started


def _operator(folder: Path, question: dict[str, Any]) -> dict[str, Any]:
    return ask(str(folder / "operator.sock"), question, "the coordinator")


# --- The report ---


def table(results: dict[str, Any]) -> str:
    """What is in docs/performance.md."""
    lines = [
        "| agents | joins a second of processor time | joined in, s | idle, % of a processor | "
        "memory, MB | a push reaches the last after, ms | processor time of one, ms |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in results["found"]:
        pushes = each["pushes"]
        lines.append(
            f"| {each['agents']:,} | {each['agents'] / each['join_cpu']:.0f} | "
            f"{each['joined']:.1f} | {100 * each['idle_cpu']:.2f} | {each['memory'] / 1e6:.0f} | "
            f"{1e3 * statistics.median(pushes):.0f} (longest {1e3 * max(pushes):.0f}) | "
            f"{1e3 * each['push_cpu']:.0f} |"
        )
    return "\n".join([*lines, "", *verdicts(results)]) + "\n"


def verdicts(results: dict[str, Any]) -> list[str]:
    """A line for each goal, by the run with 1,000 agents."""
    found = next((x for x in results["found"] if x["agents"] == 1_000), None)
    if found is None:
        return ["no run had 1,000 agents, which the goals are about"]
    goals = (
        ("joins a second of processor time", found["agents"] / found["join_cpu"], JOINS_GOAL, 1),
        ("idle, part of a processor", found["idle_cpu"], IDLE_GOAL, -1),
        ("memory, bytes", found["memory"], MEMORY_GOAL, -1),
        ("a push reaches the last, s", max(found["pushes"]), PUSH_GOAL, -1),
    )
    return [
        f"- {what}: {value:.4g}, goal {goal:g}: "
        + ("reached" if sign * (value - goal) >= 0 else "NOT reached")
        for what, value, goal, sign in goals
    ]


def plot(results: dict[str, Any], path: Path) -> None:
    """How it grows with the number of agents."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = results["found"]
    agents = [x["agents"] for x in found]
    shown = (
        ("joins a second of processor time", [x["agents"] / x["join_cpu"] for x in found]),
        ("idle, % of a processor", [100 * x["idle_cpu"] for x in found]),
        ("memory, MB", [x["memory"] / 1e6 for x in found]),
        ("a push reaches the last, ms", [1e3 * statistics.median(x["pushes"]) for x in found]),
    )
    figure, axes = pyplot.subplots(2, 2, figsize=(9, 6))
    for axis, (what, values) in zip(axes.flat, shown, strict=True):
        axis.plot(agents, values, marker="o")
        axis.set_title(what, fontsize=10)
        axis.set_xlabel("agents")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="one coordinator and many agents")
    parser.add_argument("--agents", default="1000", help="how many, with commas")
    parser.add_argument("--store", help="postgresql://, with databases 1, 2 .. ; a file without it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the raw numbers go")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a picture of how it grows")
    actions = parser.add_subparsers(dest="action", metavar="")
    server = actions.add_parser("serve")
    server.add_argument("url")
    server.add_argument("folder", type=Path)
    server.add_argument("port", type=int)
    report = actions.add_parser("report", help="print a run again")
    report.add_argument("file", type=Path)
    arguments = parser.parse_args()
    if arguments.action == "serve":
        serve(arguments.url, arguments.folder, arguments.port)
        return 0
    if arguments.action == "report":
        print(table(json.loads(arguments.file.read_text())), end="")
        return 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    results: dict[str, Any] = {"machine": machine.describe(), "found": []}
    for number in map(int, arguments.agents.split(",")):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            url = arguments.store or str(folder / "store")
            found = asyncio.run(measure(url, number, folder))
        results["found"].append(asdict(found))
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.plot:
        plot(results, arguments.plot)
    print(table(results), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
