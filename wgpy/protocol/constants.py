"""The numbers of the WireGuard protocol (whitepaper sections 5 and 6) and of this implementation.

Times are in seconds, lengths in bytes.
"""

from typing import Final

# --- Names that enter the hashes (whitepaper 5.4) ---

CONSTRUCTION: Final = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER: Final = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
# The prologue of wgpy's own handshake, in the place of IDENTIFIER (docs/protocol.md).
CREDENTIAL_PROLOGUE: Final = b"wgpy v1 credential handshake"
LABEL_MAC1: Final = b"mac1----"
LABEL_COOKIE: Final = b"cookie--"

# --- Message types and lengths (whitepaper 5.4.2 to 5.4.7) ---

TYPE_INITIATION: Final = 1
TYPE_RESPONSE: Final = 2
TYPE_COOKIE_REPLY: Final = 3
TYPE_TRANSPORT: Final = 4

# wgpy's own (docs/protocol.md).
TYPE_CREDENTIAL_INITIATION: Final = 0x10
TYPE_CREDENTIAL_RESPONSE: Final = 0x11
TYPE_PROBE: Final = 0x12
TYPE_PROBE_REPLY: Final = 0x13

KEY_LENGTH: Final = 32
TAG_LENGTH: Final = 16
MAC_LENGTH: Final = 16
TIMESTAMP_LENGTH: Final = 12
COOKIE_NONCE_LENGTH: Final = 24

INITIATION_LENGTH: Final = 148
RESPONSE_LENGTH: Final = 92
COOKIE_REPLY_LENGTH: Final = 64
# One length for every credential, so that sizes tell nothing; IPv6 carries it unfragmented
# everywhere, with a relay's header too.
CREDENTIAL_INITIATION_LENGTH: Final = 1200
# Without a payload, and never longer than what it answers.
CREDENTIAL_RESPONSE_MIN_LENGTH: Final = 92
CREDENTIAL_RESPONSE_MAX_LENGTH: Final = CREDENTIAL_INITIATION_LENGTH
# A reply has one length, which is the least of a probe, so it is never longer than what it answers.
# The greatest is what a path of 9,000 bytes carries over IPv4: probes find out what passes.
PROBE_MIN_LENGTH: Final = 96
PROBE_MAX_LENGTH: Final = 8972
PROBE_REPLY_LENGTH: Final = PROBE_MIN_LENGTH
# Behind the type of both stands a path identifier of the receiver.
PATH_ID_OFFSET: Final = 4
PATH_ID_LENGTH: Final = 8
TRANSPORT_HEADER_LENGTH: Final = 16
TRANSPORT_OVERHEAD: Final = TRANSPORT_HEADER_LENGTH + TAG_LENGTH
KEEPALIVE_LENGTH: Final = TRANSPORT_OVERHEAD
PADDING_MULTIPLE: Final = 16

INITIATION_MAC1_OFFSET: Final = INITIATION_LENGTH - 2 * MAC_LENGTH
RESPONSE_MAC1_OFFSET: Final = RESPONSE_LENGTH - 2 * MAC_LENGTH

# A UDP payload over IPv4 holds 65,507 bytes; the transport header and tag take 32 of them.
MAX_INNER_LENGTH: Final = 65_507 - TRANSPORT_OVERHEAD

# --- Timers and limits of the protocol (whitepaper 6.1) ---

REKEY_AFTER_MESSAGES: Final = 1 << 60
REJECT_AFTER_MESSAGES: Final = (1 << 64) - (1 << 13) - 1
REKEY_AFTER_TIME: Final = 120.0
REJECT_AFTER_TIME: Final = 180.0
REKEY_ATTEMPT_TIME: Final = 90.0
REKEY_TIMEOUT: Final = 5.0
KEEPALIVE_TIMEOUT: Final = 10.0
COOKIE_LIFETIME: Final = 120.0

# --- Derived from them, as the kernel and wireguard-go do ---

# Random delay added to each retry, so that two peers that start together do not stay in step.
MAX_JITTER: Final = 0.333
# A retry every REKEY_TIMEOUT for REKEY_ATTEMPT_TIME: the first send and 19 more, then give up.
MAX_HANDSHAKE_ATTEMPTS: Final = int(REKEY_ATTEMPT_TIME / REKEY_TIMEOUT)
# That many initiations in all: the kernel and wireguard-go count retries and stop above 18.
MAX_INITIATIONS: Final = MAX_HANDSHAKE_ATTEMPTS + 2
# The initiator renews a key that only receives when it would be rejected before an answer came.
REKEY_AFTER_TIME_RECEIVING: Final = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT
# Data sent and nothing authenticated heard for this long: shake hands anew.
NEW_HANDSHAKE_TIMEOUT: Final = KEEPALIVE_TIMEOUT + REKEY_TIMEOUT
# After this long with no new key, every key and ephemeral secret is erased.
ZERO_KEYS_AFTER: Final = 3 * REJECT_AFTER_TIME
# An answer may be under way when the cookie's secret turns; stop using a cookie this much earlier.
COOKIE_LATENCY: Final = 5.0
# One initiation of a peer is consumed in this time at the most.
MIN_INITIATION_INTERVAL: Final = 0.020

# --- Limits of this implementation ---

# Packets that wait for a handshake, per peer; the oldest is dropped first. The kernel's number.
MAX_STAGED_PACKETS: Final = 128
# Control datagrams that wait for Python, as in the kernel; an eighth of it means under load.
CONTROL_QUEUE_LENGTH: Final = 4096
UNDER_LOAD_DEPTH: Final = CONTROL_QUEUE_LENGTH // 8
# Load is believed for this long after it was last seen, so that it does not flicker.
UNDER_LOAD_STICKY: Final = 1.0
# The kernel's and wireguard-go's numbers: an address may start 20 handshakes a second, 5 at once.
SOURCE_PER_SECOND: Final = 20
SOURCE_AT_ONCE: Final = 5
# How many 0x10 without the mac2 of a cookie are worth the control plane's attention, a second. The
# data path drops the others before they cost anything. Those of strangers cost 0.1 ms of Python
# each, and wake it beside the packets of everybody: at 1,000 a second of a flood a tunnel on two
# processors had 0.42 of its throughput left, at 200 it had 0.83. They suffice for twice as many
# newcomers as signatures are verified for.
STRANGERS_PER_SECOND: Final = 200
STRANGERS_AT_ONCE: Final = 32
# Of those that come from where a peer is: 10,000 peers renew their keys at 83 a second.
PEERS_PER_SECOND: Final = 100
# RFC 6479 window: one 64-bit word of the bitmap is kept free for the shift.
REPLAY_WINDOW_BITS: Final = 8192
REPLAY_WINDOW_USABLE: Final = REPLAY_WINDOW_BITS - 64
