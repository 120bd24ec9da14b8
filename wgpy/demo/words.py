"""What the demo prints, line by line and as JSON."""

import shutil
from typing import Any, Final

from wgpy.demo.echo import Echoes
from wgpy.demo.machines import ALICE, BOB
from wgpy.demo.picture import Side, draw
from wgpy.demo.run import Result, Teller

INTRODUCTION: Final = "A WireGuard tunnel between two machines, both of them inside this one.\n"
FAREWELL: Final = "\nEverything was removed again; `wgpy demo --keep` leaves it to look around in."


def teller(quiet: bool) -> Teller:
    """Prints what happens as it happens, or nothing."""
    if quiet:
        return Teller(lambda _: None, lambda *_: None, lambda _: None)

    spoken: list[str] = []

    def step(text: str) -> None:
        # The introduction waits for the first success: a refusal is one line and nothing else.
        if not spoken:
            print(INTRODUCTION)
        spoken.append(text)
        print(f"  made  {text}", flush=True)

    def picture(left: Side, right: Side) -> None:
        print(f"\n{draw(left, right)}\n", flush=True)

    return Teller(
        step=step,
        picture=picture,
        echoes=lambda echoes: print(describe_echoes(echoes), flush=True),
    )


def describe_echoes(echoes: Echoes) -> str:
    """One line on the answers of one address."""
    text = f"  ping  {echoes.address:<10}  {echoes.answered} of {len(echoes.times)} answered"
    if echoes.settled is not None:
        text += f", {milliseconds(echoes.settled)}"
    first = echoes.times[0]
    if first is not None and echoes.settled is not None and first > 3 * echoes.settled:
        text += f" (with the handshake: {milliseconds(first)})"
    return text


def describe_rest(result: Result) -> str:
    """The lines on throughput, handshake and transfer."""
    status = result.statuses[0]
    sent, received = amount(status.sent), amount(status.received)
    return "\n".join(
        [
            f"  TCP   {rate(result.flow.bits_per_second)}: {amount(result.flow.size)} "
            f"from {ALICE.name} to {BOB.name} in {result.flow.seconds:.1f} s",
            f"  keys  from a handshake {result.handshake_age:.0f} s ago, renewed every two minutes "
            "of traffic",
            f"  wire  {ALICE.name} sent {sent} and received {received}, all of it encrypted",
        ]
    )


def removal(removed: bool) -> str:
    """What `wgpy demo --clean` has done."""
    return "The demo was removed." if removed else "There was no demo to remove."


def invitation() -> str:
    """What to do with a demo that was kept."""
    enter = f"ip netns exec {ALICE.namespace}"
    if shutil.which("ip") is None:
        enter = f"nsenter --net=/run/netns/{ALICE.namespace}"
    return "\n".join(
        [
            "\nIt is left running. To look around, as root:",
            "  wgpy show                                   both interfaces, keys and counters",
            f"  {enter + ' ping ' + BOB.inner_v4:<42}  a packet through the tunnel",
            f"  {enter + ' bash':<42}  a shell on {ALICE.name}",
            "  wgpy demo --clean                           removes all of it",
        ]
    )


def as_json(result: Result, kept: bool) -> dict[str, Any]:
    """The result as plain values: times in seconds, sizes in bytes, rates in bits a second."""
    pings = [result.v4] if result.v6 is None else [result.v4, result.v6]
    sides = zip(result.sides, result.statuses, strict=True)
    return {
        "machines": [
            {
                "name": side.machine.name,
                "namespace": side.machine.namespace,
                "interface": side.machine.interface,
                "addresses": [
                    side.machine.inner_v4,
                    *([side.machine.inner_v6] if side.has_v6 else []),
                ],
                "endpoint": f"{side.machine.outer}:{side.machine.port}",
                "public_key": side.public_key.base64(),
                "program": side.program,
                "pid": side.pid,
                "last_handshake": status.last_handshake,
                "sent": status.sent,
                "received": status.received,
            }
            for side, status in sides
        ],
        "pings": [{"address": echoes.address, "times": list(echoes.times)} for echoes in pings],
        "tcp": {
            "bits_per_second": result.flow.bits_per_second,
            "bytes": result.flow.size,
            "seconds": result.flow.seconds,
        },
        "seconds": result.seconds,
        "kept": kept,
    }


def milliseconds(seconds: float) -> str:
    """A short time, to two significant places: `0.42 ms`."""
    value = seconds * 1e3
    return f"{value:.2f} ms" if value < 10 else f"{value:.0f} ms"


def rate(bits_per_second: float) -> str:
    """A throughput: `1.23 Gbit/s` or `456 Mbit/s`."""
    if bits_per_second >= 1e9:
        return f"{bits_per_second / 1e9:.2f} Gbit/s"
    return f"{bits_per_second / 1e6:.0f} Mbit/s"


def amount(size: float) -> str:
    """A number of bytes in decimal units: `123 MB`."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
