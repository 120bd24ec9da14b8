"""The openssl command, and what tests let it make: a root, a leaf for an X25519 key, a signature.

Files are made in a directory of the test's: root.key and root.pem, peer.pem, and what goes into
them.
"""

import subprocess
from pathlib import Path

from tests.support.certificates import NETWORK
from tests.support.requirements import program
from wgpy.identity.ca_files import pem
from wgpy.identity.profile import PEER_PURPOSE, RIGHTS, Rights, encode_rights
from wgpy.identity.x509der import certificates_in
from wgpy.keys import PublicKey

# RFC 8410: an X25519 key in PEM is this and 32 bytes.
SPKI = bytes.fromhex("302a300506032b656e032100")


def openssl(*words: str | Path, stdin: str = "", ok: bool = True) -> str:
    """Run it; returns everything that it printed. It must succeed, or else must not."""
    done = subprocess.run(
        [program("openssl"), *map(str, words)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode == 0) == ok, done.stderr or done.stdout
    return done.stdout + done.stderr


def extension(rights: Rights) -> str:
    """Our extension as a line of openssl's configuration."""
    return f"{RIGHTS.dotted_string} = DER:{encode_rights(rights).hex(':')}"


ROOT_EXTENSIONS = f"""
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
nameConstraints = critical, permitted;DNS:mesh, permitted;IP:10.7.0.0/255.255.0.0, \
permitted;IP:fd07::/ffff:ffff:ffff:ffff::
{extension(Rights(NETWORK, 0, ("laptops",)))}
"""


def peer_extensions(name: str, *addresses: str) -> str:
    """Those of a leaf to the profile, in the group `laptops`."""
    alternatives = ", ".join([f"DNS:{name}", *(f"IP:{address}" for address in addresses)])
    return f"""
keyUsage = critical, keyAgreement
extendedKeyUsage = clientAuth, {PEER_PURPOSE.dotted_string}
subjectAltName = {alternatives}
authorityKeyIdentifier = keyid
{extension(Rights(NETWORK, 1, ("laptops",)))}
"""


def make_root(path: Path, extensions: str = ROOT_EXTENSIONS, *kind: str) -> Path:
    """A self-signed CA by openssl: root.key and root.pem."""
    (path / "root.cnf").write_text(f"[req]\ndistinguished_name = dn\n[dn]\n[ca]\n{extensions}")
    openssl(
        *("req", "-x509", "-newkey", *(kind or ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"))),
        *("-noenc", "-keyout", path / "root.key", "-out", path / "root.pem", "-days", "365"),
        *("-subj", "/CN=a root of openssl", "-config", path / "root.cnf", "-extensions", "ca"),
    )
    return path / "root.pem"


def make_leaf(path: Path, key: PublicKey, extensions: str, *more: str) -> bytes:
    """A leaf by `openssl x509 -req -force_pubkey`, in DER: the request is of any key."""
    (path / "peer.pub").write_bytes(pem(SPKI + bytes(key), "PUBLIC KEY"))
    (path / "peer.cnf").write_text(extensions)
    openssl(
        *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"),
        *("-keyout", path / "any.key", "-out", path / "peer.csr", "-subj", "/CN=a laptop"),
    )
    openssl(
        *("x509", "-req", "-in", path / "peer.csr", "-force_pubkey", path / "peer.pub"),
        *("-CA", path / "root.pem", "-CAkey", path / "root.key", "-CAcreateserial"),
        *("-days", "7", "-extfile", path / "peer.cnf", "-out", path / "peer.pem"),
        *more,
    )
    return certificates_in((path / "peer.pem").read_bytes())[0]


def sign_request(path: Path, request: Path, out: Path) -> None:
    """Let the root sign a CA's request, with every extension that it asks for."""
    (path / "aki.cnf").write_text("authorityKeyIdentifier = keyid\n")
    openssl(
        *("x509", "-req", "-in", request, "-copy_extensions", "copyall", "-days", "30"),
        *("-CA", path / "root.pem", "-CAkey", path / "root.key", "-CAcreateserial"),
        *("-extfile", path / "aki.cnf", "-out", out),
    )
