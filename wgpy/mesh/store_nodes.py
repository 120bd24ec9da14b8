"""What happens to nodes, each inside one transaction: enrol, issue, renew, approve, remove."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import delete, func, insert, select, update

from wgpy.identity.claims import CredentialError
from wgpy.identity.leaf import Leaf, read_leaf
from wgpy.identity.profile import is_name, serial_text
from wgpy.keys import PublicKey
from wgpy.mesh import store_rows
from wgpy.mesh.addresses import AddressError, addresses_of, lowest_free
from wgpy.mesh.records import InviteRecord, NodeRecord, NodeState
from wgpy.mesh.settings import is_under
from wgpy.mesh.store_engine import StoreError
from wgpy.mesh.store_revoke import revoke_node
from wgpy.mesh.store_schema import CERTIFICATE, INVITE, NODE, PLACE, SPENT
from wgpy.mesh.store_work import NotThisKey, Refusal, Refused, Work

# Every node keeps the whole directory, and every one of them could be revoked at once
# (identity/denylist.py has room for as many).
MAX_NODES: Final = 10_000
# Who asks for a certificate again before this part of its life is over gets the one that there is:
# an answer may have been lost, and asking must not fill the store.
_FRESH: Final = 0.1

# Makes the certificate of a record, whose generation is the one that it shall have, and returns its
# DER. It runs inside the transaction, maybe several times; what it made for an attempt that came to
# nothing is given to nobody. What it raises undoes everything.
Issue = Callable[[NodeRecord], bytes]


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Who wants in: the invitation's jti, the static key of the handshake, and a name or None."""

    jti: str
    key: PublicKey
    name: str | None = None


class WrongCertificate(StoreError):  # noqa: N818 - it says what was made
    """An issuer made something else than what was asked for; it is not recorded."""


# --- Who is there ---


def by_key(work: Work, key: PublicKey) -> NodeRecord | None:
    """The node of a key, also one that was removed."""
    row = work.connection.execute(select(NODE).where(NODE.c.key == bytes(key))).one_or_none()
    return None if row is None else store_rows.node(row, work.settings)


def by_name(work: Work, name: str) -> NodeRecord | None:
    """The node that has a name now."""
    row = work.connection.execute(
        select(NODE).where(NODE.c.name == name, NODE.c.state != NodeState.REMOVED.value)
    ).one_or_none()
    return None if row is None else store_rows.node(row, work.settings)


def known(work: Work, name: str) -> NodeRecord:
    """The same, or Refused."""
    node = by_name(work, name)
    if node is None:
        raise Refused(Refusal.UNKNOWN_NODE, f"there is no node {name}")
    return node


def of_key(work: Work, key: PublicKey) -> NodeRecord:
    """The node of a key that was not removed, or Refused."""
    node = by_key(work, key)
    if node is None:
        raise Refused(Refusal.UNKNOWN_NODE, "there is no node with this key")
    _check_not_removed(node)
    return node


def _check_not_removed(node: NodeRecord) -> None:
    if node.state is NodeState.REMOVED:
        raise Refused(
            Refusal.KEY_REMOVED, f"this key was {node.name}'s, which was removed; make a new key"
        )


# --- Enrolling ---


def enrol(work: Work, request: Enrolment, now: float, issue: Issue) -> NodeRecord:
    """Spend the invitation, give a name and addresses, and issue; or wait for approval."""
    node = by_key(work, request.key)
    if node is not None:
        _check_not_removed(node)
    invite = _invite(work, request.jti, now)
    first = _spend(work, invite, request.key, now)
    if node is None:
        node = _admit(work, _name(work, invite, request), request.key, invite.groups, now)
    else:
        wanted = invite.name if first and invite.name is not None else request.name
        if wanted is not None and wanted != node.name:
            raise Refused(
                Refusal.KEY_IN_USE, f"this key is that of {node.name}; another name is another key"
            )
        if first and node.groups != invite.groups:
            node = work.save(replace(node, groups=invite.groups))
    if work.settings.approval and node.state is NodeState.PENDING:
        return node
    return issue_if_due(work, node, now, issue)


def add(
    work: Work, name: str, key: PublicKey, groups: tuple[str, ...], now: float, issue: Issue
) -> NodeRecord:
    """Let a node in that nobody invited: a coordinator, by whoever runs the network."""
    node = by_key(work, key)
    if node is None:
        node = _admit(work, check_name(work, name), key, groups, now)
    _check_not_removed(node)
    if node.name != name:
        raise Refused(Refusal.KEY_IN_USE, f"this key is that of {node.name}")
    return issue_if_due(work, node, now, issue)


def _invite(work: Work, jti: str, now: float) -> InviteRecord:
    row = work.connection.execute(select(INVITE).where(INVITE.c.jti == jti)).one_or_none()
    if row is None:
        raise Refused(Refusal.UNKNOWN_INVITE, "nobody here has made this invitation")
    invite = store_rows.invite(row)
    if now >= invite.expires:
        raise Refused(Refusal.EXPIRED, "this invitation has expired; ask for a new one")
    return invite


def _spend(work: Work, invite: InviteRecord, key: PublicKey, now: float) -> bool:
    """Count a key's use of an invitation; False where it had used it, and asks again."""
    mine = (SPENT.c.jti == invite.jti) & (SPENT.c.key == bytes(key))
    if work.connection.execute(select(SPENT.c.at).where(mine)).first() is not None:
        return False
    if invite.revoked:
        raise Refused(Refusal.REVOKED, "this invitation was taken back; ask for a new one")
    if invite.used >= invite.uses:
        raise Refused(
            Refusal.SPENT, "this invitation is spent: others joined with it; ask for a new one"
        )
    work.connection.execute(insert(SPENT).values(jti=invite.jti, key=bytes(key), at=now))
    work.connection.execute(
        update(INVITE).where(INVITE.c.jti == invite.jti).values(used=invite.used + 1)
    )
    return True


def _name(work: Work, invite: InviteRecord, request: Enrolment) -> str:
    wanted = request.name
    if invite.name is not None:
        if wanted not in (None, invite.name):
            raise Refused(Refusal.BAD_NAME, f"this invitation is for the name {invite.name}")
        wanted = invite.name
    if wanted is None:
        raise Refused(Refusal.NAME_WANTED, "this invitation names nobody, so give a name")
    return check_name(work, wanted)


def check_name(work: Work, name: str) -> str:
    """The name, if it may be a node's in this network, or Refused."""
    domain = work.settings.domain
    if not is_name(name) or not is_under(name, domain):
        raise Refused(
            Refusal.BAD_NAME,
            f"a name here is lower-case letters, digits and - before .{domain}",
        )
    return name


def _admit(
    work: Work, name: str, key: PublicKey, groups: tuple[str, ...], now: float
) -> NodeRecord:
    """A new node, pending, with its name and its addresses."""
    if by_name(work, name) is not None:
        raise Refused(
            Refusal.NAME_TAKEN, f"{name} is taken; choose another, or have the old one removed"
        )
    alive = select(func.count()).select_from(NODE).where(NODE.c.state != NodeState.REMOVED.value)
    if work.connection.execute(alive).scalar_one() >= MAX_NODES:
        raise Refused(Refusal.FULL, f"the network has {MAX_NODES:,} nodes, and no more fit")
    number = _place(work, name, now)
    node = NodeRecord(
        name=name,
        key=key,
        addresses=addresses_of(number, work.settings.range4, work.settings.range6),
        state=NodeState.PENDING,
        groups=groups,
        created=now,
        revision=work.revise(),
    )
    fixed = {"key": bytes(key), "name": name, "number": number, "created": now}
    work.connection.execute(insert(NODE).values({**store_rows.node_values(node), **fixed}))
    return node


def _place(work: Work, name: str, now: float) -> int:
    """A node number, held by the name from now on: the one that is reserved for it, or a free one.

    A number that was a removed node's stays reserved for its name until the last certificate ends.
    """
    connection = work.connection
    connection.execute(delete(PLACE).where(PLACE.c.until.is_not(None), PLACE.c.until < now))
    own = connection.execute(
        update(PLACE).where(PLACE.c.name == name).values(until=None).returning(PLACE.c.number)
    ).scalar_one_or_none()
    if own is not None:
        return int(own)
    count, last = connection.execute(
        select(func.count(), func.coalesce(func.max(PLACE.c.number), 0)).select_from(PLACE)
    ).one()
    # Mostly there is no gap, and to look for one takes as long as there are nodes.
    numbers = select(PLACE.c.number).order_by(PLACE.c.number)
    taken = range(1, last + 1) if count == last else connection.execute(numbers).scalars().all()
    try:
        number = lowest_free(taken, work.settings.range4)
    except AddressError as error:
        raise Refused(Refusal.FULL, str(error)) from None
    connection.execute(insert(PLACE).values(number=number, name=name, until=None))
    return number


# --- Issuing ---


def issue_if_due(
    work: Work, node: NodeRecord, now: float, issue: Issue, force: bool = False
) -> NodeRecord:
    """The node with a certificate: the one that it has, where that is fresh and says the same."""
    if not force and node.certificate is not None:
        leaf = _leaf(node.certificate)
        fresh = now < leaf.not_before + _FRESH * (leaf.not_after - leaf.not_before)
        if fresh and _says(leaf, node):
            return node
    return _issue(work, node, now, issue)


def _issue(work: Work, node: NodeRecord, now: float, issue: Issue) -> NodeRecord:
    wanted = replace(
        node,
        state=NodeState.ACTIVE,
        generation=work.next_generation(node.name),
        certificate=None,
        expires=now + work.settings.validity,
    )
    der = issue(wanted)
    leaf = _leaf(der)
    right = (
        _says(leaf, wanted)
        and (leaf.name, leaf.key) == (wanted.name, wanted.key)
        and leaf.rights.network == work.settings.id
        and leaf.rights.generation == wanted.generation
        and leaf.not_after > now
    )
    if not right:
        raise WrongCertificate(f"the certificate that was made for {node.name} says something else")
    connection = work.connection
    connection.execute(delete(CERTIFICATE).where(CERTIFICATE.c.not_after < now))
    connection.execute(insert(CERTIFICATE).values(_certificate_values(leaf, wanted)))
    return work.save(replace(wanted, certificate=der, expires=leaf.not_after))


def _certificate_values(leaf: Leaf, node: NodeRecord) -> dict[str, Any]:
    return {
        "issuer": leaf.issuer_id,
        "serial": serial_text(leaf.certificate.serial_number),
        "name": node.name,
        "key": bytes(node.key),
        "generation": node.generation,
        "not_after": leaf.not_after,
    }


def _leaf(der: bytes) -> Leaf:
    try:
        return read_leaf(der)
    except CredentialError as error:
        raise WrongCertificate(f"a certificate that was made is not to the profile: {error}") from (
            None
        )


def _says(leaf: Leaf, node: NodeRecord) -> bool:
    """Whether it grants what the record has, no more and no less."""
    return (
        set(leaf.addresses) == set(node.addresses)
        and set(leaf.rights.groups) == set(node.groups)
        and set(leaf.rights.prefixes) == set(node.routes)
    )


# --- What comes later ---


def renew(
    work: Work, name: str, key: PublicKey, now: float, issue: Issue, force: bool
) -> NodeRecord:
    """The next certificate of a name, for the key that has it."""
    node = by_key(work, key)
    if node is not None and node.name == name:
        _check_not_removed(node)
    holder = known(work, name)
    if holder.key != key:
        raise NotThisKey(name)
    if holder.state is NodeState.PENDING:
        raise Refused(Refusal.PENDING, f"{name} waits for approval")
    return issue_if_due(work, holder, now, issue, force)


def approve(work: Work, node: NodeRecord, now: float, issue: Issue) -> NodeRecord:
    """Issue to a node that waits."""
    return node if node.state is NodeState.ACTIVE else issue_if_due(work, node, now, issue)


def remove(work: Work, node: NodeRecord, now: float) -> NodeRecord:
    """Take a node out for good, and revoke what it was given."""
    connection = work.connection
    until = revoke_node(work, node, now)
    mine = PLACE.c.name == node.name
    if until is None:
        connection.execute(delete(PLACE).where(mine))
    else:
        connection.execute(update(PLACE).where(mine).values(until=until))
    return work.save(replace(node, state=NodeState.REMOVED))
