"""Who is no longer let in: CRLs of the CAs that are trusted, and an operator's own deny lists.

A CRL counts for what the key that signed it has issued, and for nobody else's: it revokes serial
numbers, and in an extension of ours keys, and names up to a generation (a thief who renewed has
another serial number). A deny list is the operator's word, and counts for everything here, keys of
the configuration included. docs/certificates.md has both formats.
"""

from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from wgpy.identity.anchors import CertificateAuthority
from wgpy.identity.claims import Claims, CredentialError, Kind
from wgpy.identity.crl import RevocationList, read_crl
from wgpy.identity.denylist import Denied, read_deny_list
from wgpy.identity.x509der import MAX_CRL_FILE, read_file
from wgpy.keys import PublicKey

DENY_ENDING: Final = ".deny"
_CRL_ENDINGS: Final = (".crl", ".pem", ".der")
# Files in all directories together: one or two for each CA.
MAX_FILES: Final = 256


@dataclass(frozen=True, slots=True)
class Revocations:
    """What was read, and stays as it is until all is read again."""

    crls: dict[bytes, RevocationList] = field(default_factory=dict)  # by the hash of the CA's key
    denied: Denied = field(default_factory=Denied)
    strict: bool = False
    # What an operator should know of the files: one line each.
    remarks: tuple[str, ...] = ()

    @classmethod
    def load(
        cls,
        paths: Iterable[str],
        known: Iterable[CertificateAuthority],
        numbers: MutableMapping[bytes, int],
        *,
        strict: bool = False,
    ) -> Self:
        """Read files, and the .deny, .crl, .pem and .der files of directories.

        `known` are the CAs whose CRLs are of interest. `numbers` has the greatest cRLNumber that
        was ever seen of each, by the hash of its key: an older list is refused, and a newer one is
        recorded once everything was read. Raises OSError, CredentialError with the path, and
        whatever `numbers` raises when it cannot record.
        """
        authorities = tuple(known)
        crls: dict[bytes, RevocationList] = {}
        denied = Denied()
        remarks: list[str] = []
        for path in _files(paths):
            try:
                data = read_file(path, MAX_CRL_FILE)
                if path.suffix == DENY_ENDING:
                    denied = denied.joined(read_deny_list(data))
                    continue
                for found in read_crl(data, authorities):
                    if found is None:
                        remarks.append(f"{path}: this CRL is of a CA that is not known here")
                    elif _is_newer(found, crls.get(found.issuer)):
                        crls[found.issuer] = found
            except CredentialError as error:
                raise CredentialError(error.reason, f"{path}: {error}") from None
        for issuer, found in crls.items():
            last = numbers.get(issuer, -1)
            if found.number < last:
                raise CredentialError(
                    "crl-number",
                    f"the CRL of {issuer.hex()[:16]} has the number {found.number}, and {last} "
                    "was seen before; bring the newer one",
                )
        for issuer, found in crls.items():
            if numbers.get(issuer) != found.number:
                numbers[issuer] = found.number
        return cls(crls, denied, strict, tuple(remarks))

    def check(self, claims: Claims, wall: float) -> None:
        """Raise CredentialError for what is revoked or denied, or cannot be known to be not."""
        self.check_key(claims.key)
        self.denied.check(claims)
        if not (self.crls or self.strict) or claims.kind is not Kind.CERTIFICATE:
            return
        pairs = ((claims.issuer, claims.serial), *claims.chain)
        for place, (issuer, serial) in enumerate(pairs):
            crl = self.crls.get(issuer)
            if crl is None:
                if self.strict:
                    raise CredentialError("crl-missing", "there is no CRL of a CA above it")
                continue
            if self.strict and wall > crl.next_update:
                raise CredentialError("crl-stale", "the CRL of a CA above it is out of date")
            if int(serial, 16) in crl.serials:
                raise CredentialError(
                    "revoked" if place == 0 else "ca-revoked",
                    "its CA has revoked it" if place == 0 else "a CA above it was revoked",
                )
            crl.denied.check_key(claims.key)
            crl.denied.check(claims)

    def check_key(self, key: PublicKey) -> None:
        """Raise CredentialError for a key that is denied whatever it shows."""
        self.denied.check_key(key)

    def stale(self, wall: float) -> tuple[str, ...]:
        """One line for each CRL that is out of date."""
        return tuple(
            f"the CRL of {issuer.hex()[:16]} is out of date; fetch the next one"
            for issuer, crl in self.crls.items()
            if wall > crl.next_update
        )

    def stale_at(self, wall: float) -> float | None:
        """When the next list that refuses by being stale will be so; None for never."""
        if not self.strict:
            return None
        return min(
            (x.next_update for x in self.crls.values() if x.next_update >= wall), default=None
        )


def _is_newer(found: RevocationList, other: RevocationList | None) -> bool:
    if other is None:
        return True
    return (found.number, found.this_update) > (other.number, other.this_update)


def _files(paths: Iterable[str]) -> Iterator[Path]:
    count = 0
    for text in paths:
        path = Path(text)
        found = [path]
        if path.is_dir():
            endings = (DENY_ENDING, *_CRL_ENDINGS)
            found = sorted(x for x in path.iterdir() if x.suffix in endings and x.is_file())
        count += len(found)
        if count > MAX_FILES:
            raise CredentialError("too-many", f"{path}: there are over {MAX_FILES} files")
        yield from found
