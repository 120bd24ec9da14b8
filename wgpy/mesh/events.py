"""What the journal says of a mesh: every sentence that agents and coordinators log, in one place.

Plain functions that return a text, so that one thing is always said in one way, a person finds it
with `journalctl`, and a test reads them all. A node is named by its name; a key is shortened, for
it only has to be told from others. Nothing secret is an argument.

What others wrote (host names, reasons, messages) goes through `clean`: a line stays one line.
"""

import datetime
from collections.abc import Sequence
from typing import Final

# Of a key in base64, as much as tells the nodes of one network apart.
_KEY_SHOWN: Final = 8
# What others say may be long; a line of the journal is to be read.
_MOST: Final = 200


def clean(text: str) -> str:
    """What others wrote, as one line of printable characters, 200 at the most."""
    whole = "".join(x if x.isprintable() else "?" for x in text)
    return whole if len(whole) <= _MOST else whole[: _MOST - 1] + "…"


def short_key(key: str) -> str:
    """A public key in base64, shortened: `q+UCYV8k…`."""
    return f"{clean(key)[:_KEY_SHOWN]}…"


def when(seconds: float) -> str:
    """A time of the wall clock, in UTC: `2026-11-28 07:40 UTC`."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M} UTC"


# --- The agent: this node ---


def starts(interface: str, version: str) -> str:
    """The agent begins; it knows nothing of the network yet."""
    return f"the agent of {interface} starts, wgpy {version}"


def ends(interface: str, reason: str) -> str:
    """The agent ends."""
    return f"the agent of {interface} ends: {clean(reason)}"


def join_refused(message: str) -> str:
    """A coordinator says no, and why."""
    return f"the coordinator does not let us in: {clean(message)}"


def pending(name: str) -> str:
    """It is recorded, and an operator has to approve it."""
    return f"waiting until an operator approves {name}: `wgpy mesh approve {name}`, there"


def joined(name: str, addresses: Sequence[str], expires: float) -> str:
    """It is a node of the network."""
    return f"joined as {name}, {' and '.join(addresses)}; the certificate ends {when(expires)}"


def renewed(name: str, expires: float) -> str:
    """The certificate was renewed."""
    return f"the certificate of {name} was renewed, and ends {when(expires)}"


def renewal_failed(reason: str, expires: float) -> str:
    """It was to be renewed, and was not; it is tried again."""
    return (
        f"the certificate could not be renewed: {clean(reason)}; tried again, it ends "
        f"{when(expires)}"
    )


def certificate_ended(name: str) -> str:
    """The certificate has ended: nobody lets this node in any more."""
    return (
        f"the certificate of {name} has ended, and no coordinator renewed it: no node lets us in "
        "until it is renewed"
    )


def removed() -> str:
    """This node is none of the network any more."""
    return "this machine was removed from the network; `wgpy mesh join` with a new line comes back"


def left(domain: str) -> str:
    """This node has left by its own will."""
    return f"left {domain}; its certificate is revoked"


def coordinator_away(name: str, reason: str) -> str:
    """The connection to a coordinator is lost."""
    return f"the coordinator {name} is away: {clean(reason)}"


def coordinator_back(name: str) -> str:
    """There is a connection to a coordinator, at first or again."""
    return f"connected to the coordinator {name}"


def alone(expires: float) -> str:
    """No coordinator answers. Everything that is known goes on."""
    return (
        "no coordinator answers: working from what is known; nodes reach each other as before, "
        f"our certificate ends {when(expires)}"
    )


def wrong_clock(seconds: float) -> str:
    """The coordinator's clock and ours differ by more than a minute."""
    side = "ahead of" if seconds > 0 else "behind"
    return (
        f"the clock here is {abs(seconds):.0f} s {side} the coordinator's: one of them is wrong, "
        "and certificates are judged by it"
    )


def tunnel_restarted(interface: str) -> str:
    """The daemon ended by itself, and was started again."""
    return f"wgpyd of {interface} had ended, and was started again"


def child_ended(what: str, code: int, pause: float) -> str:
    """A process that the agent keeps has ended; it is started again after a pause in seconds."""
    return f"{what} ended with {code}; started again in {pause:.0f} s"


# --- The agent: others ---


def node_known(name: str, addresses: Sequence[str]) -> str:
    """The directory has a new node."""
    return f"{name} is in the network, {' and '.join(addresses)}"


def node_gone(name: str) -> str:
    """The directory has a node no more: it left, or was removed."""
    return f"{name} is in the network no more"


def node_key_changed(name: str, former: str, key: str) -> str:
    """A name has another key. It is allowed, and to be noticed."""
    return f"{name} has another key now: {short_key(key)}, and had {short_key(former)}"


def path_found(name: str, place: str) -> str:
    """Packets go to a node directly now."""
    return f"a direct path to {name}: {clean(place)}"


def path_relayed(name: str, relay: str, reason: str = "") -> str:
    """Packets go to a node through a relay; perhaps why there is nothing better."""
    why = f" ({clean(reason)})" if reason else ""
    return f"{name} is reached through the relay {clean(relay)}{why}"


def path_ended(name: str) -> str:
    """Nothing goes to a node any more, or its path was lost; the next packet looks for one."""
    return f"no path to {name} now: one is made when there is something to send"


# --- Names and routes ---


def names_by(domain: str, how: str) -> str:
    """Names of the domain are resolved; `how` is by what (resolved, resolvconf, hosts)."""
    return f"names of {domain} are resolved by {how}"


def names_not(domain: str, reason: str) -> str:
    """Names of the domain are not resolved, and why."""
    return f"names of {domain} are not resolved: {clean(reason)}; addresses work"


# --- The coordinator ---


def coordinator_starts(domain: str, places: Sequence[str], store: str) -> str:
    """The coordinator serves. `store` is without a password."""
    return f"coordinating {domain} at {', '.join(places)}, store {store}"


def invited(jti: str, expires: float, uses: int, name: str | None = None) -> str:
    """An operator made a joining line."""
    who = name or "any name"
    times = "once" if uses == 1 else f"{uses} times"
    return f"invitation {jti} for {who}, {times}, until {when(expires)}"


def invite_revoked(jti: str) -> str:
    """An invitation was taken back."""
    return f"invitation {jti} was taken back"


def node_enrolled(name: str, key: str, jti: str) -> str:
    """A machine became a node."""
    return f"{name} enrolled with the key {short_key(key)}, by the invitation {jti}"


def node_waits(name: str, key: str, jti: str) -> str:
    """A machine waits for an operator."""
    return (
        f"{name} with the key {short_key(key)} waits for approval (invitation {jti}): "
        f"`wgpy mesh approve {name}`"
    )


def node_approved(name: str) -> str:
    """An operator let a node in."""
    return f"{name} was approved"


def node_renewed(name: str, expires: float) -> str:
    """A node got its next certificate."""
    return f"{name} has a new certificate, until {when(expires)}"


def node_removed(name: str) -> str:
    """An operator removed a node."""
    return f"{name} was removed, and its certificates are revoked"


def node_left(name: str) -> str:
    """A node has left by its own will."""
    return f"{name} has left, and its certificates are revoked"


def name_taken(name: str, key: str) -> str:
    """A machine asked for a name that another has."""
    return f"the key {short_key(key)} asked for {clean(name)}, a name that another node has"


def enrol_refused(reason: str, key: str) -> str:
    """A machine was not let in, and why."""
    return f"the key {short_key(key)} was not enrolled: {clean(reason)}"


def rights_changed(name: str, groups: Sequence[str], routes: Sequence[str]) -> str:
    """What a node may is something else."""
    has = ", ".join(groups) or "no group"
    may = ", ".join(routes) or "nothing"
    return f"{name} has {has}, and may route {may}"


def offered(name: str, offers: Sequence[str]) -> str:
    """A node would route something, if an operator approves."""
    return f"{name} offers to route {', '.join(offers) or 'nothing any more'}"


def store_away(reason: str) -> str:
    """The database does not answer. What was acknowledged is kept."""
    return f"the store is away: {clean(reason)}; nobody enrols or renews until it is back"


def list_written(number: int, count: int) -> str:
    """A new list of revocations was signed."""
    return f"revocation list {number} with {count} entries was signed"
