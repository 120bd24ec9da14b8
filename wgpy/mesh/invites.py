"""Joining lines: what an operator gives to who is to come in."""

from dataclasses import dataclass
from typing import Final

from wgpy.identity import signer
from wgpy.identity.claims import CredentialError
from wgpy.identity.signer import BACKDATE_SECONDS, Content, Signer, new_jti
from wgpy.mesh import line
from wgpy.mesh.desk import Desk, Refuse
from wgpy.mesh.line import MAX_ADDRESSES, MAX_COORDINATORS, MAX_ENDPOINTS, JoinLine, LineError
from wgpy.mesh.records import InviteRecord
from wgpy.mesh.settings import Coordinator, NetworkSettings

# An hour: long enough to walk over to the other machine, and short for a line that is forgotten.
DEFAULT_SECONDS: Final = 3_600.0
# A month; a line for a whole company is then asked for again.
MAX_SECONDS: Final = 31 * 86_400.0


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation that is in the store, and its line."""

    record: InviteRecord
    line: str


def invite(
    desk: Desk,
    key: Signer,
    *,
    name: str | None,
    groups: tuple[str, ...],
    uses: int,
    seconds: float,
) -> Invited:
    """Make an invitation. Blocking. Raises Refuse, StoreError."""
    if not 60 <= seconds <= MAX_SECONDS:
        raise Refuse(400, "expires", "an invitation is good for 1 minute to 31 days")
    check_groups(desk, groups)
    now = desk.wall()
    settings = desk.store.settings()
    record = InviteRecord(new_jti(), float(int(now + seconds)), name, groups, uses)
    # The groups are in the store and not in the token, which is for everybody to see who has it.
    content = Content(
        network=settings.id,
        not_before=int(now) - BACKDATE_SECONDS,
        not_after=int(record.expires),
        name=name,
        jti=record.jti,
    )
    try:
        token = signer.issue(key, content, now)
        text = line.format_line(
            JoinLine(settings.id, settings.domain, contacts(desk, settings), token)
        )
    except (CredentialError, LineError) as error:
        raise Refuse(400, "line", f"no joining line can be made: {error}") from None
    # Before anybody has the token: a store refuses one that it does not know.
    return Invited(desk.store.create_invite(record, now), text)


def contacts(desk: Desk, settings: NetworkSettings) -> tuple[line.Coordinator, ...]:
    """The coordinators as a line names them, ours first. Raises LineError."""
    ours = desk.public
    ordered = sorted(settings.coordinators, key=lambda x: x.key != ours)
    found = [made for x in ordered if (made := _contact(desk, x)) is not None]
    if not found:
        raise LineError("no coordinator of this network has an endpoint that others reach")
    return tuple(found[:MAX_COORDINATORS])


def _contact(desk: Desk, coordinator: Coordinator) -> line.Coordinator | None:
    node = desk.store.node_of(coordinator.key)
    if node is None or not coordinator.endpoints:
        return None
    endpoints = []
    for text in coordinator.endpoints[:MAX_ENDPOINTS]:
        host, _, port = text.rpartition(":")
        endpoints.append(line.Endpoint(host.strip("[]").lower(), int(port)))
    addresses = tuple(x.address for x in node.addresses[:MAX_ADDRESSES])
    return line.Coordinator(coordinator.key, tuple(endpoints), addresses)


def check_groups(desk: Desk, groups: tuple[str, ...]) -> None:
    """Raise Refuse for a group that the issuing CA may not give."""
    rights = desk.issuer.authority.rights
    may = rights.groups if rights is not None else ()
    for group in groups:
        if group not in may:
            raise Refuse(
                400, "group", f"the CA may not give the group {group}; it may: {', '.join(may)}"
            )
