"""`wgpy punch`: a direct way to a peer, where two people carry what the machines have to say.

Both run it. Each gives the other the line that it prints, and pastes the other's. The line goes to
standard output, and what is said to a person to standard error.
"""

import argparse
import errno
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from wgpy.cli import style
from wgpy.cli.errors import CommandError
from wgpy.cli.show_nat import path_text
from wgpy.device import client
from wgpy.device.paths import PathKind, PathState
from wgpy.device.uapi import DeviceChange, DeviceState, PeerChange, PeerState, UapiError
from wgpy.keys import PublicKey

# What `run` returns.
DIRECT: Final = 0
NO_WAY: Final = 1
ONLY_RELAY: Final = 2

# Servers are asked for our address first, several times if they do not answer.
OFFER_SECONDS: Final = 15.0
# As long as an offer is good: the other person may take as long.
WAIT_SECONDS: Final = 600
_MAX_WAIT: Final = 3600
_POLL: Final = 0.25
# A slip of the mouse or two. Whoever goes on has the wrong line.
_TRIES: Final = 3
# So much of a public key names nobody else by chance.
_LEAST_KEY: Final = 4
# An offer has 2,048 characters, and a mail program breaks it into lines.
_MAX_INPUT: Final = 1 << 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `punch`."""
    parser.add_argument("interface", metavar="INTERFACE", help="the interface")
    parser.add_argument(
        "peer", metavar="PUBLIC-KEY", help="the peer's public key, or how it begins"
    )
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--offer", action="store_true", help="print our line, and do no more")
    part.add_argument(
        "--answer", metavar="FILE", help="print no line, and read the other's from FILE, or from -"
    )
    parser.add_argument(
        "--wait",
        type=int,
        default=WAIT_SECONDS,
        metavar="SECONDS",
        help=f"how long to wait for a direct way, {WAIT_SECONDS} without this",
    )
    parser.epilog = (
        "Both sides run it: give the other the line that is printed, and paste theirs. The exit "
        "status is 0 if the way is direct, 2 if there is one by a relay only, and 1 otherwise."
    )


def run(args: argparse.Namespace) -> int:
    """Exchange offers, and wait; returns the exit code."""
    if not 0 < args.wait <= _MAX_WAIT:
        raise CommandError(f"--wait takes 1 to {_MAX_WAIT} seconds")
    talk = Talk(
        args.interface,
        ask=lambda: client.get(args.interface),
        tell=lambda change: client.apply(args.interface, change),
    )
    key = talk.find(args.peer)
    if args.answer is not None:
        talk.answer(key, _read_file(args.answer))
        return talk.watch(key, args.wait)
    if not args.offer and talk.is_direct(key):
        return DIRECT
    offer = talk.offer(key)
    if args.offer:
        _print(offer)
        return 0
    talk.say("Give this line to the person at the other side, by mail or chat. It is sealed")
    talk.say("for their machine, and good for ten minutes.\n")
    _print(offer)
    talk.say(f"\nThey run `wgpy punch INTERFACE {talk.own_key()}`.")
    talk.exchange(key, _read_line)
    return talk.watch(key, args.wait)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@dataclass
class Talk:
    """With a daemon about one of its peers. `ask` and `tell` are `get` and `apply` of the client;
    `say` prints a line for a person."""

    interface: str
    ask: Callable[[], DeviceState]
    tell: Callable[[DeviceChange], None]
    say: Callable[[str], None] = _say
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def find(self, text: str) -> PublicKey:
        """The peer whose public key begins so. Raises CommandError, also for a peer or a daemon
        of whom no way is to be found."""
        state = self.ask()
        if state.wgpy_version is None:
            raise CommandError(
                f"the daemon of {self.interface} finds no ways through NATs; only wgpyd does"
            )
        keys = {peer.public_key.base64(): peer for peer in state.peers}
        found = [keys[key] for key in keys if key.startswith(text) and len(text) >= _LEAST_KEY]
        if len(found) != 1:
            what = "several peers whose keys begin so" if found else f"no peer {text[:44]!r}"
            raise CommandError(
                f"{self.interface} has {what}; `wgpy show {self.interface} peers` lists them"
            )
        if state.nat is None:
            raise CommandError(
                f"{self.interface} has no [nat]; write it into its TOML file, and bring that in "
                f"with `wgpy syncconf --strip {self.interface} {self.interface}`"
            )
        if not found[0].nat:
            raise CommandError(
                "the way to this peer is not looked for; write nat = true under its [[peer]]"
            )
        return found[0].public_key

    def own_key(self) -> str:
        """Our public key, for the other side to name us by."""
        own = self.ask().own_public_key
        return "PUBLIC-KEY" if own is None else own.base64()

    def is_direct(self, key: PublicKey) -> bool:
        """Whether there is nothing to do, which is said then."""
        path = self._path(key)
        if path.kind is PathKind.DIRECT:
            self.say(f"The way is direct already: {_plain(path)}.")
        return path.kind is PathKind.DIRECT

    def offer(self, key: PublicKey) -> str:
        """A fresh offer for the other side. Raises CommandError if none is made in time."""
        self._change(PeerChange(key, update_only=True, offer=True))
        deadline = self.now() + OFFER_SECONDS
        while (offer := self._peer(key).offer) is None:
            if self.now() >= deadline:
                raise CommandError(
                    f"no offer was made in {OFFER_SECONDS:.0f} s: {_plain(self._path(key))}"
                )
            self.sleep(_POLL)
        return offer

    def answer(self, key: PublicKey, text: str) -> None:
        """Give the daemon the other side's offer. Raises UapiError, with its reason, for what is
        none."""
        # A program that shows a long line in several may have put spaces into it.
        self._change(PeerChange(key, update_only=True, answer="".join(text.split())))

    def exchange(self, key: PublicKey, read_line: Callable[[], str]) -> None:
        """Read the other side's offer from a person, who may be mistaken a few times."""
        self.say("Paste the line that they get, and press Enter:")
        for left in reversed(range(_TRIES)):
            try:
                self.answer(key, read_line())
            except UapiError as error:
                if not left or error.code != errno.EINVAL:
                    raise
                self.say(f"{error.reason}.\nPaste the line that they get, all of it:")
            else:
                return

    def watch(self, key: PublicKey, seconds: float) -> int:
        """Wait until the way is direct, and say what becomes of it. Returns the exit code."""
        self.say(
            f"\nWaiting for a direct way, up to {seconds:.0f} s. They have to paste your line as "
            "well.\nCtrl-C ends the waiting, and not the search."
        )
        deadline, said = self.now() + seconds, ""
        while True:
            path = self._path(key)
            if path.kind is PathKind.DIRECT:
                _print(_plain(path))
                return DIRECT
            if self.now() >= deadline:
                break
            # A round trip that changes is no news.
            news = _plain(PathState(path.kind, path.place, path.relay, reason=path.reason))
            if news != said:
                self.say(news)
                said = news
            self.sleep(_POLL)
        _print(_plain(path))
        self.say(f"There is no direct way after {seconds:.0f} s. {_advice(path)}")
        return ONLY_RELAY if path.kind is PathKind.RELAY else NO_WAY

    def _change(self, peer: PeerChange) -> None:
        self.tell(DeviceChange(peers=[peer]))

    def _peer(self, key: PublicKey) -> PeerState:
        for peer in self.ask().peers:
            if peer.public_key == key:
                return peer
        raise CommandError(f"the peer was removed from {self.interface}")

    def _path(self, key: PublicKey) -> PathState:
        return self._peer(key).path or PathState(PathKind.NONE)


def _plain(path: PathState) -> str:
    return style.finish(path_text(path))


def _advice(path: PathState) -> str:
    if path.kind is PathKind.RELAY:
        return "Data goes by the relay, and the search goes on."
    return "Have both sides print new lines, or give both a relay under [[nat.turn]]."


def _read_line() -> str:
    """A line that is not empty. Raises CommandError at the end of the input."""
    while True:
        line = "" if sys.stdin is None else sys.stdin.readline(_MAX_INPUT)
        if not line:
            raise CommandError("there was no line on standard input; give the other side's there")
        if line.strip():
            return line


def _read_file(name: str) -> str:
    """What a file or standard input holds."""
    if name != "-":
        with open(name, "rb") as file:
            raw = file.read(_MAX_INPUT)
    elif sys.stdin is None:
        raise CommandError("standard input is closed; give the other side's line there")
    else:
        raw = sys.stdin.buffer.read(_MAX_INPUT)
    return raw.decode("ascii", "replace")
