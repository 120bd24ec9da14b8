"""A connection's bytes become requests, however they are cut."""

import errno
import itertools

from hypothesis import given
from hypothesis import strategies as st

from wgpy.device.uapi import DeviceChange, UapiError
from wgpy.device.uapi_codec import MAX_LINE_LENGTH
from wgpy.device.uapi_framing import BadRequest, Framer, GetRequest, Request, SetRequest
from wgpy.keys import PublicKey


def described(requests: list[Request]) -> list[object]:
    """The requests in a form that can be compared: errors by their number."""
    return [r.error.code if isinstance(r, BadRequest) else r for r in requests]


STREAM = (
    b"get=1\n\nset=1\nlisten_port=5\n\nset=1\n\nset=1\nfoo\nlisten_port=6\n\n"
    b"get=1\nx\n\nset=1\nfwmark=\xff\n\nget=1\n\n"
    b"get=1\nwgpy_peer=" + b"ab" * 32 + b"\n\nget=1\nwgpy_peer=ab\n\nget=1\n\n"
)
MEANING = [
    GetRequest(),
    SetRequest(DeviceChange(listen_port=5)),
    SetRequest(DeviceChange()),
    errno.EPROTO,
    errno.EINVAL,
    errno.EINVAL,
    GetRequest(),
    GetRequest(PublicKey(b"\xab" * 32)),
    errno.EINVAL,
    GetRequest(),
]


@given(st.lists(st.integers(0, len(STREAM))))
def test_where_the_bytes_are_cut_does_not_matter(cuts: list[int]) -> None:
    framer = Framer()
    requests: list[Request] = []
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(edges):
        requests += framer.feed(STREAM[start:end])
    assert described(requests) == MEANING
    assert not framer.in_request
    assert not framer.broken


def test_half_a_request_is_no_request() -> None:
    framer = Framer()
    assert framer.feed(b"set=1\nlisten_port=5\n") == []
    assert framer.in_request


def test_an_error_refuses_the_request_once_and_whole() -> None:
    framer = Framer()
    assert framer.feed(b"set=1\nfoo=1\n") == []
    assert framer.feed(b"foo=2\nlisten_port=5\n") == []
    (request,) = framer.feed(b"\n")
    assert isinstance(request, BadRequest)
    assert request.error.reason.startswith("line 2: ")


def test_another_protocol_ends_the_connection_without_a_word() -> None:
    for hello in (b"\n", b"get=2\n\n", b"foo=1\n", b"set=1\r\n\r\n", b"GET / HTTP/1.1\r\n"):
        framer = Framer()
        assert framer.feed(hello + b"get=1\n\n") == []
        assert framer.broken
        assert framer.feed(b"get=1\n\n") == []


def test_a_line_without_end_ends_the_connection_with_eio() -> None:
    framer = Framer()
    requests = framer.feed(b"set=1\n" + b"a" * (MAX_LINE_LENGTH + 1))
    assert described(requests) == [errno.EIO]
    assert framer.broken


def test_a_long_line_refuses_its_request() -> None:
    framer = Framer()
    requests = framer.feed(b"set=1\nfoo=" + b"a" * MAX_LINE_LENGTH + b"\n\nget=1\n\n")
    assert described(requests) == [errno.EIO, GetRequest()]


def test_one_peer_is_asked_for_once_and_alone() -> None:
    line = b"wgpy_peer=" + b"ab" * 32 + b"\n"
    for lines in (line + line, line + b"x=1\n", b"x" + line, b"peer=1\n", b"wgpy_peer=\n"):
        assert described(Framer().feed(b"get=1\n" + lines + b"\n")) == [errno.EINVAL]
    # However the bytes come.
    framer = Framer()
    assert framer.feed(b"get=1\n" + line) == []
    assert framer.feed(line) == []
    assert described(framer.feed(b"\n")) == [errno.EINVAL]


@given(
    st.lists(st.binary() | st.sampled_from([b"get=1\n", b"set=1\n", b"\n", b"a=b\n", b"=", b"a"]))
)
def test_no_bytes_raise(chunks: list[bytes]) -> None:
    framer = Framer()
    for chunk in chunks:
        for request in framer.feed(chunk):
            if isinstance(request, BadRequest):
                assert isinstance(request.error, UapiError)
