"""The verifier's ledger: who is a name now, which addresses are taken, and what is spent.

All of it takes effect when a handshake is confirmed and not before, outlives sessions and restarts,
and is kept until the credential's last second: a name's older credentials stay refused, and its
addresses stay its own, whether it is here or not.
"""

import sqlite3
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from wgpy.identity.claims import Claims, CredentialError
from wgpy.identity.ledger import LedgerError, Schema, open_ledger, transaction
from wgpy.ip import Prefix, address_text
from wgpy.keys import PublicKey, StrPath

# Names that one interface remembers: as many as a /16 has addresses.
MAX_NAMES: Final = 65_536
# Two for each.
MAX_ADDRESSES: Final = 2 * MAX_NAMES
# Tokens to enrol that are spent and not over yet.
MAX_SPENT: Final = 65_536
# Names whose latest claims are in memory, each about 1 KiB: more than one interface has peers.
MAX_REMEMBERED: Final = 16_384
# What is over is erased this much later: a clock that ran ahead for a while and was set back has
# not made the ledger forget who is who.
KEEP_SECONDS: Final = 30 * 86_400
# Forgetting is looked after once in as many changes; what is over counts for nothing before, too.
_SWEEP_EVERY: Final = 256

_SCHEMA: Final = Schema(
    "wgpA",
    1,
    (
        # `until` is the last second of any credential that the name was confirmed with.
        """CREATE TABLE name (
            name TEXT PRIMARY KEY, issuer BLOB NOT NULL, root BLOB NOT NULL,
            generation INTEGER NOT NULL, key BLOB NOT NULL, until REAL NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX name_until ON name (until)",
        """CREATE TABLE address (
            address BLOB PRIMARY KEY, name TEXT NOT NULL, until REAL NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX address_until ON address (until)",
        """CREATE TABLE spent (
            issuer BLOB NOT NULL, jti TEXT NOT NULL, key BLOB NOT NULL, until REAL NOT NULL,
            PRIMARY KEY (issuer, jti)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX spent_until ON spent (until)",
        # cRLNumber has up to 20 octets (RFC 5280 section 5.2.3): kept as hexadecimal text.
        """CREATE TABLE crl (issuer BLOB PRIMARY KEY, number TEXT NOT NULL)
        STRICT, WITHOUT ROWID""",
    ),
)

# (old, new): a name may move from the first issuer, or anchor, to the second. SHA-256 of SPKI each.
Rotations = frozenset[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Holder:
    """Who a name is now: the key of its latest confirmed credential."""

    issuer: bytes
    # The anchor above the issuer, or the issuer itself.
    root: bytes
    generation: int
    key: PublicKey
    until: float


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a confirmation changed, for the log. `changed` is False when all was known already."""

    claims: Claims
    changed: bool
    # Another key had the name until now.
    former_key: PublicKey | None = None
    # Another issuer had the name until now, from which it may move.
    former_issuer: bytes | None = None


class Admissions:
    """One interface's ledger. Not for two threads at once.

    Every method raises LedgerError where the file cannot be read or written; see ledger.py.
    """

    def __init__(self, path: StrPath) -> None:
        """Open the ledger at `path`, making it where there is none. Raises LedgerError."""
        self._connection = open_ledger(path, _SCHEMA)
        # Rises when an answer of `check` may have become another.
        self.revision = 0
        # Rises when a name has become another key.
        self.takeovers = 0
        # What was confirmed last of each name, and with its addresses: a rekey reads no disk.
        self._effective: dict[str, tuple[Claims, bool]] = {}
        self._changes = 0
        self._counts: dict[str, int] = {}
        self._count()
        self.crl_numbers: MutableMapping[bytes, int] = _CrlNumbers(self._connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _row(self, query: str, values: tuple[object, ...]) -> Any:
        try:
            return self._connection.execute(query, values).fetchone()
        except sqlite3.Error as error:
            raise LedgerError(str(error)) from None

    def holder(self, name: str, wall: float) -> Holder | None:
        """Who `name` is at `wall`; None for a name that nobody holds."""
        row = self._row(
            "SELECT issuer, root, generation, key, until FROM name WHERE name = ? AND until > ?",
            (name, wall),
        )
        return None if row is None else Holder(row[0], row[1], row[2], PublicKey(row[3]), row[4])

    def reserved(self, address: Prefix, wall: float) -> str | None:
        """The name that a whole address is reserved for at `wall`."""
        row = self._row(
            "SELECT name FROM address WHERE address = ? AND until > ?", (address.address, wall)
        )
        return None if row is None else str(row[0])

    def check(
        self, claims: Claims, wall: float, rotations: Rotations, *, reserve: bool = True
    ) -> Holder | None:
        """Whether these claims may take effect at `wall`; returns who has the name until now.

        Raises CredentialError. `reserve` False leaves addresses out.
        """
        holder = self.holder(claims.name, wall)
        if holder is not None:
            _check_holder(holder, claims, rotations)
        if reserve:
            for address in claims.addresses:
                other = self.reserved(address, wall)
                if other is not None and other != claims.name:
                    raise CredentialError(
                        "address-reserved",
                        f"{address_text(address.address)} is reserved for {other}",
                    )
        return holder

    def took_effect(self, claims: Claims, *, reserve: bool = True) -> bool:
        """Whether these very claims, which are not over, were the last that were confirmed of
        their name: then `check` has nothing against them, and need not read the disk."""
        return self.in_force(claims, reserve=reserve) is not None

    def in_force(self, claims: Claims, *, reserve: bool = True) -> Claims | None:
        """The object with which the same claims took effect, if they did; else None."""
        effective, reserved = self._effective.get(claims.name, (None, False))
        if reserved is not reserve or (effective is not claims and effective != claims):
            return None
        return effective

    def confirm(
        self, claims: Claims, wall: float, rotations: Rotations, *, reserve: bool = True
    ) -> Confirmation:
        """Let the claims, which are not over, take effect: on disk when this returns.

        A credential that is in effect already writes nothing. Raises CredentialError as `check`
        does, or when the ledger is full; LedgerError when it cannot be written.
        """
        (done,) = self.confirm_all([(claims, reserve)], wall, rotations)
        if isinstance(done, CredentialError):
            raise done
        return done

    def confirm_all(
        self, wanted: Sequence[tuple[Claims, bool]], wall: float, rotations: Rotations
    ) -> list[Confirmation | CredentialError]:
        """The same for several, one after the other and in one transaction: the disk is waited for
        once. Each is a pair of the claims and whether to reserve their addresses.

        Raises LedgerError, and then none has taken effect.
        """
        results: dict[int, Confirmation | CredentialError] = {}
        for number, (claims, reserve) in enumerate(wanted):
            if self._is_in_effect(claims, wall, reserve):
                self._remember(claims, reserve)
                results[number] = Confirmation(claims, changed=False)
        if len(results) < len(wanted):
            with transaction(self._connection):
                self._sweep(wall)
                for number, (claims, reserve) in enumerate(wanted):
                    if number not in results:
                        results[number] = self._take_effect(claims, wall, rotations, reserve)
        for number, (claims, reserve) in enumerate(wanted):
            done = results[number]
            if isinstance(done, Confirmation) and done.changed:
                self._remember(claims, reserve)
                self.revision += 1
                self.takeovers += done.former_key is not None
        return [results[number] for number in range(len(wanted))]

    def _take_effect(
        self, claims: Claims, wall: float, rotations: Rotations, reserve: bool
    ) -> Confirmation | CredentialError:
        """One of a transaction: checked as a whole before any of it is written."""
        try:
            former = self.check(claims, wall, rotations, reserve=reserve)
            self._make_room(claims, former, reserve)
        except CredentialError as error:
            return error
        self._write(claims, former, reserve)
        if former is None:
            return Confirmation(claims, changed=True)
        return Confirmation(
            claims,
            changed=True,
            former_key=former.key if former.key != claims.key else None,
            former_issuer=former.issuer if former.issuer != claims.issuer else None,
        )

    def _is_in_effect(self, claims: Claims, wall: float, reserve: bool) -> bool:
        return self.took_effect(claims, reserve=reserve) or self._in_effect(claims, wall, reserve)

    def _remember(self, claims: Claims, reserve: bool) -> None:
        self._effective.pop(claims.name, None)
        self._effective[claims.name] = (claims, reserve)
        if len(self._effective) > MAX_REMEMBERED:
            del self._effective[next(iter(self._effective))]

    def _in_effect(self, claims: Claims, wall: float, reserve: bool) -> bool:
        holder = self.holder(claims.name, wall)
        if holder is None or holder.until < claims.not_after:
            return False
        mine = (holder.issuer, holder.generation, holder.key)
        if mine != (claims.issuer, claims.generation, claims.key):
            return False
        return not reserve or all(self._holds(claims, x) for x in claims.addresses)

    def _holds(self, claims: Claims, address: Prefix) -> bool:
        row = self._row("SELECT name, until FROM address WHERE address = ?", (address.address,))
        return row is not None and row[0] == claims.name and row[1] >= claims.not_after

    def _make_room(self, claims: Claims, former: Holder | None, reserve: bool) -> None:
        if reserve:
            self._room("address", len(claims.addresses), MAX_ADDRESSES)
        if former is None:
            self._room("name", 1, MAX_NAMES)

    def _write(self, claims: Claims, former: Holder | None, reserve: bool) -> None:
        # An older credential with a later end must not come back when the newer one is over.
        until = max(claims.not_after, former.until if former is not None else 0.0)
        self._connection.execute(
            "INSERT OR REPLACE INTO name VALUES (?, ?, ?, ?, ?, ?)",
            (
                claims.name,
                claims.issuer,
                root(claims),
                claims.generation,
                bytes(claims.key),
                until,
            ),
        )
        if not reserve:
            return
        for address in claims.addresses:
            self._connection.execute(
                "INSERT INTO address VALUES (?1, ?2, ?3) ON CONFLICT (address) DO UPDATE SET "
                "until = CASE WHEN name = ?2 THEN max(until, ?3) ELSE ?3 END, name = ?2",
                (address.address, claims.name, claims.not_after),
            )

    def check_current(self, claims: Claims, wall: float) -> None:
        """Raise CredentialError if another key has become the name since these took effect."""
        holder = self.holder(claims.name, wall)
        if holder is not None and holder.key != claims.key:
            raise CredentialError(
                "superseded", f"{claims.name} is another key now, of generation {holder.generation}"
            )

    def spend(self, issuer: bytes, jti: str, key: PublicKey, until: float, wall: float) -> bool:
        """Spend a token to enrol for `key`; whether it is spent just now.

        False when this key spent it before: it may ask again. Raises CredentialError when another
        key did, or when the ledger is full.
        """
        with transaction(self._connection):
            if self._spent(issuer, jti, key):
                return False
            self._sweep(wall)
            self._room("spent", 1, MAX_SPENT)
            self._connection.execute(
                "INSERT INTO spent VALUES (?, ?, ?, ?)", (issuer, jti, bytes(key), until)
            )
        return True

    def check_unspent(self, issuer: bytes, jti: str, key: PublicKey) -> None:
        """Raise CredentialError if another key has spent this token; changes nothing."""
        self._spent(issuer, jti, key)

    def _spent(self, issuer: bytes, jti: str, key: PublicKey) -> bool:
        row = self._row("SELECT key FROM spent WHERE issuer = ? AND jti = ?", (issuer, jti))
        if row is None:
            return False
        if row[0] != bytes(key):
            raise CredentialError("spent", "another key has used this token already")
        return True

    def _sweep(self, wall: float) -> None:
        """Now and then, erase what has long been over."""
        if self._changes % _SWEEP_EVERY == 0:
            for table in self._counts:
                self._connection.execute(
                    f"DELETE FROM {table} WHERE until < ?", (wall - KEEP_SECONDS,)
                )
            self._count()
        self._changes += 1

    def _count(self) -> None:
        for table in ("name", "address", "spent"):
            (self._counts[table],) = self._connection.execute(
                f"SELECT count(*) FROM {table}"
            ).fetchone()

    def _room(self, table: str, more: int, most: int) -> None:
        """Count rows that come to a table, or refuse them. Counts err on the side of too many:
        what replaces a row is counted as well, until the next sweep.
        """
        if self._counts[table] + more > most:
            self._count()
        if self._counts[table] + more > most:
            raise CredentialError("ledger-full", f"the ledger has {most} entries, and no more fit")
        self._counts[table] += more


def root(claims: Claims) -> bytes:
    """SHA-256 of the SPKI of the anchor that the claims go back to; of a token, of its issuer."""
    return claims.chain[-1][0] if claims.chain else claims.issuer


def _check_holder(holder: Holder, claims: Claims, rotations: Rotations) -> None:
    """Whether `claims` may follow on the holder of their name."""
    if holder.issuer != claims.issuer:
        # Generations of two issuers do not compare: only a rotation lets a name move, and one way.
        pairs = {(holder.issuer, claims.issuer), (holder.root, root(claims))}
        if not pairs & rotations:
            raise CredentialError("other-issuer", f"another issuer's {claims.name} is known here")
    elif claims.generation < holder.generation:
        raise CredentialError(
            "old-generation",
            f"generation {claims.generation} of {claims.name} has been followed by "
            f"{holder.generation}",
        )
    elif claims.generation == holder.generation and claims.key != holder.key:
        raise CredentialError(
            "key-conflict",
            f"generation {claims.generation} of {claims.name} was shown with another key",
        )


class _CrlNumbers(MutableMapping[bytes, int]):
    """The greatest cRLNumber seen of each issuer (SHA-256 of its SPKI). Each change is on disk."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __getitem__(self, issuer: bytes) -> int:
        try:
            row = self._connection.execute(
                "SELECT number FROM crl WHERE issuer = ?", (issuer,)
            ).fetchone()
        except sqlite3.Error as error:
            raise LedgerError(str(error)) from None
        if row is None:
            raise KeyError(issuer)
        return int(row[0], 16)

    def __setitem__(self, issuer: bytes, number: int) -> None:
        with transaction(self._connection):
            self._connection.execute(
                "INSERT OR REPLACE INTO crl VALUES (?, ?)", (issuer, f"{number:x}")
            )

    def __delitem__(self, issuer: bytes) -> None:
        with transaction(self._connection):
            done = self._connection.execute("DELETE FROM crl WHERE issuer = ?", (issuer,))
        if done.rowcount == 0:
            raise KeyError(issuer)

    def __iter__(self) -> Iterator[bytes]:
        return iter([row[0] for row in self._connection.execute("SELECT issuer FROM crl")])

    def __len__(self) -> int:
        (count,) = self._connection.execute("SELECT count(*) FROM crl").fetchone()
        return int(count)
