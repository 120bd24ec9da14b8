"""A fuzz target for both sides of the userspace API.

    python tests/fuzz/fuzz_uapi.py -max_total_time=30

Needs the `fuzz` extra (atheris). Arguments are libFuzzer's. The first byte chooses: a connection's
bytes into the server's framer, cut where the input says; an answer into the client; or the JSON of
one of our own keys into both. Only UapiError may be raised, and whatever was understood must come
back the same when it is written.
"""

import sys

import atheris

with atheris.instrument_imports(include=["wgpy"]):
    from wgpy.device.uapi import UapiError
    from wgpy.device.uapi_codec import (
        format_change,
        format_errno,
        format_state,
        parse_change,
        parse_state,
    )
    from wgpy.device.uapi_framing import Framer, SetRequest


OWN_KEYS = (
    "wgpy_authority",
    "wgpy_identity",
    "wgpy_credential",
    "wgpy_claims",
    "wgpy_nat",
    "wgpy_way",
    "wgpy_path",
    "wgpy_answer",
)
# Those that only a peer has.
OF_PEERS = ("wgpy_credential", "wgpy_path", "wgpy_answer")


def server(data: bytes) -> None:
    """The second byte is the size of the pieces in which the rest arrives."""
    size, stream = (data[0] or 256, data[1:]) if data else (1, b"")
    framer = Framer()
    for start in range(0, len(stream), size):
        for request in framer.feed(stream[start : start + size]):
            if isinstance(request, SetRequest):
                written = format_change(request.change)
                assert parse_change(written.split("\n")[1:-2]) == request.change


def client(data: bytes) -> None:
    try:
        state = parse_state(data.decode("utf-8", "replace"))
    except UapiError:
        return
    # A version and a data path are any text; what a daemon of ours says has no line feed in it.
    assert parse_state(format_state(state) + format_errno(0)) == state


def own_key(data: bytes) -> None:
    """The first byte chooses the key, the rest is its value."""
    if not data:
        return
    key = OWN_KEYS[data[0] % len(OWN_KEYS)]
    line = f"{key}=".encode() + data[1:].replace(b"\n", b" ") + b"\n"
    peer = b"public_key=" + b"ab" * 32 + b"\n"
    before = peer if key in OF_PEERS else b""
    server(b"\0set=1\n" + before + line + b"\n")
    client(before + line + b"errno=0\n\n")
    client(peer + line + b"errno=0\n\n")


MODES = (client, server, own_key)


def one_input(data: bytes) -> None:
    """What libFuzzer calls."""
    if data:
        MODES[data[0] % len(MODES)](data[1:])


def main() -> None:
    """Fuzz until libFuzzer's arguments say to stop."""
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
