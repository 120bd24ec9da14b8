"""The words that credentials and settings are made of: names, groups, fingerprints, networks.

Each is checked in the same way wherever it comes from: a configuration, a request to the daemon,
a certificate or a token.
"""

import re
from typing import Final

# An identifier of a network, in bytes: 128 random bits never meet.
NETWORK_ID_LENGTH: Final = 16

# RFC 1035 section 2.3.1, in lower case, and a digit may come first (RFC 1123 section 2.1).
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
# RFC 1035 section 2.3.4: 255 bytes on the wire are 253 characters.
_MAX_DNS_NAME: Final = 253
_GROUP: Final = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)
_NETWORK_ID: Final = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def is_dns_name(text: str) -> bool:
    """Whether it is a name that a credential can carry: lower-case letters, digits and hyphens."""
    return len(text) <= _MAX_DNS_NAME and _DNS_NAME.fullmatch(text) is not None


def is_group(text: str) -> bool:
    """Whether it can be the name of a group."""
    return _GROUP.fullmatch(text) is not None


def is_fingerprint(text: str) -> bool:
    """Whether it is a SHA-256 in lower-case hexadecimal."""
    return _FINGERPRINT.fullmatch(text) is not None


def parse_network_id(text: str) -> bytes:
    """The 16 bytes of a network's identifier, 32 hexadecimal digits. Raises ValueError."""
    if not _NETWORK_ID.fullmatch(text):
        raise ValueError("a network is 32 hexadecimal digits")
    return bytes.fromhex(text)
