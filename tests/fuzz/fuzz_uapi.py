"""A fuzz target for both sides of the userspace API.

    python tests/fuzz/fuzz_uapi.py -max_total_time=30

Needs the `fuzz` extra (atheris). Arguments are libFuzzer's. The first byte chooses: a connection's
bytes into the server's framer, cut where the input says; or an answer into the client. Only
UapiError may be raised, and whatever was understood must come back the same when it is written.
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


def one_input(data: bytes) -> None:
    """What libFuzzer calls."""
    if data:
        (server if data[0] & 1 else client)(data[1:])


def main() -> None:
    """Fuzz until libFuzzer's arguments say to stop."""
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
