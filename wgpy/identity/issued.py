"""An issuer's ledger: what it has issued, revoked and reserved, beside the CA that it belongs to.

Everything that must never happen twice is decided here, in one transaction: a generation of a name,
an address for two names, a CRL's number. What is in the ledger was issued, whether or not whoever
asked lived to see it.
"""

import sqlite3
from dataclasses import dataclass
from enum import Enum
from typing import Final

from wgpy.identity.denylist import Denied
from wgpy.identity.ledger import LedgerError, Schema, open_ledger, transaction
from wgpy.identity.profile import MAX_GENERATION
from wgpy.ip import Prefix, address_text
from wgpy.keys import PublicKey, StrPath

# How long a certificate is kept after its end: for `renew`, and for whoever looks back.
KEEP_SECONDS: Final = 90 * 86_400.0

_SCHEMA: Final = Schema(
    "wgpC",
    1,
    (
        # `name` of a CA's certificate is its common name, and `generation` is 0.
        """CREATE TABLE certificate (
            serial TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, key BLOB NOT NULL,
            generation INTEGER NOT NULL, not_before REAL NOT NULL, not_after REAL NOT NULL,
            der BLOB NOT NULL, revoked REAL
        ) STRICT""",
        "CREATE INDEX certificate_name ON certificate (name, generation)",
        "CREATE INDEX certificate_key ON certificate (key)",
        # Never goes back, and is never forgotten.
        "CREATE TABLE name (name TEXT PRIMARY KEY, generation INTEGER NOT NULL) STRICT",
        "CREATE TABLE address (address BLOB PRIMARY KEY, name TEXT NOT NULL, until REAL NOT NULL)"
        " STRICT",
        "CREATE TABLE denied_key (key BLOB PRIMARY KEY, at REAL NOT NULL) STRICT",
        "CREATE TABLE denied_name (name TEXT PRIMARY KEY, generation INTEGER NOT NULL) STRICT",
        "CREATE TABLE crl (number INTEGER NOT NULL) STRICT",
        "INSERT INTO crl VALUES (0)",
    ),
)


class IssuedKind(Enum):
    """What a certificate in the ledger is for."""

    PEER = "peer"
    CA = "ca"


@dataclass(frozen=True, slots=True)
class Issued:
    """One certificate in the ledger. Times are seconds of the wall clock since 1970."""

    serial: str
    kind: IssuedKind
    name: str
    key: bytes  # a peer's X25519 key, or the SHA-256 of a CA's
    generation: int
    not_before: float
    not_after: float
    der: bytes
    revoked: float | None = None


_COLUMNS: Final = "serial, kind, name, key, generation, not_before, not_after, der, revoked"


class IssuedLedger:
    """The file. Methods raise LedgerError; those that change something want a `transaction`."""

    def __init__(self, path: StrPath) -> None:
        """Open the ledger, making it where there is none."""
        self.connection = open_ledger(path, _SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    # --- Issuing ---

    def next_generation(self, name: str) -> int:
        """The next generation of a name, taken: nobody is given it again."""
        row = self.connection.execute(
            "INSERT INTO name VALUES (?, 1) ON CONFLICT (name)"
            " DO UPDATE SET generation = generation + 1 RETURNING generation",
            (name,),
        ).fetchone()
        if row[0] > MAX_GENERATION:
            raise LedgerError(f"{name} has no generation left")
        return int(row[0])

    def reserve(self, address: Prefix, name: str, until: float, now: float) -> None:
        """Keep an address for a name until then. Raises LedgerError where another has it."""
        row = self.connection.execute(
            "SELECT name, until FROM address WHERE address = ?", (address.address,)
        ).fetchone()
        if row is not None and row[1] >= now:
            if row[0] != name:
                raise LedgerError(
                    f"{address_text(address.address)} is reserved for {row[0]} until its "
                    "certificate ends; choose another address"
                )
            until = max(until, row[1])
        self.connection.execute(
            "INSERT OR REPLACE INTO address VALUES (?, ?, ?)", (address.address, name, until)
        )

    def add(self, issued: Issued, now: float) -> None:
        """Write down what is issued, and forget what ended long ago."""
        self.connection.execute(
            "DELETE FROM certificate WHERE not_after < ?", (now - KEEP_SECONDS,)
        )
        self.connection.execute("DELETE FROM address WHERE until < ?", (now,))
        self.connection.execute(
            f"INSERT INTO certificate ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                issued.serial,
                issued.kind.value,
                issued.name,
                issued.key,
                issued.generation,
                issued.not_before,
                issued.not_after,
                issued.der,
                issued.revoked,
            ),
        )

    # --- Looking ---

    def all(self) -> list[Issued]:
        """Everything that is kept, the newest last."""
        return self._select("ORDER BY not_before, name, generation", ())

    def by_serial(self, serial: str) -> Issued | None:
        """The certificate with this serial number."""
        return next(iter(self._select("WHERE serial = ?", (serial,))), None)

    def by_name(self, name: str) -> list[Issued]:
        """A peer's certificates, the latest generation first."""
        return self._select("WHERE name = ? AND kind = 'peer' ORDER BY generation DESC", (name,))

    def by_key(self, key: PublicKey) -> list[Issued]:
        """The certificates of a key, the newest first."""
        return self._select("WHERE key = ? ORDER BY not_before DESC", (bytes(key),))

    def _select(self, rest: str, values: tuple[object, ...]) -> list[Issued]:
        try:
            rows = self.connection.execute(f"SELECT {_COLUMNS} FROM certificate {rest}", values)
            return [Issued(row[0], IssuedKind(row[1]), *row[2:]) for row in rows]
        except sqlite3.Error as error:
            raise LedgerError(str(error)) from None

    # --- Revoking ---

    def revoke(self, serial: str, now: float) -> None:
        """Revoke a serial number; one that is revoked already stays as it is."""
        self.connection.execute(
            "UPDATE certificate SET revoked = ? WHERE serial = ? AND revoked IS NULL", (now, serial)
        )

    def deny_key(self, key: PublicKey, now: float) -> None:
        """Deny a key for good."""
        self.connection.execute("INSERT OR IGNORE INTO denied_key VALUES (?, ?)", (bytes(key), now))

    def deny_name(self, name: str) -> int:
        """Deny a name up to the generation that it has; returns that."""
        row = self.connection.execute(
            "SELECT generation FROM name WHERE name = ?", (name,)
        ).fetchone()
        if row is None:
            raise LedgerError(f"{name} was never issued a certificate here")
        self.connection.execute("INSERT OR REPLACE INTO denied_name VALUES (?, ?)", (name, row[0]))
        return int(row[0])

    def is_denied(self, key: PublicKey) -> bool:
        """Whether the key is denied."""
        return (
            self.connection.execute(
                "SELECT 1 FROM denied_key WHERE key = ?", (bytes(key),)
            ).fetchone()
            is not None
        )

    def revoked(self, now: float) -> list[tuple[str, float]]:
        """Serial numbers and times of what is revoked and has not ended by itself."""
        return [
            (row[0], row[1])
            for row in self.connection.execute(
                "SELECT serial, revoked FROM certificate"
                " WHERE revoked IS NOT NULL AND not_after >= ? ORDER BY serial",
                (now,),
            )
        ]

    def denied(self) -> Denied:
        """Keys and names that are denied."""
        keys = self.connection.execute("SELECT key FROM denied_key").fetchall()
        names = self.connection.execute("SELECT name, generation FROM denied_name").fetchall()
        return Denied(
            frozenset(PublicKey(row[0]) for row in keys),
            frozenset(),
            {(row[0], None): row[1] for row in names},
        )

    def next_crl_number(self) -> int:
        """The next CRL's number, taken."""
        row = self.connection.execute(
            "UPDATE crl SET number = number + 1 RETURNING number"
        ).fetchone()
        return int(row[0])


__all__ = ["Issued", "IssuedKind", "IssuedLedger", "transaction"]
